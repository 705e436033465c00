"""`mgtool infer`: pictures and questions -> an answers file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mgtool.commands import console
from mgtool.commands import infer_options as options
from mgtool.commands.options import (
    AllowFailures,
    Config,
    DryRun,
    EngineOption,
    Json,
    Model,
    Overwrite,
    Quiet,
    Rank,
    RayAddress,
    WorldSize,
    allowed_failures,
    exit_code,
)
from mgtool.errors import UsageError
from mgtool.runs.shares import Share, share_of
from mgtool.runs.workers import default_workers

if TYPE_CHECKING:
    from mgtool.records import Answer, Failure


def infer(
    context: typer.Context,
    inputs: options.Inputs,
    model: Model,
    out: options.Out = None,
    images: options.Images = None,
    boxes: options.Boxes = None,
    task: options.Task = "",
    prompt: options.Prompt = None,
    system: options.System = None,
    max_new_tokens: options.MaxNewTokens = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    num_samples: options.NumSamples = 1,
    stop: options.Stop = None,
    choices: options.Choices = None,
    yes_no: options.YesNo = False,
    logprobs: options.Logprobs = False,
    truncate: options.Truncate = None,
    batch_size: options.BatchSize = None,
    dtype: options.DtypeOption = None,
    device: options.Device = "auto",
    quantize: options.Quantize = None,
    device_map: options.DeviceMap = None,
    tensor_parallel: options.TensorParallel = 1,
    deterministic: options.Deterministic = False,
    workers: options.Workers = None,
    check_parity: options.CheckParity = 0,
    unordered: options.Unordered = False,
    cache: options.Cache = None,
    rank: Rank = "0",
    world_size: WorldSize = 1,
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Caption pictures and answer questions about them."""
    given = dict(locals())
    allowed_failures(allow_failures, 0)
    wanted = _wanted(given)
    if dry_run:
        _say_plan(wanted, out, device, dtype, as_json)
        return
    wanted |= _device_and_dtype(device, dtype)
    wanted["workers"] = options.workers_of(workers, _processes(wanted), default_workers())
    if check_parity:
        _compare(wanted, check_parity, as_json)
        return
    name = options.share_name(str(out), wanted["share"])
    counts = _run(wanted, name, overwrite=overwrite, quiet=quiet, in_order=not unordered)
    _tell(counts, name, wanted["share"], as_json=as_json, quiet=quiet)
    raise typer.Exit(exit_code(counts["failed"], counts["answered"] + counts["failed"], allow_failures))


_AS_GIVEN = (
    "inputs",
    "images",
    "boxes",
    "model",
    "batch_size",
    "device_map",
    "tensor_parallel",
    "deterministic",
    "cache",
)


