"""What `mgtool detect` shows: its last words, records on stdout, sums of box files, and what would be done."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgtool.commands import console, summaries
from mgtool.detection.options import DetectOptions
from mgtool.errors import UsageError

if TYPE_CHECKING:
    from mgtool.boxes.statistics import BoxStatistics
    from mgtool.stages.detect import Detected


def tell(
    detected: Detected, inputs: list[str], settings: DetectOptions, report: str | None, *, as_json: bool, quiet: bool
) -> None:
    """Say what was found, and where the failures of all pictures are."""
    from mgtool.runs.run_file import DRAWN_FOLDER, FAILURES_FILE

    folder = detected.folder
    if detected.had_finished and settings.visualize and not detected.is_drawn and not quiet:
        console.say(f"{folder} is complete and nothing was drawn; to draw it: --detector boxes:{folder} --out OTHER")
    about = {"out": str(folder), **({"share": detected.share} if detected.share else {})}
    reasons = detected.statistics.failures
    counted = {"failures": reasons.total(), "failures_by_reason": dict(sorted(reasons.items()))}
    drawn = {"drawn": f"{folder}/{DRAWN_FOLDER}"} if settings.visualize and detected.is_drawn else {}
    pages = {"report": report} if report and not detected.share else {}
    summary = {**about, **drawn, **pages, **detected.statistics.summary(), **counted}
    summary |= summaries.by_node(detected.nodes, as_json=as_json)
    summary |= {"waiting_for": [share.rank for share in detected.missing]} if detected.missing else {}
    items, then = detected.statistics.items, next_command(inputs, folder, settings)
    done, then = (None, "") if detected.had_finished else (items, "" if detected.missing else then)
    summaries.summarize(summary, title="mgtool detect", as_json=as_json, quiet=quiet, done=done, then=then)
    summaries.show_nothing_left(folder, detected.had_finished, quiet=quiet)
    summaries.show_missing(detected.missing, quiet=quiet)
    if not detected.share:
        summaries.show_failures(detected.failures, f"{folder}/{FAILURES_FILE}", quiet=quiet)


def beside(folder: Path | str, name: str) -> Path:
    """Where a page of an output goes: into its folder, or, of one in a store, into this one."""
    return Path(name) if isinstance(folder, str) else folder / name


def next_command(inputs: list[str], folder: Path | str, settings: DetectOptions) -> str:
    """How to look at what was found."""
    images = settings.images or next((one for one in inputs if Path(one).is_dir()), None)
    shown = ("--images", images) if images else ()
    return summaries.command("mgtool", "detect", "--stats", folder, *shown, "--report", beside(folder, "boxes.html"))


def stream(inputs: list[str], settings: DetectOptions, quiet: bool) -> BoxStatistics:
    """Box lines on stdout as they come; failures as lines on stderr."""
    from mgtool.boxes.statistics import BoxStatistics
    from mgtool.detection.output import count
    from mgtool.records import LeftOut, dumps
    from mgtool.stages.detect import found

    statistics, left_out = BoxStatistics(), LeftOut()
    records = found(inputs, settings, left_out=left_out)
    with console.progress("pictures", quiet=quiet, streams=True) as advance, closing(records) as entries:
        for entry in entries:
            count(statistics, entry)
            advance(1)
            if entry.box is not None:
                console.put(dumps(entry.box))
            elif entry.failure is not None and not quiet:
                console.say(f"failed: {entry.failure.id}: {entry.failure.reason}: {entry.failure.detail}")
    statistics.left_out = left_out.summary()
    summaries.summarize(statistics.summary(), title="mgtool detect", as_json=False, quiet=quiet)
    return statistics


def describe(paths: list[str], settings: DetectOptions, report: str | None, *, as_json: bool, quiet: bool) -> None:
    from mgtool.stages.describe_boxes import describe_boxes

    if "-" in paths:
        raise UsageError("stats", ": give folders or files of boxes; stdin cannot be read twice")
    statistics = describe_boxes(
        paths,
        images=settings.images,
        allow_absolute=settings.allow_absolute,
        allow_remote=settings.allow_remote,
        report=report,
    )
    summary = statistics.summary(labels=None) if as_json else statistics.summary()
    summary |= {"report": report} if report else {}
    summaries.summarize(summary, title="mgtool detect --stats", as_json=as_json, quiet=quiet)


def say_what_would_be_done(inputs: list[str], out: str, settings: DetectOptions, as_json: bool) -> Mapping[str, Any]:
    """Gives what the inputs hold that would not be used."""
    from mgtool.stages.detect import plan

    planned = plan(inputs, out, settings)
    summary = {
        "out": out,
        "detector": settings.detector,
        "pictures": planned.pictures,
        "unreadable_records": planned.unreadable_records,
        "shards_at_most": planned.shards_at_most,
        "batch_size": settings.batch_size or "auto",
        "workers": planned.workers,
        "left_out": planned.left_out,
    }
    summaries.summarize(summary, title="mgtool detect would look at", as_json=as_json, quiet=False)
    return planned.left_out
