"""Samples -> answers, in the order of the input, whatever the batches and devices were."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mgtool.boxes import coordinates
from mgtool.boxes.lookup import opened_boxes
from mgtool.errors import MgtoolError, UsageError
from mgtool.files.lock import one_share
from mgtool.inference import memory, parity, peaks
from mgtool.inference.estimate import InferenceEstimate
from mgtool.inference.loading import kept_model, load_config
from mgtool.inference.options import InferOptions, refuse_together
from mgtool.inference.output import AnswersFile, InOrder, Ready, Writer, join, read_by, refuse_target, share_file, tidy
from mgtool.inference.parity import Parity
from mgtool.inference.pipeline import Items, Results, answered
from mgtool.inference.plan import InferencePlan
from mgtool.inference.replicas import answer_on_devices
from mgtool.inference.retrying import may_be_mended, retry
from mgtool.inference.shared_output import SharedAnswers
from mgtool.inference.stage_times import StageTimes, for_device
from mgtool.inputs import sources
from mgtool.inputs.fingerprints import HashedStdin
from mgtool.inputs.model_folders import FOREIGN, check_config, check_model
from mgtool.records import Advance, Answer, Failure, Inputs, LeftOut, input_names
from mgtool.report.html import summary_table
from mgtool.runs import progress, run_file
from mgtool.runs.claims import do_shares
from mgtool.runs.ray_cluster import LOCAL, Cluster, check_engine, run_shares
from mgtool.runs.ray_nodes import Needs, NodeWork, done_here
from mgtool.runs.remote_output import place_of, refresh, taking_part, writing
from mgtool.runs.run_file import Run
from mgtool.runs.shares import ALL, Share, check_share, share_of


@dataclass(frozen=True)
class Inferred:
    """What became of a run.

    Attributes:
        out: the answers file, or its URL; of a share, its own.
        answered: samples with answers.
        failed: samples without.
        new_tokens: that the run made.
        failures: the file that lists the failed samples, if there are any.
        left_out: what else the inputs and the box file hold: count and examples by reason.
        missing: shares that are not there yet; the rank that ends last joins all into one file.
        backend: what ran the language model.
        stages: seconds by stage, and what was done a second; empty where the run was finished before.
        nodes: samples, and samples a second, that this run did on each node of a cluster.
        had_finished: whether the file was complete before.
    """

    out: Path | str
    answered: int
    failed: int
    new_tokens: int
    failures: Path | str
    left_out: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[Share, ...] = ()
    backend: str = InferOptions.backend
    stages: Mapping[str, Any] = field(default_factory=dict, compare=False)
    nodes: Mapping[str, Mapping[str, float]] = field(default_factory=dict, compare=False)
    had_finished: bool = field(default=False, compare=False)

    def _repr_html_(self) -> str:
        told = {"answers": self.out, "answered": self.answered, "failed": self.failed, "new tokens": self.new_tokens}
        return summary_table(told)


def infer(
    inputs: Inputs,
    out: str | Path,
    options: InferOptions,
    *,
    overwrite: bool = False,
    wait: bool = False,
    advance: Advance = lambda count: None,
) -> Inferred:
    """Answer everything into a file, going on where an earlier run stopped.

    Of a finished run those failures are asked again whose cause may be gone, as of a picture that was missing.

    Args:
        inputs: pictures, questions, box files, tars, or ``-`` for stdin; a path alone is one input.
        out: the answers file, or a URL of one in a store; a share of a run writes one of its own beside it.
        options: what is asked of which model.
        overwrite: start afresh.
        wait: for another run that writes to `out` to end, instead of refusing.
        advance: told of samples that are done; on a Ray cluster, of shares.

    Raises:
        UsageError: options that do not go together, or that this machine cannot follow.
        InputError: no model, or an input that cannot be used as a whole.
        ResumeError: the file on disk is of another run.
        OutputError: `out` is a folder, an input, or a file that something else wrote and that may not be replaced; it
            cannot be written, or another run writes it.
    """
    _check(inputs, options, out)
    on_ray, share = options.engine == "ray", share_of(options.rank, options.world_size)
    refuse_target(Path(out), read_by(inputs, options))
    with writing(out, is_file=True, share="" if on_ray or share.is_all else share.name, wait=wait) as file:
        if on_ray:
            inferred = _on_ray(inputs, file, options, overwrite=overwrite, advance=advance)
        else:
            plan = InferencePlan.of(inputs, options)
            work = _into_file if plan.share.is_all else _into_shares
            inferred = replace(work(plan, file, overwrite=overwrite, advance=advance), backend=plan.backend)
    return inferred if file == Path(out) else _told_of(str(out), inferred)


def answers(
    inputs: Inputs,
    options: InferOptions,
    *,
    unordered: bool = False,
    advance: Advance = lambda count: None,
    left_out: LeftOut | None = None,
) -> Generator[Answer | Failure]:
    """Answers, and failures where there is none, as they are decoded; closing the stream ends the decoding.

    Args:
        inputs: as of `infer`.
        options: what is asked of which model.
        unordered: as they are final; else in the order of the input.
        advance: told of samples that are done.
        left_out: told of what the inputs and the box file hold that is not used.

    Raises:
        UsageError, InputError: as `infer`.
    """
    _check(inputs, options, "-")
    return _stream(InferencePlan.of(inputs, options), unordered=unordered, advance=advance, left_out=left_out)


def check_parity(inputs: Inputs, options: InferOptions, count: int) -> Parity:
    """Answer `count` samples together and each alone, and compare; errors as of `infer`."""
    _check(inputs, options, "")
    sampled = {"`temperature`": options.temperature > 0, "`choices`": bool(options.choices or options.yes_no)}
    for name, is_given in {**sampled, **options.several_devices}.items():
        refuse_together({"`check_parity`": True, name: is_given}, "it compares greedy answers on one device")
    plan = InferencePlan.of(inputs, options)
    with opened_boxes(plan.boxes, coordinates.named(options.box_format)) as boxes:
        return parity.check_parity(plan, plan.numbered(), boxes, count)


def plan(inputs: Inputs, options: InferOptions, *, out: str | Path = "") -> InferenceEstimate:
    """What a run would take, perhaps on another machine; no weight is loaded. Errors as of `infer`."""
    _check(inputs, options, out)
    plan = InferencePlan.of(inputs, options, is_here=False)
    left_out = LeftOut()
    samples, unreadable = sources.count(plan.read_samples(left_out=left_out))
    check_config(plan.model, takes_foreign=True)
    config, number = load_config(plan), getattr(torch, plan.dtype)
    return InferenceEstimate(
        samples=samples,
        unreadable=unreadable,
        max_new_tokens=plan.max_new_tokens,
        batch_size=options.batch_size,
        dtype=plan.dtype,
        weight_bytes=memory.weight_bytes(config, number, options.quantize or ""),
        token_bytes=memory.token_bytes(config.get_text_config(), number),
        left_out=left_out.summary(),
    )


def _check(inputs: Inputs, options: InferOptions, out: str | Path) -> None:
    """Refuse what cannot be shared out."""
    given, target = input_names(inputs), str(out)
    check_engine(options, device_map=options.device_map, out=target, inputs=given)
    check_share(share_of(options.rank, options.world_size), target, given)


def _results(
    plan: InferencePlan, items: Items, left_out: LeftOut | None = None, times: StageTimes | None = None
) -> Results:
    """Positions and results of numbered items, as they are final; the others are told of unused boxes and of time."""
    with opened_boxes(plan.boxes, coordinates.named(plan.options.box_format)) as boxes:
        if left_out is not None:
            left_out.take(boxes.left_out)
        yield from (answer_on_devices if plan.is_spread else answered)(plan, items, boxes, times)


def _shared(plan: InferencePlan, out: Path) -> SharedAnswers:
    whole = replace(plan, share=ALL)
    return SharedAnswers(out, whole.run(AnswersFile(out).run_path, out), samples=plan.decoding.samples)


def _into_file(plan: InferencePlan, out: Path, *, overwrite: bool, advance: Advance) -> Inferred:
    """All of the input, or one share that is held already."""
    return _do_share(plan, _shared(plan, out), overwrite=overwrite, advance=advance)


def _into_shares(plan: InferencePlan, out: Path, *, overwrite: bool, advance: Advance) -> Inferred:
    """This rank's share, and those of ranks that died; joined where all are there."""
    if overwrite and plan.share.is_any:
        raise UsageError("overwrite", "and `rank` any do not go together, as others may be at work: remove the output")
    shared, done = _shared(plan, out), dict[Share, Inferred]()
    whole = shared.file(ALL)
    if overwrite:
        whole.clear()
    else:
        whole.refuse_foreign()
        shared.run.check()
        if shared.run.finished and out.exists():
            return _joined(plan, shared)

    indexed = shared.indexed(plan)

    def work(share: Share) -> None:
        own = overwrite and share == plan.share
        done[share] = _do_share(replace(indexed, share=share), shared, overwrite=own, advance=advance)

    with kept_model():
        seen_anew = functools.partial(refresh, out)
        missing = do_shares(plan.share, hold=shared.hold, state=shared.state, work=work, refresh=seen_anew)
    if not missing:
        return _joined(plan, shared)
    return _summed(plan.share, out, list(done.values()), missing)


