"""`mgtool infer`: pictures and questions -> an answers file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from mgtool.commands import console, summaries
from mgtool.commands import infer_options as options
from mgtool.commands.exit_codes import allowed_failures, exit_code
from mgtool.commands.options import (
    AllowAbsolute,
    AllowFailures,
    AllowRemote,
    BoxFormat,
    Config,
    CpusPerActor,
    DryRun,
    EngineOption,
    GpusPerActor,
    Json,
    MaxPixels,
    NumActors,
    Overwrite,
    Quiet,
    Rank,
    RayAddress,
    RayRuntimeEnv,
    Strict,
    Tmp,
    Wait,
    WorldSize,
    asked,
)
from mgtool.inference.options import InferOptions

if TYPE_CHECKING:
    from mgtool.records import Answer, Failure


def infer(
    context: typer.Context,
    inputs: options.Inputs,
    model: options.Model,
    out: options.Out = None,
    images: options.Images = InferOptions.images,
    allow_absolute: AllowAbsolute = InferOptions.allow_absolute,
    allow_remote: AllowRemote = InferOptions.allow_remote,
    boxes: options.Boxes = InferOptions.boxes,
    box_format: BoxFormat = InferOptions.box_format,
    task: options.Task = InferOptions.task,
    prompt: options.Prompt = InferOptions.prompt,
    prompts: options.Prompts = InferOptions.prompts,
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
    explain: options.Explain = InferOptions.explain,
    truncate: options.Truncate = InferOptions.truncate,
    batch_size: options.BatchSize = InferOptions.batch_size,
    dtype: options.DtypeOption = InferOptions.dtype,
    device: options.Device = InferOptions.device,
    quantize: options.Quantize = InferOptions.quantize,
    device_map: options.DeviceMap = InferOptions.device_map,
    tensor_parallel: options.TensorParallel = InferOptions.tensor_parallel,
    deterministic: options.Deterministic = InferOptions.deterministic,
    backend: options.BackendOption = InferOptions.backend,
    workers: options.Workers = InferOptions.workers,
    check_parity: options.CheckParity = 0,
    unordered: options.Unordered = False,
    cache: options.Cache = InferOptions.cache,
    profile: options.Profile = InferOptions.profile,
    max_pixels: MaxPixels = InferOptions.max_pixels,
    rank: Rank = InferOptions.rank,
    world_size: WorldSize = InferOptions.world_size,
    engine: EngineOption = InferOptions.engine,
    ray_address: RayAddress = InferOptions.ray_address,
    num_actors: NumActors = InferOptions.num_actors,
    gpus_per_actor: GpusPerActor = InferOptions.gpus_per_actor,
    cpus_per_actor: CpusPerActor = InferOptions.cpus_per_actor,
    ray_runtime_env: RayRuntimeEnv = InferOptions.ray_runtime_env,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    tmp: Tmp = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
    allow_failures: AllowFailures = "0",
    strict: Strict = False,
) -> None:
    """Caption pictures and answer questions about them."""
    allowed_failures(allow_failures, 0)
    options.check_output(out, as_json=as_json, unordered=unordered, parity=check_parity)
    wanted = asked(InferOptions, context)
    if check_parity and not dry_run:
        _compare(inputs, wanted, check_parity, as_json)
        return
    if dry_run:
        ended = _say_plan(inputs, wanted, out, as_json)
    elif out == "-":
        ended = _print(inputs, wanted, unordered=unordered, quiet=quiet)
    else:
        ended = _write(inputs, str(out), wanted, overwrite=overwrite, wait=wait, quiet=quiet, as_json=as_json)
    unused = ended.left_out if strict else None
    raise typer.Exit(exit_code(ended.failed, ended.items, allow_failures, unused=unused))


class _Ended(NamedTuple):
    """What the exit code depends on: numbers of failures and of samples, and what else the inputs hold."""

    failed: int
    items: int
    left_out: Mapping[str, Any]


def _say_plan(inputs: list[str], wanted: InferOptions, out: str | None, as_json: bool) -> _Ended:
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
        "left_out": found.left_out,
    }
    summaries.summarize(summary, title="mgtool infer would answer", as_json=as_json, quiet=False)
    return _Ended(0, 0, found.left_out)


def _compare(inputs: list[str], wanted: InferOptions, count: int, as_json: bool) -> None:
    from mgtool.stages import infer as stage

    found = stage.check_parity(inputs, wanted, count)
    summaries.summarize(found.to_dict(), title="batched against alone", as_json=as_json, quiet=False)


def _write(
    inputs: list[str], out: str, wanted: InferOptions, *, overwrite: bool, wait: bool, quiet: bool, as_json: bool
) -> _Ended:
    """Into a file."""
    with console.progress("shares" if wanted.engine == "ray" else "answers", quiet=quiet) as advance:
        from mgtool.stages import infer as stage

        done = stage.infer(inputs, out, wanted, overwrite=overwrite, wait=wait, advance=advance)
    written = out if done.out == Path(out) else str(done.out)
    counts: dict[str, Any] = {"answered": done.answered, "failures": done.failed, "new_tokens": done.new_tokens}
    counts |= {"left_out": done.left_out} if done.left_out else {}
    counts |= {"waiting_for": [share.rank for share in done.missing]} if done.missing else {}
    counts |= summaries.by_node(done.nodes, as_json=as_json)
    summary, ended, then = (
        {"out": written, **counts, "backend": done.backend, **_stages(done.stages)},
        done.answered + done.failed,
        _next(written, wanted),
    )
    took = None if done.had_finished else ended
    summaries.summarize(summary, title="mgtool infer", as_json=as_json, quiet=quiet, done=took, then=then)
    summaries.show_nothing_left(written, done.had_finished, quiet=quiet)
    summaries.show_failures(done.failed, done.failures, quiet=quiet)
    summaries.show_missing(done.missing, quiet=quiet)
    return _Ended(done.failed, ended, done.left_out)


def _stages(found: Mapping[str, Any]) -> dict[str, Any]:
    """Where the time went, in a summary's words."""
    names = {"seconds": "stage_seconds", "per_second": "stage_rates"}
    return {names.get(name, name): value for name, value in found.items()}


