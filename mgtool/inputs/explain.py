"""What an input is taken for, and why: its kind, and the layouts of its first records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mgtool.inputs.json_records import COCO, LAYOUTS
from mgtool.inputs.rows import VLMEVALKIT
from mgtool.inputs.seen import Recognised, Seen
from mgtool.inputs.sources import read_samples
from mgtool.records import Failure, LeftOut, Sample, name_text

MOST_RECORDS = 1000
"""Records of one input that are looked at."""

_TOLD_BY = {layout.name: layout.told_by for layout in LAYOUTS} | {
    COCO: "`id` and `file_name` in `images`",
    VLMEVALKIT: "`index` and `question`",
}


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What one input is taken for.

    Attributes:
        input: as it was given.
        taken_for: each file or folder of it, its kind, and why.
        layouts: by the layout of records, their number and what the layout is told by.
        samples, pictures, videos, turns: what the records come to.
        failures: count and examples by reason, of records that are of no use.
        left_out: count and examples by reason, of what else it holds.
        is_whole: whether these are all records.
    """

    input: str
    taken_for: tuple[Recognised, ...]
    layouts: Mapping[str, Mapping[str, Any]]
    samples: int
    pictures: int
    videos: int
    turns: int
    failures: Mapping[str, Any]
    left_out: Mapping[str, Any]
    is_whole: bool

    @property
    def records(self) -> int:
        """Number of samples and failures."""
        return self.samples + sum(int(found["count"]) for found in self.failures.values())


def explain(given: str, **options: Any) -> Explained:
    """Look at the first `MOST_RECORDS` records of an input; options and errors are those of `read_samples`."""
    seen, failed = Seen(), LeftOut()
    items = read_samples([given], seen=seen, **options)
    found = list(islice(items, MOST_RECORDS))
    is_whole = next(items, None) is None
    samples = [item for item in found if isinstance(item, Sample)]
    for item in found:
        if isinstance(item, Failure):
            failed.add(item.reason, item.detail)
    layouts = {name: {"count": count, "told_by": _TOLD_BY[name]} for name, count in seen.layouts.items() if count}
    return Explained(
        input=name_text(given),
        taken_for=tuple(seen.kinds),
        layouts=layouts,
        samples=len(samples),
        pictures=sum(len(sample.images) for sample in samples),
        videos=sum(sample.video is not None for sample in samples),
        turns=sum(len(sample.turns) for sample in samples),
        failures=failed.summary(),
        left_out=seen.left_out.summary(),
        is_whole=is_whole,
    )