def _told_of(url: str, inferred: Inferred) -> Inferred:
    """What became of a run whose files lie in a store."""
    folder = url.rpartition("/")[0]
    out, failures = (f"{folder}/{Path(path).name}" for path in (inferred.out, inferred.failures))
    return replace(inferred, out=out, failures=failures)


def _summed(share: Share, out: Path, done: Sequence[Inferred], missing: Sequence[Share]) -> Inferred:
    """What one rank did, whose own share comes first."""
    if not done:
        return Inferred(out, 0, 0, 0, AnswersFile(out).failures_path, missing=tuple(missing))
    answered, failed = sum(one.answered for one in done), sum(one.failed for one in done)
    tokens = sum(one.new_tokens for one in done)
    first = replace(done[0], answered=answered, failed=failed, new_tokens=tokens, missing=tuple(missing))
    return replace(first, out=out) if share.is_any else first


def _joined(plan: InferencePlan, shared: SharedAnswers) -> Inferred:
    """The one file of all shares."""
    out, world_size = shared.out, plan.share.world_size
    parts = [share_file(out, Share(rank, world_size)) for rank in range(world_size)]
    with shared.alone():
        others = shared.others(world_size)
        if shared.run.finished and out.exists():
            tidy(out, parts)  # a rank may have died before it did
        else:
            join(replace(plan, share=ALL), out, parts, overwrite=False)
        shared.forget(others)
    return Inferred(out, **shared.run.counts, failures=AnswersFile(out).failures_path)


