"""What is asked of which model; light to import, as `mgtool --help` reads the defaults here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgtool.errors import UsageError
from mgtool.files.local import refuse_url
from mgtool.files.remote import check_patterns
from mgtool.media.limits import MAX_PIXELS
from mgtool.runs.devices import Dtype
from mgtool.runs.ray_cluster import Engine

Quantization = Literal["8bit", "4bit"]
Side = Literal["left", "right"]
Explained = Literal["boxes"]
PromptStyle = Literal["mg-llava", "llava", "vlmevalkit"]
Backend = Literal["native", "vllm", "auto"]
ChosenBackend = Literal["native", "vllm"]
ONE_WAY = "each is a way to use several devices"


@dataclass(frozen=True, kw_only=True)
class InferOptions:
    """What `mgtool infer` is asked for.

    Attributes:
        model: the model's folder; a string may be the name of a shipped one, ``tiny``, or ``hf:`` and a folder, or
            ``owner/name`` of the hub, of any image-text-to-text model of transformers.
        images: where relative names of pictures start.
        allow_absolute: whether a record may name absolute paths of pictures and videos.
        allow_remote: which plain URLs a record may name: each ``SCHEME[:HOST-PATTERN]`` of https, s3, gs or hf.
        allow_missing: go on where `images` is not given and the first hundred items all miss their pictures.
        boxes: a box file or folder; ``off`` for none; None for those that the samples carry.
        box_format: what a box file's numbers are, as `mgtool.boxes.coordinates.named` takes it; empty for what the kind
            of file says.
        task: ``caption``, ``vqa``, or a benchmark: its prompt and limit of tokens; empty for questions as they are.
        prompt: a template in place of the task's; ``{question}`` and fields of the sample's metadata are filled in.
        prompts: whose words a benchmark is asked in: MG-LLaVA's own evaluation's, LLaVA's or VLMEvalKit's.
        system: text before the first turn; None for the sample's own.
        max_new_tokens: limit of an answer; None for the task's, or 100.
        temperature: of sampling; 0 takes the likeliest token.
        top_p: sample among the likeliest tokens that have this probability together.
        seed: of sampling; together with a sample's id and the number of its answer it fixes the answer.
        num_samples: answers to each question.
        stop: texts that end an answer, and are not part of it.
        choices: options with commas between them; the likeliest is the answer, all are scored.
        yes_no: the same as ``Yes,No``.
        logprobs: keep the log-probability of each token.
        explain: ``boxes`` for how an answer's log-probability changes without each object token; None for nothing.
        truncate: the side from which a question is cut where the prompt is too long; None for a failure.
        batch_size: most prompts that are decoded together; None for what the device is good for.
        dtype: of the weights; None for float32 on a CPU and ``auto`` elsewhere.
        device: as torch names it, or ``auto``; several with commas between them are a process each.
        quantize: the language model's weights in 8 or 4 bits.
        device_map: ``auto`` for one model over several devices.
        tensor_parallel: processes that share every matrix.
        deterministic: every prompt is computed alone, with torch's deterministic algorithms.
        backend: what runs the language model: mgtool itself, vLLM, or ``auto`` for vLLM where it is installed, has the
            language model and there is a GPU. vLLM takes models of `mgtool import` alone.
        workers: processes that prepare pictures, for each device; with 0, threads; None for what suits the device.
        cache: folder of answers of earlier runs.
        profile: file for a trace of the first steps, as browsers show it.
        max_pixels: width times height over which a picture or video is a failure, before it is decoded.
        rank: which share of the samples this run answers, from 0; ``any`` for whichever are free, ``slurm`` or
            ``torchrun`` to read both numbers.
        world_size: number of shares.
        engine: ``ray`` makes every share a task of a Ray cluster and joins them.
        ray_address: of the cluster; None for Ray's own search.
        num_actors: most processes of the cluster that work at once; None for as many as there is room for.
        gpus_per_actor: of each, parts of one allowed; None for `tensor_parallel` where there are any.
        cpus_per_actor: cores of each; None for one beside a GPU, else all of the smallest node.
        ray_runtime_env: JSON file of the environment that Ray makes for them; None for that of the nodes.

    Raises:
        UsageError: options that do not go together.
    """

    model: Path
    images: str | None = None
    allow_absolute: bool = False
    allow_remote: list[str] | None = None
    allow_missing: bool = False
    boxes: str | None = None
    box_format: str = ""
    task: str = ""
    prompt: str | None = None
    prompts: PromptStyle = "mg-llava"
    system: str | None = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    num_samples: int = 1
    stop: list[str] | None = None
    choices: str | None = None
    yes_no: bool = False
    logprobs: bool = False
    explain: Explained | None = None
    truncate: Side | None = None
    batch_size: int | None = None
    dtype: Dtype | None = None
    device: str = "auto"
    quantize: Quantization | None = None
    device_map: str | None = None
    tensor_parallel: int = 1
    deterministic: bool = False
    backend: Backend = "native"
    workers: int | None = None
    cache: Path | None = None
    profile: Path | None = None
    max_pixels: int = MAX_PIXELS
    rank: str = "0"
    world_size: int = 1
    engine: Engine = "local"
    ray_address: str | None = None
    num_actors: int | None = None
    gpus_per_actor: float | None = None
    cpus_per_actor: float | None = None
    ray_runtime_env: Path | None = None

    def __post_init__(self) -> None:
        self._as_declared()
        check_patterns(self.allow_remote)
        from mgtool.boxes import coordinates

        coordinates.named(self.box_format)
        if self.max_pixels < 1:
            raise UsageError("max_pixels", f"{self.max_pixels}: give a number from 1 on")
        if self.choices is not None and self.yes_no:
            raise UsageError("yes_no", "and `choices` both name the options: choose one")
        several = self.several_devices
        refuse_together(several, ONE_WAY)
        if self.profile is not None:
            self._check_profile(self.profile)
        for name in ("`device_map`", "`tensor_parallel`"):
            given = {"`quantize`": self.quantize is not None, name: several[name]}
            refuse_together(given, "quantised weights stay on one device")
        if self.device_map not in (None, "auto"):
            raise UsageError("device_map", f"{self.device_map}: only auto is understood")

        if self.backend == "vllm":
            refuse_together({"`backend` vllm": True, **native_only(self)}, "it is for `backend` native")

    def _check_profile(self, path: Path) -> None:
        refuse_url("profile", path)
        if path.is_dir():
            raise UsageError("profile", f"{path}: is a folder; give a file, as in trace.json")
        elsewhere = {"`engine` ray": self.engine == "ray", **self.several_devices}
        for name in ("`engine` ray", "`device` with several names", "`tensor_parallel`"):
            refuse_together({"`profile`": True, name: elsewhere[name]}, "a trace is of one process")

    @property
    def several_devices(self) -> dict[str, bool]:
        """The ways to use several devices, in words, and whether each is taken."""
        return {
            "`device` with several names": "," in self.device,
            "`device_map`": self.device_map is not None,
            "`tensor_parallel`": self.tensor_parallel > 1,
        }

    def _as_declared(self) -> None:
        """Strings and paths are taken for each other, as notebooks write them."""
        for name, kind in (("model", _folder), ("cache", Path), ("profile", Path), ("images", str), ("boxes", str)):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else kind(given))


def _folder(given: Path | str) -> Path:
    if isinstance(given, Path):
        return given
    from mgtool.inputs.model_folders import model_folder

    return model_folder(given)


def native_only(options: InferOptions) -> dict[str, bool]:
    """What is asked for that mgtool's own engine alone does: names of options, in backticks."""
    given = {
        "explain": options.explain is not None,
        "quantize": options.quantize is not None,
        "device_map": options.device_map is not None,
        "tensor_parallel": options.tensor_parallel > 1,
        "deterministic": options.deterministic,
    }
    return {f"`{name}`": True for name, is_given in given.items() if is_given}


def refuse_together(given: Mapping[str, bool], why: str) -> None:
    """Refuse options that do not go together.

    Args:
        given: whether each is given, by what it is called.
        why: not more than one of them may be.

    Raises:
        UsageError: naming the first two that are given.
    """
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise UsageError("", f"{names[0]} and {names[1]} do not go together: {why}")
