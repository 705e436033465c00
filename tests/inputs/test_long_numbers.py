"""Numbers of thousands of digits where readers look for one: Python reads none of more than 4,300."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgtool.detectors.ram_plus_model import from_published
from mgtool.inputs import sources
from mgtool.records import LeftOut, Sample
from mgtool.scoring import ground_truth
from mgtool.tars import foreign
from mgtool.tars.members import _extended
from mgtool.training.output import CHECKPOINTS, last_checkpoint

DIGITS = "9" * 5000


def test_a_column_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text(f"index\tquestion\timage_{DIGITS}\n1\tWhat?\tx.jpg\n")
    [item] = sources.read_samples([str(tmp_path / "q.tsv")])
    assert isinstance(item, Sample)


def test_ids_labels_and_headers() -> None:
    assert ground_truth.whole(DIGITS) == DIGITS
    found: dict[str, object] = {}
    foreign.keep_texts("k", {"cls": DIGITS.encode()}, found, LeftOut())
    assert found == {"cls": DIGITS}
    assert _extended(b"x", DIGITS.encode() + b" path=x\n") == {}


def test_names_of_weights() -> None:
    for name in (
        "visual_encoder.layers.0",
        f"visual_encoder.layers.{DIGITS}.downsample.x",
        "tagging_head.encoder.layer.",
    ):
        assert from_published({name: 1}) == {name: 1}
    assert from_published({"visual_encoder.layers.0.downsample.norm.weight": 1}) == {
        "visual_encoder.layers.1.downsample.norm.weight": 1
    }


@pytest.mark.parametrize("name", ["checkpoint-x", "checkpoint-", "checkpoint-" + "9" * 200])
def test_folders_beside_checkpoints(name: str, tmp_path: Path) -> None:
    for folder in (name, "checkpoint-7"):
        (tmp_path / CHECKPOINTS / folder).mkdir(parents=True)
        (tmp_path / CHECKPOINTS / folder / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / CHECKPOINTS / "checkpoint-7"