def _do_share(plan: InferencePlan, shared: SharedAnswers, *, overwrite: bool, advance: Advance) -> Inferred:
    """What is left of one share, which may be all of the input."""
    check_model(plan.model, takes_foreign=True)
    file, run, stdin = shared.file(plan.share), shared.run_of(plan.share), HashedStdin(plan.inputs)
    stages: Mapping[str, Any] = {}
    had_finished = False
    if overwrite:
        file.clear()
    else:
        file.refuse_foreign()
    if not _is_finished(run, file, stdin, overwrite=overwrite):
        times = for_device(plan.device)
        made = _made(plan, shared, file, stdin, _Told(advance, LeftOut(), times))
        file.publish()
        stages = peaks.told(plan, times)
        run.finish({**file.counts, **made}, noted=stdin.noted(), times={"stages": stages} if stages else {})
        if plan.share.is_all:
            shared.forget(shared.others(1))
    elif not stdin.noted() and may_be_mended(file):
        retry(file, run, plan.numbered(), functools.partial(_results, plan))
        file.failures.remove()  # the places of those before
    else:
        had_finished = True
    file.forget_places()
    with run.trusting():
        told: dict[str, Any] = {"failures": file.failures_path, "stages": stages, "had_finished": had_finished}
        return Inferred(file.out, **run.counts, **told)


class _Told(NamedTuple):
    """What hears of a run: of samples that are done, of what the inputs hold beside them, of the time of each stage."""

    advance: Advance
    left_out: LeftOut
    times: StageTimes


def _made(
    plan: InferencePlan, shared: SharedAnswers, file: AnswersFile, stdin: HashedStdin, told: _Told
) -> dict[str, Any]:
    """Write what is left to answer; gives the new tokens and what the inputs hold that was not used."""
    try:
        tokens = _fill(plan, shared, file, stdin, told)
    except MgtoolError:
        file.forget_beginning()
        raise
    return {"new_tokens": tokens, **({"left_out": found} if (found := told.left_out.summary()) else {})}


