"""`mgtool detect`: pictures -> box records, each distinct picture once."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgtool.commands import console, detect_report
from mgtool.commands.options import (
    AllowFailures,
    Config,
    DryRun,
    Json,
    Overwrite,
    Quiet,
    default_workers,
    exit_code,
)
from mgtool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mgtool.detectors.filters import Filters
    from mgtool.detectors.finding import BatchSize, Finder
    from mgtool.detectors.loading import Named

INPUT = "Pictures, videos, folders, lists, LLaVA files, TSVs, COCO JSON, tars; `-` is stdin."
DETECTOR = "nanodet, mmdet:CONFIG[:CHECKPOINT], owlv2:PATH, hf:PATH, boxes:PATH, or none for tags only."
PRESETS: dict[str, dict[str, Any]] = {
    "mg-llava": {
        "tagger": "ram++:ram_plus_swin_large_14m.pth",
        "detector": "owlv2:owlv2-large-patch14-ensemble",
        "threshold": 0.2,
        "round": True,
        "format": "mg-llava",
    }
}
"""Name -> values of options that are not given; `mg-llava` is the paper's way to the published box files."""
_FILTERS = "Which boxes are kept"


@dataclass(frozen=True)
class Job:
    """The options of one run; `batch_size`, `workers` and `device` do not change what comes out."""

    inputs: tuple[str, ...]
    images: str | None
    detector: str
    tagger: str
    tag_list: str | None
    tag_thresholds: str | None
    vocabulary: str
    threshold: float | None
    boxes: str | None
    keep: str
    drop: str
    min_size: float
    nms: float | None
    max_boxes: int | None
    round: bool
    dtype: str
    device: str
    trust_checkpoint: bool
    format: str
    shard_size: int
    visualize: int
    frames: int
    batch_size: int | None
    workers: int

    def batch(self) -> BatchSize:
        """How many pictures the detector gets at once."""
        from mgtool.detectors.finding import BatchSize

        return BatchSize(self.batch_size)

    def items(self) -> Iterator[Named]:
        """Every picture of the input, in order."""
        from mgtool import sources

        items = sources.pictures(sources.read_samples(self.inputs, images=self.images))
        return _without_videos(items) if self.format == "coco" else items

    def identity(self, finder: Finder) -> dict[str, Any]:
        """What a run that goes on must agree in."""
        from mgtool.fingerprints import fingerprint

        return {
            "detector": finder.identity,
            "vocabulary": self.vocabulary,
            "words": self._words_hash(),
            "threshold": self.threshold,
            "dtype": self.dtype,
            "format": self.format,
            "shard_size": self.shard_size,
            "images": self.images,
            "frames": self.frames,
            "inputs": [fingerprint(given) for given in self.inputs],
        }

    def _words(self) -> tuple[str, ...] | None:
        from mgtool.detectors import vocabulary

        return vocabulary.read(self.vocabulary) if self.vocabulary else None

    def _words_hash(self) -> str | None:
        from mgtool.images import sha256

        words = self._words()
        return None if words is None else sha256("\n".join(words).encode())[:16]

    def filters(self) -> Filters:
        """Which boxes are kept."""
        from mgtool.detectors import vocabulary
        from mgtool.detectors.filters import Filters

        return Filters(
            threshold=self.threshold,
            keep=vocabulary.read(self.keep, option="--keep") if self.keep else None,
            drop=vocabulary.read(self.drop, option="--drop") if self.drop else (),
            min_size=self.min_size,
            nms=self.nms,
            max_boxes=self.max_boxes,
            round=self.round,
        )

    def finder(self) -> Finder:
        """The detector and the tagger, with their weights, and the boxes that are known."""
        from mgtool import detectors
        from mgtool.detectors.finding import Finder
        from mgtool.detectors.known_boxes import KnownBoxes

        kind, _, target = self.detector.partition(":")
        if kind == detectors.BOXES:
            return Finder(None, None, self.filters(), KnownBoxes(target, alone=True))
        known = KnownBoxes(self.boxes) if self.boxes else None
        tagger = None
        if self.tagger:
            tagger = detectors.load_tagger(
                self.tagger,
                device=self.device,
                dtype=self.dtype,
                tag_list=self.tag_list,
                tag_thresholds=self.tag_thresholds,
            )
        if self.detector == "none":
            return Finder(None, tagger, self.filters(), known)
        detector = detectors.load(
            self.detector,
            threshold=self.threshold,
            device=self.device,
            dtype=self.dtype,
            vocabulary=self._words(),
            trust_checkpoint=self.trust_checkpoint,
        )
        return Finder(detector, tagger, self.filters(), known)

    def check(self) -> None:
        """Refuse what does not go together, before anything is read or loaded."""
        from mgtool import boxformats, detectors

        boxformats.check(self.format)
        detectors.Settings(self.threshold, self.device, self.dtype)
        self.filters()
        self._words()
        if self.tagger:
            detectors.check_tagger(self.tagger)
        if self.detector.startswith(f"{detectors.BOXES}:") and (self.tagger or self.boxes):
            raise UsageError(f"--detector {self.detector}: looks at no picture; leave --tagger and --boxes out")
        if self.detector != "none":
            detectors.check(self.detector)
        elif not self.tagger:
            raise UsageError("--detector none: give a --tagger, or there is nothing to do")


