"""`mgtool.stages.detect` and `describe_boxes` from Python: typed results, nothing printed."""

from __future__ import annotations

import pickle
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mgtool.detection.options import DetectOptions
from mgtool.errors import MissingExtraError, ResumeError, UsageError
from mgtool.runs.run_file import DRAWN_FOLDER, Run
from mgtool.stages.describe_boxes import describe_boxes
from mgtool.stages.detect import detect, found, plan

IMAGES = Path(__file__).parents[1] / "images"
QUICK = DetectOptions(detector="tiny", workers=0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three photographs, one of them twice, and a file that is no picture."""
    folder = tmp_path / "pictures"
    shutil.copytree(IMAGES, folder)
    shutil.copy(folder / "coffee.jpg", folder / "again.jpg")
    (folder / "bad.jpg").write_bytes(b"no picture")
    return folder


def test_a_result_says_what_was_found_and_prints_nothing(pictures: Path, tmp_path: Path, capfd) -> None:
    done: list[int] = []
    options = DetectOptions(detector="tiny", workers=0, visualize=1)
    first = detect([pictures], tmp_path / "boxes", options, report=tmp_path / "page.html", advance=done.append)
    assert (first.statistics.pictures, first.statistics.duplicates, first.failures) == (3, 1, 1)
    assert (first.folder, first.share, first.had_finished, first.is_drawn) == (tmp_path / "boxes", "", False, True)
    assert sum(done) == first.statistics.items == 5
    again = detect([pictures], tmp_path / "boxes", options)
    assert again.had_finished
    assert again.statistics == first.statistics
    assert (tmp_path / "page.html").read_text().count("data:image/webp") == 3
    assert describe_boxes([first.folder]).pictures == 3
    assert "<td>3</td>" in first._repr_html_()
    assert first._repr_html_().count("data:image/webp") == 1
    assert capfd.readouterr() == ("", "")


def test_a_share_says_that_it_is_one(pictures: Path, tmp_path: Path) -> None:
    shares = [DetectOptions(detector="tiny", workers=0, rank=str(rank), world_size=2) for rank in range(2)]
    results = [detect([pictures], tmp_path / "boxes", options) for options in shares]
    assert [one.share for one in results] == ["00000-of-00002", ""]
    assert [one.statistics.items for one in results] == [2, 5]


def test_entries_come_in_input_order(pictures: Path) -> None:
    with closing(found([pictures], QUICK)) as entries:
        ends = [(entry.id, entry.box is not None, entry.failure is not None) for entry in entries]
    names = ["again.jpg", "astronaut_portrait.jpg", "bad.jpg", "china.jpg", "coffee.jpg"]
    assert ends == list(zip(names, (True, True, False, True, False), (False, False, True, False, False), strict=True))


def test_a_plan_opens_nothing(pictures: Path, tmp_path: Path) -> None:
    assert plan([pictures], tmp_path / "boxes", QUICK)[:3] == (5, 0, 1)
    assert not (tmp_path / "boxes").exists()


def test_a_preset_gives_way_to_what_is_given() -> None:
    options = DetectOptions(preset="mg-llava", threshold=0.5)
    assert (options.threshold, options.dtype, options.format, options.preset) == (0.5, "float32", "mg-llava", "")
    assert DetectOptions.of_preset("mg-llava", format="jsonl").format == "jsonl"
    with pytest.raises(UsageError, match="`preset` paper: give mg-llava"):
        DetectOptions(preset="paper")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (DetectOptions(batch_size=0), "`batch_size` 0: give a number from 1 on"),
        (DetectOptions(keep="coc"), "`keep` coc: did you mean coco?"),
        (DetectOptions(rank="2", world_size=2), "`rank` 2: with `world_size` 2"),
        (DetectOptions(ray_address="auto"), "`ray_address` needs `engine` ray"),
    ],
)
def test_a_mistake_names_the_field(tmp_path: Path, options: DetectOptions, told: str) -> None:
    with pytest.raises(UsageError) as error:
        detect([IMAGES], tmp_path / "boxes", options)
    assert str(error.value).startswith(told)
    assert not (tmp_path / "boxes").exists()


def test_a_picture_that_vanishes_after_the_folder_was_looked_at_is_told(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Run.begin
    monkeypatch.setattr(Run, "begin", lambda run, **options: (begin(run, **options), (pictures / "bad.jpg").unlink()))
    told = detect([pictures], tmp_path / "boxes", QUICK).statistics.left_out
    assert told["folders that changed while they were read"] == {"count": 1, "examples": [str(pictures)]}


def test_another_input_is_refused(pictures: Path, tmp_path: Path) -> None:
    detect([pictures], tmp_path / "boxes", QUICK)
    with pytest.raises(ResumeError, match="add `overwrite`"):
        detect([IMAGES], tmp_path / "boxes", QUICK)
    assert detect([IMAGES], tmp_path / "boxes", QUICK, overwrite=True).statistics.pictures == 3


def test_a_drawn_picture_is_whole_or_absent(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up while a picture is written: nothing lies under its name, and the same call goes on."""

    def full(picture: Image.Image, file, *args: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    options = DetectOptions(detector="tiny", workers=0, visualize=2)
    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", full)
        with pytest.raises(Exception, match="No space left"):
            detect([pictures], tmp_path / "boxes", options)
    drawn = tmp_path / "boxes" / DRAWN_FOLDER
    assert list(drawn.iterdir()) == []
    detect([pictures], tmp_path / "boxes", options)
    assert [path.suffix for path in drawn.iterdir()] == [".png", ".png"]


def test_an_error_of_another_process_comes_back_as_it_was() -> None:
    error = pickle.loads(pickle.dumps(MissingExtraError("`detector` mmdet", "mmdet")))
    assert str(error) == "`detector` mmdet needs an extra: pip install 'mgtool[mmdet]'"


def test_stdin_is_not_read_twice() -> None:
    with pytest.raises(UsageError, match="`paths` -"):
        describe_boxes(["-"])


def test_a_limit_of_pixels_makes_larger_pictures_failures(pictures: Path, tmp_path: Path) -> None:
    with Image.open(pictures / "coffee.jpg") as picture:
        most = picture.width * picture.height
    for workers in (0, 1):
        done = detect([pictures], tmp_path / str(workers), replace(QUICK, workers=workers, max_pixels=most - 1))
        assert done.statistics.failures["too_many_pixels"] == 3  # two pictures, one of them under two names
    with pytest.raises(ResumeError, match="max_pixels"):
        detect([pictures], tmp_path / "0", QUICK)
    with pytest.raises(UsageError, match="max_pixels"):
        detect([pictures], tmp_path / "1", replace(QUICK, max_pixels=0))
