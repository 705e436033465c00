"""`mgtool infer`: pictures and questions -> an answers file."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mgtool.commands import console
from mgtool.commands.options import AllowFailures, Config, DryRun, Json, Overwrite, Quiet, allowed_failures, exit_code
from mgtool.errors import UsageError
from mgtool.records import Answer, Failure, dumps


class Dtype(StrEnum):
    """Number formats of the weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    auto = "auto"


def infer(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Pictures, questions, box files, tars, or -.")
    ],
    model: Annotated[Path, typer.Option("--model", help="A model's folder, as `mgtool import` writes it.")],
    out: Annotated[str, typer.Option("--out", metavar="FILE|-", help="Answers file, JSON lines; - for stdout.")],
    images: Annotated[str | None, typer.Option("--images", help="Folder that names of pictures start from.")] = None,
    boxes: Annotated[
        str | None,
        typer.Option("--boxes", metavar="PATH|off", help="Box file or folder; off for none. Else the samples' own."),
    ] = None,
    task: Annotated[
        str, typer.Option("--task", help="caption, vqa, or a benchmark: its prompt and limit of tokens.")
    ] = "",
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", metavar="TEMPLATE", help="What to ask: {question} and other fields are filled in."),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Limit of an answer [default: the task's, or 100].")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Most prompts decoded together.")] = 32,
    dtype: Annotated[
        Dtype | None, typer.Option("--dtype", help="Of the weights [default: float32 on a CPU, else auto].")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ..., or auto.")] = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Caption pictures and answer questions about them."""
    from mgtool.generation.prompts import Prompter

    allowed_failures(allow_failures, 0)
    if out == "-" and as_json:
        raise UsageError("--json and --out - both write to stdout: choose one")
    prompter = Prompter(task, prompt)
    wanted: dict[str, Any] = {
        "inputs": inputs,
        "images": images,
        "boxes": boxes,
        "model": model,
        "prompter": prompter,
        "max_new_tokens": max_new_tokens or prompter.max_new_tokens,
        "batch_size": batch_size,
    }
    if dry_run:
        _say_plan(wanted, out, as_json)
        return
    wanted |= _device_and_dtype(device, dtype)
    counts = _run(wanted, out, overwrite=overwrite, quiet=quiet)
    summary = {"out": out, **counts}
    console.summarize(summary, title="mgtool infer", as_json=as_json, quiet=quiet)
    raise typer.Exit(exit_code(counts["failed"], sum(counts.values()), allow_failures))


def _say_plan(wanted: dict[str, Any], out: str, as_json: bool) -> None:
    from mgtool import sources

    samples, failures = sources.count(sources.read_samples(wanted["inputs"], images=wanted["images"]))
    limits = {"max_new_tokens": wanted["max_new_tokens"], "batch_size": wanted["batch_size"]}
    plan = {"out": out, "samples": samples, "unreadable": failures, **limits}
    console.summarize(plan, title="mgtool infer would answer", as_json=as_json, quiet=False)


def _device_and_dtype(device: str, dtype: Dtype | None) -> dict[str, str]:
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    on_cpu = device.startswith("cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: torch finds no CUDA device here; --device cpu works everywhere")
    if dtype is None:
        dtype = Dtype.float32 if on_cpu else Dtype.auto
    if dtype is Dtype.auto:
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported() if on_cpu else torch.cuda.is_bf16_supported()
        dtype = Dtype.bfloat16 if fast else Dtype.float32 if on_cpu else Dtype.float16
    return {"device": device, "dtype": dtype.value}


def _run(wanted: dict[str, Any], out: str, *, overwrite: bool, quiet: bool) -> dict[str, int]:
    from mgtool import sources
    from mgtool.stages import infer as stage

    request = stage.Request(**wanted)
    with console.progress("answers", quiet=quiet) as advance:
        if out != "-":
            about = {"images": request.images, "batch_size": request.batch_size, "device": request.device}
            return stage.infer(request, Path(out), about=about, overwrite=overwrite, advance=advance)
        stream = _Stream()
        items = enumerate(sources.read_samples(request.inputs, images=request.images))
        stage.answer(request, items, 0, stream, advance)
        return stream.counts


class _Stream:
    """Answers on stdout; failures, which have no file then, on stderr."""

    def __init__(self) -> None:
        self.counts = {"answered": 0, "failed": 0}

    def write(self, position: int, result: Answer | Failure) -> None:
        if isinstance(result, Failure):
            self.counts["failed"] += 1
            console.say(dumps(result).decode())
            return
        self.counts["answered"] += 1
        sys.stdout.buffer.write(dumps(result) + b"\n")
        sys.stdout.buffer.flush()
