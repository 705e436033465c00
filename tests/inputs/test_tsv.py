"""VLMEvalKit's TSVs: pictures in every form that a cell may have, and videos."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from mgtool.inputs.sources import read_samples
from mgtool.records import Failure


def encoded(colour: str) -> str:
    data = io.BytesIO()
    Image.new("RGB", (32, 24), colour).save(data, "JPEG")
    return base64.b64encode(data.getvalue()).decode()


RED, BLUE = encoded("red"), encoded("blue")


def read(path: Path, columns: list[str], *rows: tuple[object, ...]) -> list[object]:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(columns)
        writer.writerows(rows)
    return list(read_samples([str(path)]))


@pytest.mark.parametrize(
    ("image", "image_path", "names"),
    [
        (RED, "", ["3.jpg"]),
        (repr([RED, BLUE]), "", ["3.jpg", "3_1.jpg"]),
        (f'["{RED}", "{BLUE}"]', "", ["3.jpg", "3_1.jpg"]),
        (RED[:76] + "\n" + RED[76:], "", ["3.jpg"]),
        ("data:image/jpeg;base64," + RED, "", ["3.jpg"]),
        (repr(["data:image/png;base64," + RED, BLUE]), "", ["3.jpg", "3_1.jpg"]),
        ("", "a.jpg", ["a.jpg"]),
        ("nan", "['a.jpg', \"it's, b.jpg\"]", ["a.jpg", "it's, b.jpg"]),
        ("sub/a.PNG", "", ["sub/a.PNG"]),
        ("", "", []),
    ],
)
def test_cells_that_show_pictures(image, image_path, names, tmp_path):
    columns = ["index", "image", "image_path", "question"]
    [sample] = read(tmp_path / "t.tsv", columns, (3, image, image_path, "What?"))
    assert [media.name for media in sample.images] == names
    assert sample.metadata == {"question": "What?"}


def test_a_row_shows_all_the_pictures_of_the_row_that_it_names_wherever_that_stands(tmp_path):
    rows = [(0, "1"), (1, repr([RED, BLUE])), ("2.0", " 1.0 "), (3, "2"), (4, "[1, 0]"), (5, "9"), (6, "7"), (7, "6")]
    found = read(tmp_path / "t.tsv", ["index", "image", "question"], *((*row, "What?") for row in rows))
    shown = [one.reason if isinstance(one, Failure) else [media.name for media in one.images] for one in found]
    two = ["1.jpg", "1_1.jpg"]
    assert shown == [two, two, two, two, two * 2, "unknown_id", "unknown_id", "unknown_id"]


def test_rows_that_refer_on_without_end_are_failures(tmp_path):
    rows = [*((number, str(number + 1)) for number in range(1200)), (1200, RED)]
    found = read(tmp_path / "t.tsv", ["index", "image", "question"], *((*row, "What?") for row in rows))
    failed = [one.reason for one in found if isinstance(one, Failure)]
    assert set(failed) == {"unknown_id"}
    assert [isinstance(one, Failure) for one in found] == [True] * len(failed) + [False] * (1201 - len(failed))
    assert 1000 < len(failed) < 1200


def test_videos_and_numbered_pictures(tmp_path):
    columns = ["index", "video", "video_path", "image_1", "image_2", "image_10", "question"]
    one, two, three = read(
        tmp_path / "t.tsv",
        columns,
        (0, "v.mp4", "", "", "", "", "What happens?"),
        (1, "v", "./video/v.mp4", "", "", "", "What happens?"),
        (2, "", "", RED, BLUE, RED, "Which is blue?"),
    )
    assert (one.video.name, two.video.name, three.video) == ("v.mp4", "video/v.mp4", None)
    assert [media.data for media in three.images] == [base64.b64decode(text) for text in (RED, BLUE, RED)]
    assert [sorted(sample.metadata) for sample in (one, two, three)] == [
        ["question"],
        ["question", "video"],
        ["question"],
    ]


def test_a_cell_that_is_no_text_costs_its_row(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"index\tquestion\n0\tWhat\n1\tcaf\xe9\n2\tWhat\n")
    found = list(read_samples([str(tmp_path / "t.tsv")]))
    assert [one.id for one in found] == [0, 1, 2]
    assert (found[1].reason, found[1].detail) == ("bad_record", "question is not UTF-8")
