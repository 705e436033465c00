"""The programs that people load tars with: each opens what mgtool packs, and gives the same samples."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mgtool
from mgtool.tars.card import CARD_FILE
from mgtool.tars.other_readers import ENERGON_FOLDER, READERS, prepare_energon, quietly

pytestmark = pytest.mark.filterwarnings("ignore")

Seen = tuple[str, str, list[str], tuple[int, int], list[list[float]], list[float]]


@pytest.fixture
def expected(tars_of_given: Path) -> list[Seen]:
    """Id, answer, picture size, boxes and scores of each sample, as mgtool reads them."""
    return [_expected(sample) for sample in mgtool.open_tars(tars_of_given)]


def _expected(sample: Any) -> Seen:
    size = Image.open(io.BytesIO(sample.images[0].data)).size if sample.images else (1, 1)
    found = [detections for media in sample.images for detections in media.detections]
    boxes = [list(box) for detections in found for box in detections.boxes]
    scores = [score for detections in found for score in detections.scores]
    return str(sample.id), sample.turns[1].value, [media.name for media in sample.images], size, boxes, scores


def seen(parts: dict[str, Any]) -> Seen:
    """The same of a row, whatever the reader has decoded of it."""
    about, box_json = _json(parts["json"]), _json(parts["boxes.json"])
    boxes = _array(parts["boxes.npy"]).tolist()
    names = [picture["name"] for picture in about["images"]][: about["pictures"]]
    return (
        about["id"], about["conversations"][1]["value"], names, _picture(parts["jpg"]).size, boxes,
        list(box_json["scores"])[: len(boxes)],
    )  # fmt: skip


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, bytes | str) else value


def _array(value: Any) -> Any:
    return np.load(io.BytesIO(value)) if isinstance(value, bytes) else np.asarray(value, np.float32)


def _picture(value: Any) -> Image.Image:
    value = value["bytes"] if isinstance(value, dict) else value
    if isinstance(value, bytes):
        return Image.open(io.BytesIO(value))
    return value if isinstance(value, Image.Image) else Image.fromarray(np.asarray(value))


def rows_of(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    pytest.importorskip(READERS[name].module)
    with quietly():
        yield from (parts for _, parts in READERS[name].read([str(tar) for tar in sorted(folder.glob("*.tar"))]))


@pytest.mark.parametrize("name", list(READERS))
def test_the_reader_gives_the_same_samples(name: str, tars_of_given: Path, expected: list[Seen]) -> None:
    assert [seen(parts) for parts in rows_of(name, tars_of_given)] == expected


def test_hugging_face_without_streaming(tars_of_given: Path, tmp_path: Path, expected: list[Seen]) -> None:
    import datasets

    urls = [str(tar) for tar in sorted(tars_of_given.glob("*.tar"))]
    rows = datasets.load_dataset("webdataset", data_files=urls, split="train", cache_dir=str(tmp_path))
    assert [seen(row) for row in rows] == expected


def test_hugging_face_loads_the_folder_by_its_data_card(tars_of_given: Path, tmp_path: Path) -> None:
    import datasets

    rows = datasets.load_dataset(str(tars_of_given), split="train", cache_dir=str(tmp_path))
    assert [row["json"]["id"] for row in rows] == [str(number) for number in range(11)]


def test_wids_at_random_by_its_index(tars_of_given: Path, tmp_path: Path, expected: list[Seen]) -> None:
    import wids

    rows = wids.ShardListDataset(str(tars_of_given / "index.json"), cache_dir=str(tmp_path), keep=True)
    for number in (10, 3, 5):
        parts = {name[1:]: value for name, value in rows[number].items() if not name.startswith("__")}
        assert seen(parts) == expected[number]


def test_energon_is_prepared_by_its_own_tool(given: Path, tmp_path: Path) -> None:
    options = ["--images", given / "photos", "--out", tmp_path / "o", "--energon", "-q"]
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", given / "train.json", *options]
    for _ in range(2):  # a second time replaces the first
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if not READERS["energon"].installed:
            assert (done.returncode, "mgtool[energon]" in done.stderr, (tmp_path / "o").exists()) == (2, True, False)
            return
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "o" / ENERGON_FOLDER / "split.yaml").is_file()


def test_energon_gets_the_splits(given: Path, tmp_path: Path) -> None:
    """Each under its own name: validation is not trained on."""
    pytest.importorskip("megatron.energon")
    import yaml

    out = tmp_path / "o"
    options = ["--images", given / "photos", "--out", out, "--split", "train=0.6,val=0.4", "--energon", "-q"]
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", given / "train.json", *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = yaml.safe_load((out / ENERGON_FOLDER / "split.yaml").read_text())["split_parts"]
    assert listed == {"train": ["train-000000.tar"], "val": ["val-000000.tar"]}


def blocks(card: Path) -> list[str]:
    return [block.partition("```")[0] for block in card.read_text().split("```python\n")[1:]]


MODULES = ["mgtool", *(reader.module for reader in READERS.values())]


SLOW = ("ray.data",)
"""Half a minute; that it reads the same tars is tested above."""

CASES = [
    pytest.param(number, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for number, name in enumerate(MODULES)
]


@pytest.mark.parametrize("number", CASES)
def test_the_data_cards_lines_run(number: int, tars_of_given: Path, tmp_path: Path) -> None:
    pytest.importorskip(MODULES[number])
    folder = Path(shutil.copytree(tars_of_given, tmp_path / "tars"))
    if MODULES[number] == "megatron.energon":
        prepare_energon(folder)
    code = blocks(folder / CARD_FILE)[number] + "\nassert sum(1 for row in rows) == 11"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_data_card_counts_and_shows(tars_of_given: Path) -> None:
    card = (tars_of_given / CARD_FILE).read_text()
    assert len(blocks(tars_of_given / CARD_FILE)) == len(MODULES)
    assert "| samples | 11 |" in card
    shown = json.loads(card.split("```json\n")[1].partition("```")[0])
    assert (shown["id"], shown["conversation"][1]["value"]) == (0, "Thing 0.")


def test_a_readme_of_the_users_own_stays(tars_of_given: Path, tmp_path: Path) -> None:
    from mgtool.tars.card import describe

    folder = Path(shutil.copytree(tars_of_given, tmp_path / "tars"))
    urls = [str(tar) for tar in sorted(folder.glob("*.tar"))]
    (folder / CARD_FILE).write_text("# Mine\n")
    describe(folder, urls)
    assert (folder / CARD_FILE).read_text() == "# Mine\n"
    (folder / CARD_FILE).unlink()
    describe(folder, urls)
    assert (folder / CARD_FILE).read_bytes() == (tars_of_given / CARD_FILE).read_bytes()


def test_the_wids_lines_read_the_folder_they_run_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copies are called after the tars, which have the same names in every folder."""
    pytest.importorskip("wids")
    monkeypatch.setenv("WIDS_CACHE", str(tmp_path / "cache"))
    code = READERS["wids"].lines + '\nprint(rows[0][".json"]["image"], end="")'
    for name in ("china.jpg", "coffee.jpg"):
        given, folder = tmp_path / f"of {name}", tmp_path / name.removesuffix(".jpg")
        given.mkdir()
        shutil.copy(Path(__file__).parents[1] / "images" / name, given)
        mgtool.pack([mgtool.Source(given)], folder, mgtool.PackOptions(workers=1))
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        assert done.stdout == name, done.stderr
