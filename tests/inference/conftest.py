"""The conformance kit as models, questions and box files for `mgtool infer`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import parts_in

from mgtool.stages.import_model import import_model

TESTS = Path(__file__).parent.parent
KIT = TESTS / "conformance" / "mg_llava"
PHOTOS = TESTS / "images"


@pytest.fixture(scope="session")
def cases() -> list[dict[str, Any]]:
    return json.loads((KIT / "cases.json").read_text())


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, cases) -> dict[str, Path]:
    """A model folder for each template of the kit."""
    folder = tmp_path_factory.mktemp("models")
    templates = {case["template"] for case in cases}
    for template in templates:
        parts = parts_in(KIT, template=template)
        import_model(parts, folder / template)
    return {template: folder / template for template in templates}


@pytest.fixture
def infer(mgtool, models, tmp_path):
    """Run `mgtool infer` quietly; gives the exit code, the answers and stderr."""

    def run(*arguments: object, out: str = "answers.jsonl", model: str = "vicuna"):
        path = tmp_path / out
        fixed = ("--model", models[model], "--out", path, "--device", "cpu", "-q")
        code, _, stderr = mgtool("infer", *fixed, *arguments)
        return code, lines(path) if path.is_file() and code in (0, 3) else [], stderr

    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def write(tmp_path):
    """Write records as JSON lines."""

    def write(name: str, records: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture
def kit_files(tmp_path, write):
    """A question file and the published box list, keyed by question, of some cases."""

    def make(chosen: list[dict[str, Any]]) -> tuple[Path, Path]:
        questions = [
            {"question_id": case["key"], "image": case["image"], "text": case["question"], "category": "kit"}
            for case in chosen
        ]
        boxes = tmp_path / "boxes.json"
        boxes.write_text(json.dumps([{"id": case["key"], **case["box"]} for case in chosen]))
        return write("questions.jsonl", questions), boxes

    return make
