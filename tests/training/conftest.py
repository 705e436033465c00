"""A tiny model on disk, and coloured squares packed with a question each."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from tiny_models import KIT, tiny_config, tiny_model
from transformers import AutoTokenizer

from mgtool.model import MGLlavaProcessor

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_model(tiny_config()).save_pretrained(folder)
    MGLlavaProcessor(AutoTokenizer.from_pretrained(KIT / "llm"), image_size=96).save_pretrained(folder)
    return folder


@pytest.fixture
def pack(tmp_path: Path, mgtool):
    """Pack one conversation for each colour, some of them spoilt, and some of text alone; gives the folder of tars."""

    def make(
        name: str = "tars", *, colours: tuple[str, ...] = COLOURS, unanswered: tuple[str, ...] = (), texts: int = 0
    ) -> Path:
        pictures = tmp_path / "pictures"
        pictures.mkdir(exist_ok=True)
        conversations = []
        for colour in colours:
            buffer = io.BytesIO()
            Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
            (pictures / f"{colour}.png").write_bytes(buffer.getvalue())
            turns = [{"from": "human", "value": "<image>\nWhich colour?"}, {"from": "gpt", "value": colour}]
            turns = turns[:1] if colour in unanswered else turns
            conversations.append({"id": colour, "image": f"{colour}.png", "conversations": turns})
        for number in range(texts):
            turns = [{"from": "human", "value": f"Which number is {number}?"}, {"from": "gpt", "value": f"{number}"}]
            conversations.append({"id": f"text-{number}", "conversations": turns})
        (tmp_path / "train.json").write_text(json.dumps(conversations))
        out = tmp_path / name
        code, _, stderr = mgtool("pack", tmp_path / "train.json", "--images", pictures, "--out", out, "-q")
        assert code == 0, stderr
        return out

    return make
