"""`mgtool detect`: pictures -> box records, each distinct picture once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgtool.commands import console
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

    from mgtool.detectors.loading import Named
    from mgtool.stages.detect import Finder, Statistics

AUTO_BATCH = 8
INPUT = "Pictures, folders, lists, LLaVA files, TSVs, COCO JSON, tars; `-` is stdin."
DETECTOR = "nanodet, mmdet:CONFIG[:CHECKPOINT], owlv2:PATH, hf:PATH, or none for tags only."


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
    dtype: str
    device: str
    trust_checkpoint: bool
    format: str
    shard_size: int
    visualize: int
    batch_size: int
    workers: int

    def items(self) -> Iterator[Named]:
        """Every picture of the input, in order."""
        from mgtool import sources

        return sources.pictures(sources.read_samples(self.inputs, images=self.images))

    def identity(self, finder: Finder) -> dict[str, Any]:
        """What a run that goes on must agree in."""
        from mgtool.fingerprints import fingerprint

        return {
            "detector": finder.identity,
            "vocabulary": self.vocabulary,
            "threshold": self.threshold,
            "dtype": self.dtype,
            "format": self.format,
            "shard_size": self.shard_size,
            "images": self.images,
            "inputs": [fingerprint(given) for given in self.inputs],
        }

    def finder(self) -> Finder:
        """The detector and the tagger, with their weights."""
        from mgtool import detectors
        from mgtool.stages.detect import Finder

        words = detectors.vocabulary.read(self.vocabulary) if self.vocabulary else None
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
            return Finder(None, tagger)
        detector = detectors.load(
            self.detector,
            threshold=self.threshold,
            device=self.device,
            dtype=self.dtype,
            vocabulary=words,
            trust_checkpoint=self.trust_checkpoint,
        )
        return Finder(detector, tagger)

    def check(self) -> None:
        """Refuse what does not go together, before anything is read or loaded."""
        from mgtool import boxformats, detectors

        boxformats.check(self.format)
        detectors.Settings(self.threshold, self.device, self.dtype)
        if self.tagger:
            detectors.check_tagger(self.tagger)
        if self.detector != "none":
            detectors.check(self.detector)
        elif not self.tagger:
            raise UsageError("--detector none: give a --tagger, or there is nothing to do")


def detect(
    inputs: Annotated[list[str], typer.Argument(help=INPUT, metavar="INPUT...")],
    out: Annotated[str, typer.Option(help="Folder to write; `-` streams box lines on stdout.", metavar="DIR|-")],
    images: Annotated[str | None, typer.Option(help="Folder that names start from.", metavar="DIR")] = None,
    detector: Annotated[str, typer.Option(help=DETECTOR, metavar="SPEC")] = "nanodet",
    tagger: Annotated[str, typer.Option(help="ram++:CHECKPOINT: words picture by picture.", metavar="SPEC")] = "",
    tag_list: Annotated[str | None, typer.Option(help="The tagger's tags, one a line.", metavar="FILE")] = None,
    tag_thresholds: Annotated[
        str | None, typer.Option(help="The tags' thresholds, one a line.", metavar="FILE")
    ] = None,
    vocabulary: Annotated[
        str, typer.Option(help="coco, lvis, objects365, a text file or a comma list.", metavar="V")
    ] = "",
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score; the detector's own by default.", metavar="T")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Pictures at once.", metavar="N|auto")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", metavar="D")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.", metavar="T")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Decoding processes; 0 for none. One a core by default.", min=0, metavar="N")
    ] = None,
    format: Annotated[str, typer.Option(help="jsonl, coco, mg-llava or parquet.", metavar="F")] = "jsonl",
    shard_size: Annotated[int, typer.Option(help="Pictures of a JSON lines shard.", min=1, metavar="N")] = 1000,
    visualize: Annotated[int, typer.Option(help="Draw the first N pictures.", min=0, metavar="N")] = 0,
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
    job = Job(
        tuple(inputs), images, detector, tagger, tag_list, tag_thresholds, vocabulary, threshold, dtype, device,
        trust_checkpoint, format, shard_size, visualize, _batch(batch_size),
        default_workers() if workers is None else workers,
    )  # fmt: skip
    job.check()
    if out == "-" and (as_json or format != "jsonl" or visualize):
        raise UsageError("--out - is for box lines alone: leave --json, --format and --visualize out")
    if dry_run:
        _say_what_would_be_done(job, out, as_json)
        return
    if out == "-":
        statistics, summary = _stream(job, quiet)
    else:
        statistics, summary = _write(job, Path(out), overwrite=overwrite, quiet=quiet)
    console.summarize(summary, title="mgtool detect", as_json=as_json, quiet=quiet)
    raise typer.Exit(exit_code(*statistics, allow_failures))


def _batch(text: str) -> int:
    if text == "auto":
        return AUTO_BATCH
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
    about = {"options": {"batch_size": job.batch_size, "workers": job.workers, "device": job.device}}
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
                job.items(), finder, output, batch_size=job.batch_size, workers=job.workers, advance=advance
            )
        summary = found.summary()
        run.finish(results=summary)
        output.close(done=True)
    return _numbers(summary), {"out": str(folder), **summary}


def _stream(job: Job, quiet: bool) -> tuple[tuple[int, int], dict[str, Any]]:
    """Box lines on stdout as they come; failures as lines on stderr."""
    from contextlib import closing

    from mgtool.records import dumps
    from mgtool.stages import detect as stage

    statistics: Statistics = stage.Statistics()
    finder = job.finder()
    with (
        console.progress("pictures", quiet=quiet) as advance,
        closing(
            stage.detect(job.items(), finder, seen={}, known={}, batch_size=job.batch_size, workers=job.workers)
        ) as entries,
    ):
        for entry, _ in entries:
            statistics.add(entry)
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
    return failed, summary["pictures"] + summary["duplicates"] + failed


def _say_what_would_be_done(job: Job, out: str, as_json: bool) -> None:
    from mgtool.records import Failure

    failures = total = 0
    for item in job.items():
        total += 1
        failures += isinstance(item, Failure)
    most = -(-(total - failures) // job.shard_size)
    plan = {"out": out, "detector": job.detector, "pictures": total - failures, "unreadable_records": failures}
    console.summarize(
        {**plan, "shards_at_most": most, "batch_size": job.batch_size, "workers": job.workers},
        title="mgtool detect would look at",
        as_json=as_json,
        quiet=False,
    )
