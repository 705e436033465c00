"""`--preset mg-llava`: one command from pictures to the box file that the published model was trained with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_transformers as tiny
import torch
from PIL import Image
from transformers import Owlv2ForObjectDetection, Owlv2Processor
from typer.testing import CliRunner, Result

from mgtool.commands.main import app
from mgtool.errors import CheckpointError, ResumeError, UsageError

TESTS = Path(__file__).parents[1]
IMAGES = TESTS / "images"
KIT = TESTS / "conformance" / "ram_plus"
TAGS = {case["image"]: case["tags"].split(" | ") for case in json.loads((KIT / "cases.json").read_text())}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    """A folder with what one downloads, under the names that it has there."""
    folder = tmp_path_factory.mktemp("downloads")
    for file in KIT.iterdir():
        (folder / file.name.replace("ram_plus_tiny", "ram_plus_swin_large_14m")).symlink_to(file)
    tiny.owl("owlv2", folder / "owlv2-large-patch14-ensemble")
    return folder


def _detect(*args: object, env: dict[str, str] | None = None) -> Result:
    arguments = [*map(str, args), "--workers", "0", "--device", "cpu", "-q"]
    done = CliRunner().invoke(app, ["detect", *arguments], env=env)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def _published(folder: Path, name: str) -> dict[str, Any]:
    """The published procedure, word for word."""
    processor, model = Owlv2Processor.from_pretrained(folder), Owlv2ForObjectDetection.from_pretrained(folder)
    picture, tags = Image.open(IMAGES / name).convert("RGB"), TAGS[name]
    if tags == [""]:
        return {"id": name, "boxes": [], "scores": [], "labels": []}
    inputs = processor(text=[[f"a photo of {tag.lower()}" for tag in tags]], images=picture, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (found,) = processor.post_process_grounded_object_detection(
        outputs, threshold=0.2, target_sizes=torch.tensor([picture.size[::-1]]), text_labels=[tags]
    )
    order = found["scores"].argsort(descending=True, stable=True).tolist()
    return {
        "id": name,
        "boxes": [[int(side) for side in found["boxes"][row].tolist()] for row in order],
        "scores": [pytest.approx(found["scores"][row].item(), abs=1e-6) for row in order],
        "labels": [found["text_labels"][row] for row in order],
    }


def test_one_command_makes_the_published_box_file(downloads: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(downloads)
    _detect(IMAGES, "--preset", "mg-llava", "--out", tmp_path / "out", "--batch-size", 2)
    text = (tmp_path / "out" / "boxes.json").read_text()
    expected = [_published(downloads / "owlv2-large-patch14-ensemble", name) for name in sorted(TAGS)]
    assert json.loads(text) == expected
    assert any(entry["boxes"] for entry in expected)
    assert all(type(side) is int for entry in json.loads(text) for box in entry["boxes"] for side in box)


def test_what_is_given_wins_over_the_preset(downloads: Path, tmp_path: Path) -> None:
    ram, owl = (
        f"ram++:{downloads / 'ram_plus_swin_large_14m.pth'}",
        f"owlv2:{downloads / 'owlv2-large-patch14-ensemble'}",
    )
    args = (IMAGES, "--preset", "mg-llava", "--tagger", ram, "--detector", owl)
    _detect(*args, "--out", tmp_path / "flag", "--threshold", 0.9, "--format", "jsonl")
    records = [json.loads(line) for line in (tmp_path / "flag" / "boxes-000000.jsonl").read_text().splitlines()]
    assert all(score > 0.9 for record in records for score in record["scores"])
    assert [record["tags"] for record in records] == [[tag for tag in TAGS[name] if tag] for name in sorted(TAGS)]
    config = tmp_path / "mgtool.toml"
    config.write_text("[detect]\nthreshold = 0.9\n")
    _detect(*args, "--out", tmp_path / "config", "--config", config)
    published = json.loads((tmp_path / "config" / "boxes.json").read_text())
    assert [entry["scores"] for entry in published] == [record["scores"] for record in records]
    with pytest.raises(ResumeError):
        _detect(*args, "--out", tmp_path / "config", env={"MGTOOL_THRESHOLD": "0.5"})


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UsageError, match="`preset` paper: give mg-llava"):
        _detect(IMAGES, "--preset", "paper", "--out", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"ram_plus_swin_large_14m\.pth: no such file; download"):
        _detect(IMAGES, "--preset", "mg-llava", "--out", tmp_path / "out")
    Path("ram_plus_swin_large_14m.pth").touch()  # unreadable: it would be said, were it looked into first
    with pytest.raises(CheckpointError, match=r"owlv2-large-patch14-ensemble: no config\.json there"):
        _detect(IMAGES, "--preset", "mg-llava", "--out", tmp_path / "out")
