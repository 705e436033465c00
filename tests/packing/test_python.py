"""Packing, checking and unpacking from Python: typed options in, typed results out, nothing printed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgtool.errors import UsageError
from mgtool.packing.options import PackOptions, Size, Source
from mgtool.stages.pack import pack, plan
from mgtool.stages.unpack import unpack
from mgtool.stages.verify import verify
from mgtool.tars import other_readers
from mgtool.tars.samples import read_stream

OPTIONS = PackOptions(shard_size=Size(4), workers=1)


@pytest.fixture
def source(given: Path) -> Source:
    return Source(given / "train.json", images=given / "photos", boxes=given)


def test_the_tars_are_those_of_the_command(
    source: Source, tars_of_given: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    totals, done = [], []
    packed = pack([source], tmp_path / "o", OPTIONS, started=totals.append, advance=done.append)
    assert {path.name: path.read_bytes() for path in (tmp_path / "o").iterdir() if path.name != "run.json"} == {
        path.name: path.read_bytes() for path in tars_of_given.iterdir() if path.name != "run.json"
    }
    assert (packed.items, packed.samples, packed.failures, packed.shards) == (11, 11, 0, 3)
    assert packed.counts == json.loads((tmp_path / "o" / "run.json").read_bytes())["counts"]
    assert "<td>11</td>" in packed._repr_html_()
    assert (totals, sum(done)) == ([11], 11)
    assert capfd.readouterr() == ("", "")


def test_a_plan_says_what_would_be_written(source: Source, tmp_path: Path) -> None:
    planned = plan([source], tmp_path / "o", OPTIONS)
    assert (planned.samples, planned.shards, planned.format, planned.boxes) == (11, 3, "JPEG", True)
    assert plan([source], None, OPTIONS).shards == 1
    assert list(tmp_path.iterdir()) == []


def test_a_stream_is_one_tar_and_failures_come_with_the_result(given: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    (tmp_path / "list.txt").write_text("p/00.jpg\ngone.jpg\n")
    packed = pack([Source([given / "train.json", tmp_path / "list.txt"], images=given / "photos")], out)
    assert [failure.reason for failure in packed.failed] == ["missing"]
    assert (packed.items, packed.counts) == (13, {"samples": 12, "skipped": 0, "failures": 1})
    assert len(list(read_stream(io.BytesIO(out.getvalue()), where="-"))) == 12


def test_tars_are_checked_and_unpacked(tars_of_given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgtool.tars.verify.READERS", {})
    totals: list[int] = []
    verified = verify(tars_of_given, workers=1, started=totals.append)
    assert (verified.tars, verified.samples, verified.findings, verified.bad, totals) == (3, 11, (), 0, [3])
    unpacked = unpack(sorted(tars_of_given.glob("*.tar")), tmp_path / "u")
    assert (unpacked.samples, unpacked.pictures, unpacked.failures) == (11, 10, 0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"missing_boxes": "maybe"}, "missing_boxes"),
        ({"check": "hope"}, "check"),
        ({"shard_size": 1000}, "shard_size"),
        ({"shard_size": Size()}, "shard_size"),
        ({"shard_size": Size(1, 1)}, "shard_size"),
        ({"split": {"train": 0.5}}, "split"),
        ({"split": {"../up": 1.0}}, "split"),
        ({"split": {"a": 1.5, "b": -0.5}}, "split"),
        ({"reencode": "gif"}, "reencode"),
        ({"where": "open('x')"}, "where"),
        ({"resize": -1}, "resize"),
    ],
)
def test_options_of_no_known_form_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        PackOptions(**options)
    assert caught.value.option == field


def test_options_that_do_not_go_together_are_refused(source: Source, tmp_path: Path) -> None:
    for field in ({"split": {"a": 1.0}}, {"append": True}, {"energon": True}):
        with pytest.raises(UsageError, match="needs a folder"):
            pack([source], io.BytesIO(), PackOptions(**field))
    with pytest.raises(UsageError, match="only one"):
        pack([Source("-"), Source("-")], tmp_path / "o")
    with pytest.raises(UsageError, match="is to be a folder"):
        pack([source], tmp_path / "o.tar")
    with pytest.raises(UsageError, match="is to be a folder"):
        plan([source], str(tmp_path / "o.TAR"))
    assert not (tmp_path / "o.tar").exists()
    assert not (tmp_path / "o").exists()


def test_a_missing_energon_is_said_before_anything_is_packed(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = other_readers.READERS["energon"]._replace(module="no.such.module")
    monkeypatch.setitem(other_readers.READERS, "energon", absent)
    with pytest.raises(Exception, match="needs an extra"):
        pack([source], tmp_path / "o", PackOptions(energon=True))
    assert not (tmp_path / "o").exists()


def test_options_are_light_to_import() -> None:
    heavy = "{'PIL', 'numpy', 'msgspec', 'torch', 'pyarrow', 'simpleeval'}"
    code = f"import sys, mgtool.packing.options; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_processes_that_pack_begin_without_libraries_that_they_do_not_need() -> None:
    heavy = "{'numpy', 'torch', 'pyarrow', 'av'}"
    code = f"import sys, mgtool.packing.pipeline; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_pictures_that_exif_turns_are_counted_and_the_card_tells_it(tmp_path: Path) -> None:
    given, exif = tmp_path / "given", Image.Exif()
    given.mkdir()
    Image.new("RGB", (40, 30)).save(given / "plain.jpg")
    for name, orientation in (("upright", 1), ("turned", 6)):
        exif[0x0112] = orientation
        Image.new("RGB", (40, 30)).save(given / f"{name}.jpg", exif=exif)
    packed = pack([Source(given)], tmp_path / "o", OPTIONS)
    assert packed.counts["turned_by_exif"] == 1
    assert json.loads((tmp_path / "o" / "run.json").read_text())["counts"]["turned_by_exif"] == 1
    assert "EXIF" in (tmp_path / "o" / "README.md").read_text()


def test_what_is_left_out_is_in_the_counts(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    Image.new("RGB", (40, 30)).save(given / "a.jpg")
    (given / "a.txt").write_text("a cat")
    packed = pack([Source(given)], tmp_path / "o", OPTIONS)
    left_out = {".txt files": {"count": 1, "examples": [f"{given}/a.txt"]}}
    assert packed.counts["left_out"] == left_out
    assert json.loads((tmp_path / "o" / "run.json").read_text())["counts"]["left_out"] == left_out
