"""The ablation: its variants begin alike, its intervals are Student's, its scores those of `mgtool eval`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ablation
import joints
import make
import pytest
import torch
from scipy import stats
from scores import Score, measure

from mgtool.model import MGLlavaForConditionalGeneration

COUNT = 6


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, untrained: Any) -> None:
    """Fusion and projectors learn from few pictures, for few steps."""
    monkeypatch.setattr(joints, "PICTURES", untrained.pictures)
    monkeypatch.setattr(joints, "BATCH", 16)
    monkeypatch.setattr(ablation, "JOINTS", 5)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, untrained: Any) -> Path:
    """A folder as train.sh leaves it, with untrained parts and `COUNT` scenes; what is found are the true boxes."""
    out = tmp_path_factory.mktemp("ablation")
    shutil.copytree(untrained.model, out / "begin")
    (out / "stage0").symlink_to(untrained.folder)
    make.write(out / "data/test", "test", COUNT)
    shutil.copytree(out / "data/test/boxes", out / "boxes/test")
    return out


@pytest.mark.parametrize("variant", ablation.VARIANTS, ids=lambda variant: variant.name)
def test_a_variant_keeps_towers_and_language_model(scenes: Path, tmp_path: Path, variant: ablation.Variant) -> None:
    ablation.begin(scenes / "begin", variant, 0, tmp_path)
    model = MGLlavaForConditionalGeneration.from_pretrained(tmp_path)
    trained = MGLlavaForConditionalGeneration.from_pretrained(scenes / "begin").state_dict()
    assert (model.config.fusion, model.config.boxes) == (variant.fusion, variant.boxes)
    assert (model.high_tower is None) == (variant.name == "low tower only")
    for name, value in model.state_dict().items():
        if name.startswith(("low_tower.", "high_tower.", "language_model.")):
            assert torch.equal(value, trained[name]), name


def test_seeds_differ_in_the_projectors(scenes: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        ablation.begin(scenes / "begin", ablation.VARIANTS[3], seed, tmp_path / str(seed))
    one, other = (MGLlavaForConditionalGeneration.from_pretrained(tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(one.projector[0].weight, other.projector[0].weight)


def test_the_interval_is_students() -> None:
    """Against scipy's own interval for a mean."""
    values = [70.0, 74.5, 71.0]
    mean, half = ablation.interval(values)
    low, high = stats.t.interval(0.95, 2, loc=71.8333333, scale=stats.sem(values))
    assert (mean - half, mean + half) == (pytest.approx(low), pytest.approx(high))


def test_table_and_plot(tmp_path: Path) -> None:
    runs = [{"position": Score(value, 1.0, 9), "caption (CIDEr)": Score(2 * value, 1.0, 9)} for value in (40, 50, 60)]
    found = {variant.name: runs for variant in ablation.VARIANTS}
    assert "| low + boxes | 50.0 ± 24.8 | 100.0 ± 49.7 |" in ablation.report(found)  # t(0.975, 2) 10 / sqrt(3)
    ablation.plot(found, tmp_path / "plot.svg")
    first = (tmp_path / "plot.svg").read_text()
    assert all(variant.name in first for variant in ablation.VARIANTS)
    ablation.plot(found, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text() == first


@pytest.mark.slow
def test_scores_come_from_infer_and_eval(scenes: Path, tmp_path: Path) -> None:
    """Every category is scored, and the number is the share of answers that are right."""
    found = measure(str(scenes / "begin"), scenes / "data/test", scenes / "boxes/test", tmp_path)
    assert set(found) > {"existence (F1)", "counting", "position", "naming", "caption (CIDEr)"}
    truth = json.loads((scenes / "data/test/answers.json").read_text())
    lines = (tmp_path / "questions/answers.jsonl").read_text().splitlines()
    answers: dict[str, Any] = {line["question_id"]: line["text"] for line in map(json.loads, lines)}
    asked = [key for key in truth if key.endswith("-counting")]
    right = sum(answers[key].strip().lower() == truth[key]["answer"] for key in asked)
    assert found["counting"] == (pytest.approx(100 * right / len(asked)), found["counting"].stderr, len(asked))