def _is_finished(run: Run, file: AnswersFile, stdin: HashedStdin, *, overwrite: bool) -> bool:
    """Begin the run, or go on with it; whether an earlier one has answered everything."""
    if overwrite:
        run.forget_odd()
    has_begun = bool(run.before)
    run.begin(overwrite=overwrite)
    if run.finished and file.out.exists():
        run.refuse_other(stdin.noted())
        return True
    if has_begun and not run.finished:
        file.take_back()
    return False


def _fill(plan: InferencePlan, shared: SharedAnswers, file: AnswersFile, stdin: HashedStdin, told: _Told) -> int:
    """Write what is left to answer; gives the number of tokens that were made, by earlier processes, too."""
    advance, left_out, times = told
    progress.counted(advance, plan.inputs, plan.numbered)
    items = file.skip_done(plan.numbered(stdin.file, left_out))
    progress.known(advance, sum(file.counts.values()))
    if (begin := next(items, None)) is None:
        return file.tokens
    writer, known = InOrder(begin[0], file, advance), shared.known(plan)
    known.write(writer)
    unknown = (one for one in itertools.chain([begin], items) if not known.has(one[0]))
    first = next(unknown, None)
    if first is not None:
        progress.doing(advance, "loads the model")
        with closing(_results(plan, itertools.chain([first], unknown), left_out, times)) as results:
            for place, (position, result) in enumerate(results):
                if place == 0:
                    progress.doing(advance, "answers")
                writer.put(position, result)
                known.write(writer)
    return file.tokens + writer.tokens


def _stream(
    plan: InferencePlan, *, unordered: bool, advance: Advance, left_out: LeftOut | None
) -> Generator[Answer | Failure]:
    items = plan.numbered(left_out=left_out)
    begin = next(items, None)
    if begin is None:
        return
    ready = Ready()
    writer = Writer(ready, advance) if unordered else InOrder(begin[0], ready, advance)
    with closing(_results(plan, itertools.chain([begin], items), left_out)) as results:
        for position, result in results:
            writer.put(position, result)
            yield from ready.taken()


def _on_ray(inputs: Inputs, out: Path, options: InferOptions, *, overwrite: bool, advance: Advance) -> Inferred:
    """Every share as a task of a Ray cluster, then joined to the files of one run."""
    check_model(options.model, takes_foreign=True)
    InferencePlan.of(inputs, options, is_here=False)  # what is wrong with the options is better said here
    cluster = Cluster.of(options, 0 if options.device == "cpu" else options.tensor_parallel)
    make, work = functools.partial(_answering, inputs, place_of(out), options, overwrite), NodeWork("samples")
    needs = Needs.of(*input_names(inputs), options.images, options.boxes, str(options.model).removeprefix(FOREIGN))
    how: dict[str, Any] = {"world_size": options.world_size, "advance": advance, "work": work}
    shares = run_shares(make, cluster, name="infer", needs=needs.with_output(out, is_file=True), **how)
    refresh(out)
    file = AnswersFile(out)
    if len(shares) == 1:
        inferred = replace(shares[0][0], out=out, failures=file.failures_path)
    else:
        whole = replace(shares[0][1], options=options, share=ALL)
        counts = join(whole, out, [share_file(out, plan.share) for _, plan in shares], overwrite=overwrite)
        inferred = Inferred(out, **counts, failures=file.failures_path, missing=())
    run_file.add_times(file.run_path, nodes=work.summary())
    return replace(inferred, nodes=work.summary())


def _answering(
    inputs: Inputs, place: str | Path, options: InferOptions, overwrite: bool
) -> Callable[[Share], tuple[Inferred, InferencePlan]]:
    """On a node: what does shares of the output that the driver holds, with one model, and says how."""
    kept: list[Any] = []
    out = taking_part(place, is_file=True)
    plan = InferencePlan.of(inputs, replace(options, **LOCAL, world_size=1))
    shared = _shared(plan, out)
    if not overwrite:
        shared.run.check()  # of another run, nothing is answered first

    def answer(share: Share) -> tuple[Inferred, InferencePlan]:
        own = replace(plan if share.is_all else shared.indexed(plan), share=share)
        with one_share(out, share.name, is_file=True, wait=True), kept_model(kept):
            return _do_share(own, shared, overwrite=overwrite, advance=done_here), replace(own, index=None)

    return answer
