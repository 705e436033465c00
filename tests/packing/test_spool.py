from __future__ import annotations

from pathlib import Path

import pytest

from mgtool.errors import OutputError
from mgtool.packing.options import PackOptions
from mgtool.packing.plan import ShardPlan
from mgtool.packing.spool import Spool
from mgtool.records import Detections, Failure, Media, Sample, Turn

FOUND = Detections(((0.0, 1.5, 2.0, 3.25),), (0.5,), ("cat",), tags=("animal",))


@pytest.mark.parametrize(
    "item",
    [
        Sample(id="a", images=(Media(name="a.jpg", uri="photos/a.jpg", detections=(FOUND,)),)),
        Sample(
            id=2**70, images=(Media(name="a.jpg", data=b"\xff\xd8"),), turns=(Turn("human", "Was ist das? \u2603"),)
        ),
        Sample(
            id="v", video=Media(name="v.mp4", uri="v.mp4", detections=(FOUND, Detections()), frame_times=(0.0, 1.5))
        ),
        Sample(id="bytes that are no UTF-8", images=(Media(name="\\xff.jpg", uri="\udcff.jpg"),)),
        Sample(id="m", metadata={"n": None, "big": 2**70, "list": [1, 2.5, "x"], "dict": {"k": True}}),
        Failure(id=3, stage="read", reason="bad_record", detail="line 3"),
    ],
    ids=["picture", "bytes", "video", "name", "metadata", "failure"],
)
def test_items_leave_the_spool_as_they_came(item: Sample | Failure, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "items.sqlite")
    spool.fill([(0, 1, item)])
    assert list(spool.read([0])) == [(0, 1, item)]
    spool.close()


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the plan of the run cannot be written: unable to open database file"):
        ShardPlan(tmp_path / "gone", PackOptions())