def _wanted(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request, but for its device and dtype."""
    from mgtool.inference.decoding import Decoding
    from mgtool.inference.prompts import Prompter

    share = share_of(given["rank"], given["world_size"])
    names = {name: given[name] for name in ("out", "as_json", "unordered", "inputs")}
    options.check_output(**names, parity=given["check_parity"], share=share)
    prompter = Prompter(given["task"], given["prompt"], given["system"])
    decoding = Decoding(
        temperature=given["temperature"],
        top_p=given["top_p"],
        seed=given["seed"],
        samples=given["num_samples"],
        stop=tuple(given["stop"] or ()),
        choices=options.chosen(given["choices"], given["yes_no"]),
        logprobs=given["logprobs"],
    )
    _check_devices(given, decoding)
    return {
        **{name: given[name] for name in _AS_GIVEN},
        "prompter": prompter,
        "max_new_tokens": given["max_new_tokens"] or prompter.max_new_tokens,
        "decoding": decoding,
        "truncate": given["truncate"].value if given["truncate"] else "",
        "quantize": given["quantize"].value if given["quantize"] else "",
        "share": share,
    }


def _check_devices(given: dict[str, Any], decoding: Any) -> None:
    several = {
        "--device with several names": "," in given["device"],
        "--device-map": given["device_map"] is not None,
        "--tensor-parallel": given["tensor_parallel"] > 1,
    }
    options.refuse_together(several, "each is a way to use several devices")
    for name in ("--device-map", "--tensor-parallel"):
        is_given = {"--quantize": given["quantize"] is not None, name: several[name]}
        options.refuse_together(is_given, "quantised weights stay on one device")
    if given["check_parity"]:
        drawn = {"--temperature": decoding.temperature > 0, "--choices": bool(decoding.choices)}
        for name, is_given in {**drawn, **several}.items():
            options.refuse_together(
                {"--check-parity": True, name: is_given}, "it compares greedy answers on one device"
            )
    if given["device_map"] not in (None, "auto"):
        raise UsageError("device_map", f"{given['device_map']}: only auto is understood")


def _say_plan(wanted: dict[str, Any], out: str | None, device: str, dtype: options.Dtype | None, as_json: bool) -> None:
    from mgtool.inputs import sources

    samples, failures = sources.count(sources.read_samples(wanted["inputs"], images=wanted["images"]))
    limits = {"max_new_tokens": wanted["max_new_tokens"], "batch_size": wanted["batch_size"] or "auto"}
    numbers = _planned_dtype(device, dtype)
    takes = {"dtype": numbers, "memory_gb": _memory(wanted, numbers)}
    plan = {"out": out, "samples": samples, "unreadable": failures, **limits, **takes}
    console.summarize(plan, title="mgtool infer would answer", as_json=as_json, quiet=False)


def _memory(wanted: dict[str, Any], dtype: str) -> dict[str, float]:
    """Gigabytes of the weights, and of a thousand tokens' keys and values."""
    import torch

    from mgtool.inference import memory
    from mgtool.inputs.model_folders import check_model
    from mgtool.model import MGLlavaConfig

    check_model(wanted["model"])
    config, number = MGLlavaConfig.from_pretrained(wanted["model"]), getattr(torch, dtype)
    weights = memory.weight_bytes(config, number, wanted["quantize"])
    tokens = 1000 * memory.token_bytes(config.text_config, number)
    return {"weights": round(weights / 1e9, 6), "thousand_tokens": round(tokens / 1e9, 6)}


def _planned_dtype(device: str, dtype: options.Dtype | None) -> str:
    """The number format; that of today's GPUs where one is asked for that is not in this machine."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        return "bfloat16" if dtype in (None, options.Dtype.auto) else dtype.value
    return _device_and_dtype(device, dtype)["dtype"]


def _device_and_dtype(device: str, dtype: options.Dtype | None) -> dict[str, str]:
    import torch

    from mgtool.runs import devices

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    names = device.split(",")
    kinds = {name.partition(":")[0] for name in names}
    if not kinds <= {"cpu", "cuda"} or len(kinds) > 1:
        raise UsageError(
            "device", f"{device}: give cpu, cuda, cuda:1, auto, or several of one kind, as in cuda:0,cuda:1"
        )
    if kinds == {"cuda"} and not torch.cuda.is_available():
        raise UsageError("device", f"{device}: torch finds no CUDA device here; `device` cpu works everywhere")
    return {"device": device, "dtype": devices.choose(dtype and dtype.value, names[0])}


def _processes(wanted: dict[str, Any]) -> list[str]:
    """The device of each process that answers."""
    names: list[str] = wanted["device"].split(",")
    return names * int(wanted["tensor_parallel"])


def _compare(wanted: dict[str, Any], count: int, as_json: bool) -> None:
    from mgtool.stages import infer as stage

    parity = stage.check_parity(stage.Request(**wanted), count)
    console.summarize(parity.to_dict(), title="batched against alone", as_json=as_json, quiet=False)


def _run(wanted: dict[str, Any], out: str, *, overwrite: bool, quiet: bool, in_order: bool) -> dict[str, int]:
    from mgtool.stages import infer as stage

    request = stage.Request(**wanted)
    with console.progress("answers", quiet=quiet) as advance:
        if out != "-":
            return stage.infer(request, Path(out), overwrite=overwrite, advance=advance)
        stream = _Stream()
        stage.answer(request, stage.numbered(request), stream, advance, in_order=in_order)
        return stream.counts


def _tell(counts: dict[str, int], out: str, share: Share, *, as_json: bool, quiet: bool) -> None:
    console.summarize({"out": out, **counts}, title="mgtool infer", as_json=as_json, quiet=quiet)
    if out != "-":
        console.show_failures(counts["failed"], _failures_path(out, share), quiet=quiet)


def _failures_path(out: str, share: Share) -> Path:
    from mgtool.inference.output import AnswersFile

    return AnswersFile(Path(out), is_share=not share.is_all).failures_path


class _Stream:
    """Answers on stdout; failures, which have no file then, on stderr."""

    def __init__(self) -> None:
        self.counts = {"answered": 0, "failed": 0}

    def write(self, position: int, result: tuple[Answer, ...] | Failure) -> None:
        from mgtool.records import dumps

        if not isinstance(result, tuple):
            self.counts["failed"] += 1
            console.say(dumps(result).decode())
            return
        self.counts["answered"] += 1
        sys.stdout.buffer.write(b"".join(dumps(answer) + b"\n" for answer in result))
        sys.stdout.buffer.flush()
