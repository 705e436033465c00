"""`mgtool infer`: pictures and questions -> an answers file."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mgtool.commands import console
from mgtool.commands import infer_options as options
from mgtool.commands.options import (
    AllowAbsolute,
    AllowFailures,
    AllowRemote,
    Config,
    DryRun,
    EngineOption,
    Json,
    Model,
    Overwrite,
    Quiet,
    Rank,
    RayAddress,
    Wait,
    WorldSize,
    allowed_failures,
    asked,
    exit_code,
)
from mgtool.inference.options import InferOptions

if TYPE_CHECKING:
    from mgtool.records import Answer, Failure


def infer(
    context: typer.Context,
    inputs: options.Inputs,
    model: Model,
    out: options.Out = None,
    images: options.Images = InferOptions.images,
    allow_absolute: AllowAbsolute = InferOptions.allow_absolute,
    allow_remote: AllowRemote = InferOptions.allow_remote,
    boxes: options.Boxes = InferOptions.boxes,
    task: options.Task = InferOptions.task,
    prompt: options.Prompt = InferOptions.prompt,
    system: options.System = InferOptions.system,
    max_new_tokens: options.MaxNewTokens = InferOptions.max_new_tokens,
    temperature: options.Temperature = InferOptions.temperature,
    top_p: options.TopP = InferOptions.top_p,
    seed: options.Seed = InferOptions.seed,
    num_samples: options.NumSamples = InferOptions.num_samples,
    stop: options.Stop = InferOptions.stop,
    choices: options.Choices = InferOptions.choices,
    yes_no: options.YesNo = InferOptions.yes_no,
    logprobs: options.Logprobs = InferOptions.logprobs,
    truncate: options.Truncate = InferOptions.truncate,
    batch_size: options.BatchSize = InferOptions.batch_size,
    dtype: options.DtypeOption = InferOptions.dtype,
    device: options.Device = InferOptions.device,
    quantize: options.Quantize = InferOptions.quantize,
    device_map: options.DeviceMap = InferOptions.device_map,
    tensor_parallel: options.TensorParallel = InferOptions.tensor_parallel,
    deterministic: options.Deterministic = InferOptions.deterministic,
    workers: options.Workers = InferOptions.workers,
    check_parity: options.CheckParity = 0,
    unordered: options.Unordered = False,
    cache: options.Cache = InferOptions.cache,
    rank: Rank = InferOptions.rank,
    world_size: WorldSize = InferOptions.world_size,
    engine: EngineOption = InferOptions.engine,
    ray_address: RayAddress = InferOptions.ray_address,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Caption pictures and answer questions about them."""
    allowed_failures(allow_failures, 0)
    options.check_output(out, as_json=as_json, unordered=unordered, parity=check_parity)
    wanted = asked(InferOptions, context)
    if dry_run:
        _say_plan(inputs, wanted, out, as_json)
    elif check_parity:
        _compare(inputs, wanted, check_parity, as_json)
    elif out == "-":
        failed, total = _print(inputs, wanted, unordered=unordered, quiet=quiet)
        raise typer.Exit(exit_code(failed, total, allow_failures))
    else:
        failed, total = _write(inputs, str(out), wanted, overwrite=overwrite, wait=wait, quiet=quiet, as_json=as_json)
        raise typer.Exit(exit_code(failed, total, allow_failures))


def _say_plan(inputs: list[str], wanted: InferOptions, out: str | None, as_json: bool) -> None:
    from mgtool.stages import infer as stage

    found = stage.plan(inputs, wanted, out=out or "")
    takes = {"weights": found.weight_bytes, "thousand_tokens": 1000 * found.token_bytes}
    summary = {
        "out": out,
        "samples": found.samples,
        "unreadable": found.unreadable,
        "max_new_tokens": found.max_new_tokens,
        "batch_size": found.batch_size or "auto",
        "dtype": found.dtype,
        "memory_gb": {name: round(size / 1e9, 6) for name, size in takes.items()},
    }
    console.summarize(summary, title="mgtool infer would answer", as_json=as_json, quiet=False)


def _compare(inputs: list[str], wanted: InferOptions, count: int, as_json: bool) -> None:
    from mgtool.stages import infer as stage

    found = stage.check_parity(inputs, wanted, count)
    console.summarize(found.to_dict(), title="batched against alone", as_json=as_json, quiet=False)


def _write(
    inputs: list[str], out: str, wanted: InferOptions, *, overwrite: bool, wait: bool, quiet: bool, as_json: bool
) -> tuple[int, int]:
    """Into a file; numbers of failures and of samples."""
    from mgtool.stages import infer as stage

    with console.progress("shares" if wanted.engine == "ray" else "answers", quiet=quiet) as advance:
        done = stage.infer(inputs, out, wanted, overwrite=overwrite, wait=wait, advance=advance)
    written = out if done.out == Path(out) else str(done.out)
    counts = {"answered": done.answered, "failures": done.failed, "new_tokens": done.new_tokens}
    waiting = {"waiting_for": [share.rank for share in done.missing]} if done.missing else {}
    console.summarize({"out": written, **counts, **waiting}, title="mgtool infer", as_json=as_json, quiet=quiet)
    console.show_failures(done.failed, done.failures, quiet=quiet)
    console.show_missing(done.missing, quiet=quiet)
    return done.failed, done.answered + done.failed


def _print(inputs: list[str], wanted: InferOptions, *, unordered: bool, quiet: bool) -> tuple[int, int]:
    """Answers on stdout; failures, which have no file then, on stderr. Numbers of failures and of samples."""
    from mgtool.records import Failure
    from mgtool.stages import infer as stage

    answered = failed = 0
    with console.progress("answers", quiet=quiet) as advance:
        stream = stage.answers(inputs, wanted, unordered=unordered, advance=advance)
        with contextlib.closing(stream) as records:
            for record in records:
                _print_one(record)
                failed += isinstance(record, Failure)
                answered += not isinstance(record, Failure)
    answered //= wanted.num_samples
    counts = {"answered": answered, "failures": failed}
    console.summarize({"out": "-", **counts}, title="mgtool infer", as_json=False, quiet=quiet)
    return failed, answered + failed


def _print_one(record: Answer | Failure) -> None:
    from mgtool.records import Answer, dumps

    if isinstance(record, Answer):
        sys.stdout.buffer.write(dumps(record) + b"\n")
        sys.stdout.buffer.flush()
    else:
        console.say(dumps(record).decode())
