"""The record of a detection on disk: by what a run is known, whether it goes on, what it has counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgtool.boxes.statistics import BoxStatistics
from mgtool.boxes.thresholds import LabelThresholds
from mgtool.detection import loading, shared_output
from mgtool.detection.options import DetectOptions
from mgtool.detection.output import DetectionOutput
from mgtool.files.hashing import sha256
from mgtool.files.no_links import refuse_links
from mgtool.inputs import sources
from mgtool.inputs.fingerprints import fingerprint
from mgtool.media.limits import MAX_PIXELS
from mgtool.runs.run_file import RUN_FILE, Run


def run_record(inputs: Sequence[str], options: DetectOptions, detector: Any, folder: Path) -> Run:
    """What a run into a folder is known by.

    Args:
        inputs, options: of the run.
        detector: what identifies the detector.
        folder: of the output.
    """
    words = loading.words(options)
    names = ("vocabulary", "format", "shard_size", "frames")
    return Run(
        folder / RUN_FILE,
        command="detect",
        options={
            **{name: getattr(options, name) for name in names},
            "threshold": _plain(options.threshold),
            "allow_absolute": options.allow_absolute or None,
            "allow_remote": options.allow_remote or None,
            "box_format": options.box_format or None,
            "max_pixels": None if options.max_pixels == MAX_PIXELS else options.max_pixels,
            "words": None if words is None else sha256("\n".join(words).encode())[:16],
        },
        inputs={"inputs": [fingerprint(given, sources.files) for given in inputs], "images": options.images},
        free={
            "batch_size": options.batch_size or "auto",
            "workers": loading.decoding_workers(options),
            "device": options.device,
        },
        detector=detector,
        computes=("onnxruntime", "mmdet", "pillow", "numpy"),
    )


def _plain(threshold: float | None) -> float | str | None:
    return repr(threshold) if isinstance(threshold, LabelThresholds) else threshold


def begin(run: Run, output: DetectionOutput, overwrite: bool) -> None:
    """Write the record, or go on with the one that is there."""
    if overwrite:
        run.forget_odd()
    refuse_links(output.folder / shared_output.SHARES)
    has_begun = output.begun or (output.folder / shared_output.SHARES).is_dir()
    # a run that stopped before its first picture, at a wrong input, is no reason to refuse another
    is_idle = run.before.get("command") == "detect" and not run.finished and not has_begun
    run.begin(overwrite=is_idle or overwrite)
    if run.finished and not output.is_whole(counted(run).records):
        run.begin(overwrite=True)  # a file was deleted since


def counted(run: Run) -> BoxStatistics:
    """What a run's record has counted."""
    with run.trusting():
        return BoxStatistics.of_summary(run.counts)