def _next(answers: str, wanted: InferOptions) -> str:
    """How to score the answers."""
    from mgtool.inference.prompts import TASKS

    benchmark = wanted.task if wanted.task not in ("", *TASKS) else "custom"
    shown = ("--images", wanted.images) if wanted.images else ()
    scores = Path("scores") if "://" in answers else Path(answers).parent / "scores"
    truth = ("--benchmark", benchmark, "--ground-truth", "FILE", *shown, "--out", scores)
    return summaries.command("mgtool", "eval", answers, *truth)


def _print(inputs: list[str], wanted: InferOptions, *, unordered: bool, quiet: bool) -> _Ended:
    """Answers on stdout; failures, which have no file then, on stderr."""
    from mgtool.records import Failure, LeftOut
    from mgtool.stages import infer as stage

    answered, failed, left_out = 0, 0, LeftOut()
    with console.progress("answers", quiet=quiet, streams=True) as advance:
        stream = stage.answers(inputs, wanted, unordered=unordered, advance=advance, left_out=left_out)
        with contextlib.closing(stream) as records:
            for record in records:
                _print_one(record)
                failed += isinstance(record, Failure)
                answered += not isinstance(record, Failure)
    answered //= wanted.num_samples
    counts: dict[str, Any] = {"answered": answered, "failures": failed}
    counts |= {"left_out": left_out.summary()} if left_out.summary() else {}
    summaries.summarize({"out": "-", **counts}, title="mgtool infer", as_json=False, quiet=quiet)
    return _Ended(failed, answered + failed, left_out.summary())


def _print_one(record: Answer | Failure) -> None:
    from mgtool.records import Answer, dumps

    if isinstance(record, Answer):
        console.put(dumps(record))
    else:
        console.say(dumps(record).decode())
