"""What box records hold, in numbers: boxes a picture in the bins of the paper's table, labels, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mgtool.boxes import formats
from mgtool.records import BoxRecord, Failure, parse
from mgtool.runs.run_file import FAILURES_FILE

BINS = (("0", 0), ("1-10", 10), ("11-20", 20), ("21-30", 30), ("31-50", 50))
OVER = ">50"
BIN_NAMES = (*dict(BINS), OVER)
TOP_LABELS = 20


def bin_of(count: int) -> str:
    """The bin of a number of boxes.

    >>> bin_of(0), bin_of(10), bin_of(11), bin_of(51)
    ('0', '1-10', '11-20', '>50')
    """
    return next((name for name, most in BINS if count <= most), OVER)


def label_groups(record: BoxRecord) -> list[tuple[str, ...]]:
    """The labels of a picture, or of each frame of a video."""
    if record.frames is None:
        return [record.labels or ()]
    return [frame.labels for frame in record.frames]


@dataclass
class BoxStatistics:
    """Counts that grow record by record.

    Attributes:
        pictures, videos: distinct ones, with boxes or without.
        frames: of the videos.
        duplicates: items whose picture or video came before.
        boxes: of pictures and frames.
        histogram: pictures and frames by their number of boxes.
        labels: boxes by label.
        failures: failed items by reason.
        left_out: what else the input holds, as `LeftOut.summary` says it.
    """

    pictures: int = 0
    videos: int = 0
    frames: int = 0
    duplicates: int = 0
    boxes: int = 0
    histogram: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_summary(cls, summary: Mapping[str, Any]) -> BoxStatistics:
        """The statistics of a `summary`; labels that it left out are not counted."""
        return cls(
            **{name: summary[name] for name in ("pictures", "videos", "frames", "duplicates", "boxes")},
            histogram=Counter(summary["boxes_a_picture"]),
            labels=Counter(summary["labels"]),
            failures=Counter(summary["failures"]),
            left_out=summary.get("left_out", {}),
        )

    def __add__(self, other: BoxStatistics) -> BoxStatistics:
        """Of both together; what is left out, each says of all of the input."""
        names = [each.name for each in fields(self) if each.name != "left_out"]
        counts = {name: getattr(self, name) + getattr(other, name) for name in names}
        return BoxStatistics(**counts, left_out=self.left_out or other.left_out)

    def add(self, record: BoxRecord) -> None:
        """Count one picture or video."""
        groups = label_groups(record)
        if record.frames is None:
            self.pictures += 1
        else:
            self.videos += 1
            self.frames += len(groups)
        for labels in groups:
            self.boxes += len(labels)
            self.labels.update(labels)
            self.histogram[bin_of(len(labels))] += 1

    @property
    def records(self) -> int:
        """Pictures and videos that have a record."""
        return self.pictures + self.videos

    @property
    def items(self) -> int:
        """Pictures and videos of the input, failed and repeated ones included."""
        return self.records + self.duplicates + self.failures.total()

    def summary(self, *, labels: int | None = TOP_LABELS) -> dict[str, Any]:
        """Plain values, bins in order, the commonest labels first.

        Args:
            labels: most labels; None for all.
        """
        common = sorted(self.labels.items(), key=lambda pair: (-pair[1], pair[0]))[:labels]
        return {
            "pictures": self.pictures,
            "videos": self.videos,
            "frames": self.frames,
            "duplicates": self.duplicates,
            "boxes": self.boxes,
            "boxes_a_picture": {name: self.histogram[name] for name in BIN_NAMES},
            "labels": dict(common),
            "failures": dict(sorted(self.failures.items())),
            **({"left_out": self.left_out} if self.left_out else {}),
        }


def of(records: Iterable[BoxRecord], reasons: Iterable[str] = ()) -> BoxStatistics:
    """The statistics of records that are there, and of the reasons of failures."""
    statistics = BoxStatistics()
    for record in records:
        statistics.add(record)
    statistics.failures.update(reasons)
    return statistics


def of_files(paths: Iterable[str]) -> BoxStatistics:
    """What box files hold, and how often what failed in the runs that wrote them; errors as `formats.read`."""
    listed = tuple(paths)
    return of((entry.record for path in listed for entry in formats.entries(path)), _reasons(listed))


def _reasons(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        file = Path(path, FAILURES_FILE)
        if file.is_file():
            with file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    yield parse(line, Failure, where=f"{file}:{number}").reason