def detect(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(help=INPUT, metavar="INPUT...")],
    out: Annotated[
        str | None, typer.Option(help="Folder to write; `-` streams box lines on stdout.", metavar="DIR|-")
    ] = None,
    images: Annotated[str | None, typer.Option(help="Folder that names start from.", metavar="DIR")] = None,
    detector: Annotated[str, typer.Option(help=DETECTOR, metavar="SPEC")] = "nanodet",
    tagger: Annotated[str, typer.Option(help="ram++:CHECKPOINT: words picture by picture.", metavar="SPEC")] = "",
    tag_list: Annotated[str | None, typer.Option(help="The tagger's tags, one a line.", metavar="FILE")] = None,
    tag_thresholds: Annotated[
        str | None, typer.Option(help="The tags' thresholds, one a line.", metavar="FILE")
    ] = None,
    vocabulary: Annotated[
        str, typer.Option(help="coco, lvis, objects365, openimages, a text file or a comma list.", metavar="V")
    ] = "",
    preset: Annotated[
        str, typer.Option(help="mg-llava: RAM++ and OWLv2 as the published boxes were made.", metavar="NAME")
    ] = "",
    boxes: Annotated[
        str | None, typer.Option(help="Box file whose pictures, by hash, are not looked at again.", metavar="PATH")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score; the detector's own by default.", metavar="T")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="Labels to keep; given as --vocabulary.", metavar="V", rich_help_panel=_FILTERS)
    ] = "",
    drop: Annotated[
        str, typer.Option(help="Labels to drop; given as --vocabulary.", metavar="V", rich_help_panel=_FILTERS)
    ] = "",
    min_size: Annotated[
        float, typer.Option(help="Pixels of a box's shorter side, at least.", metavar="N", rich_help_panel=_FILTERS)
    ] = 0,
    nms: Annotated[
        float | None,
        typer.Option(
            help="Drop what overlaps a better box of its label by more.", metavar="IOU", rich_help_panel=_FILTERS
        ),
    ] = None,
    max_boxes: Annotated[
        int | None, typer.Option(help="The best N of a picture.", metavar="N", rich_help_panel=_FILTERS)
    ] = None,
    round: Annotated[
        bool, typer.Option("--round", help="Whole pixels, towards zero.", rich_help_panel=_FILTERS)
    ] = False,
    frames: Annotated[int, typer.Option(help="Frames of a video, evenly.", min=1, metavar="N")] = 8,
    batch_size: Annotated[
        str, typer.Option(help="Pictures at once; auto finds what is fastest and fits.", metavar="N|auto")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", metavar="D")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.", metavar="T")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Decoding processes; 0 for none. One a core by default.", min=0, metavar="N")
    ] = None,
    format: Annotated[str, typer.Option(help="jsonl, coco, mg-llava or parquet.", metavar="F")] = "jsonl",
    shard_size: Annotated[int, typer.Option(help="Pictures of a JSON lines shard.", min=1, metavar="N")] = 1000,
    visualize: Annotated[int, typer.Option(help="Draw the first N pictures.", min=0, metavar="N")] = 0,
    report: Annotated[
        str | None, typer.Option(help="Page of pictures with their boxes, to write at the end.", metavar="FILE.html")
    ] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Sum up the box files INPUT instead; nothing is looked at.")
    ] = False,
    trust_checkpoint: Annotated[
        bool, typer.Option("--trust-checkpoint", help="Unpickle a checkpoint that holds more than tensors.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Find the objects of every distinct picture and write them as box records."""
    if stats:
        detect_report.describe(tuple(inputs), images=images, report=report, as_json=as_json, quiet=quiet)
        return
    if out is None:
        raise UsageError("--out is missing: give the folder to write, or - for box lines on stdout")
    job = Job(
        tuple(inputs), images, detector, tagger, tag_list, tag_thresholds, vocabulary, threshold, boxes, keep, drop,
        min_size, nms, max_boxes, round, dtype, device, trust_checkpoint, format, shard_size, visualize,
        frames, _batch(batch_size), default_workers() if workers is None else workers,
    )  # fmt: skip
    job = replace(job, **_preset(preset, context, out))
    job.check()
    if out == "-" and (as_json or job.format != "jsonl" or visualize or report):
        raise UsageError("--out - is for box lines alone: leave --json, --format, --visualize and --report out")
    if dry_run:
        _say_what_would_be_done(job, out, as_json)
        return
    if out == "-":
        statistics, summary = _stream(job, quiet)
    else:
        statistics, summary = _write(job, Path(out), overwrite=overwrite, quiet=quiet)
        if report is not None:
            items = None if "-" in inputs else job.items()
            detect_report.report_run(report, Path(out), items, summary, images=images)
    console.summarize(summary, title="mgtool detect", as_json=as_json, quiet=quiet)
    raise typer.Exit(exit_code(*statistics, allow_failures))


def _without_videos(items: Iterator[Named]) -> Iterator[Named]:
    from mgtool.records import Failure

    detail = "COCO's form has no place for videos; jsonl, parquet and mg-llava have"
    for item in items:
        if isinstance(item, tuple) and item[1] is item[0].video:
            yield Failure(id=item[0].id, stage="detect", reason="unsupported", detail=detail)
        else:
            yield item


def _preset(name: str, context: typer.Context, out: str) -> dict[str, Any]:
    """A preset's values of the options that are given nowhere."""
    if name and name not in PRESETS:
        raise UsageError(f"--preset {name}: give {', '.join(PRESETS)}")
    values = {key: value for key, value in PRESETS.get(name, {}).items() if out != "-" or key != "format"}
    sources = {key: context.get_parameter_source(key) for key in values}
    return {key: value for key, value in values.items() if (source := sources[key]) and source.name == "DEFAULT"}


def _batch(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size {text}: give a number from 1 on, or auto")
    return int(text)


def _write(job: Job, folder: Path, *, overwrite: bool, quiet: bool) -> tuple[tuple[int, int], dict[str, Any]]:
    """Fill the folder; gives the numbers of failures and of all pictures, and the summary."""
    import platform
    from importlib.metadata import version

    from mgtool import shards
    from mgtool.stages import detect as stage

    finder = job.finder()
    versions = {"mgtool": version("mgtool"), "python": platform.python_version()}
    batch = job.batch()
    about = {"options": {"batch_size": job.batch_size or "auto", "workers": job.workers, "device": job.device}}
    run = shards.Run(
        folder / shards.RUN_FILE,
        command="detect",
        identity=job.identity(finder),
        about={**about, "versions": versions},
    )
    output = stage.Output(folder, format=job.format, shard_size=job.shard_size, visualize=job.visualize)
    run.begin(overwrite=overwrite)
    if overwrite:
        output.clear()
        run.begin()
    if run.finished:
        output.close(done=True)
        summary = run.results()
    else:
        with console.progress("pictures", quiet=quiet) as advance:
            found = stage.run(
                job.items(), finder, output, batch=batch, workers=job.workers, frames=job.frames, advance=advance
            )
        summary = found.summary()
        run.finish(results=summary)
        output.close(done=True)
    return _numbers(summary), {"out": str(folder), **summary}


def _stream(job: Job, quiet: bool) -> tuple[tuple[int, int], dict[str, Any]]:
    """Box lines on stdout as they come; failures as lines on stderr."""
    from contextlib import closing

    from mgtool.boxstatistics import Statistics
    from mgtool.records import dumps
    from mgtool.stages import detect as stage

    statistics = Statistics()
    items, finder = job.items(), job.finder()
    found = stage.detect(
        items, finder, ledger=stage.Ledger(), batch=job.batch(), workers=job.workers, frames=job.frames
    )
    with console.progress("pictures", quiet=quiet) as advance, closing(found) as entries:
        for entry, _ in entries:
            stage.count(statistics, entry)
            advance(1)
            if entry.box is not None:
                sys.stdout.buffer.write(dumps(entry.box) + b"\n")
                sys.stdout.buffer.flush()
            elif entry.failure is not None and not quiet:
                console.say(f"failed: {entry.failure.id}: {entry.failure.reason}: {entry.failure.detail}")
    summary = statistics.summary()
    return _numbers(summary), summary


def _numbers(summary: dict[str, Any]) -> tuple[int, int]:
    failed = sum(summary["failures"].values())
    return failed, summary["pictures"] + summary["videos"] + summary["duplicates"] + failed


def _say_what_would_be_done(job: Job, out: str, as_json: bool) -> None:
    from mgtool.records import Failure

    failures = total = 0
    for item in job.items():
        total += 1
        failures += isinstance(item, Failure)
    most = -(-(total - failures) // job.shard_size)
    plan = {"out": out, "detector": job.detector, "pictures": total - failures, "unreadable_records": failures}
    console.summarize(
        {**plan, "shards_at_most": most, "batch_size": job.batch_size or "auto", "workers": job.workers},
        title="mgtool detect would look at",
        as_json=as_json,
        quiet=False,
    )
