"""Where a run's time goes, and its trace."""

from __future__ import annotations

import json

import pytest
import torch

import mgtool
from mgtool.errors import UsageError
from mgtool.inference.peaks import Peak, Work, peak_of, shares_of_peak
from mgtool.inference.stage_times import StageTimes
from mgtool.inputs.model_folders import model_folder
from mgtool.model import MGLlavaConfig, MGLlavaForConditionalGeneration

PICTURES = ("china.jpg", "coffee.jpg")


class Ticks:
    """A clock that a test moves; moments are over when they are asked for."""

    now = 0.0

    def mark(self) -> float:
        return self.now

    def is_over(self, moment: float) -> bool:
        return False

    def between(self, begin: float, end: float) -> float:
        return end - begin


def test_a_stage_within_another_counts_once():
    times = StageTimes(Ticks())
    with times.of("prefill"):
        times.clock.now += 1
        with times.of("towers"):
            times.clock.now += 5
        times.clock.now += 2
    with times.of("decode"):
        times.clock.now += 4
    assert times.measured()["seconds"] == {"towers": 5.0, "prefill": 3.0, "decode": 4.0}


def test_stages_of_several_processes_are_their_mean_and_counts_their_sum():
    times = StageTimes()
    for seconds in (2.0, 4.0):
        times.add(
            {
                "seconds": {"towers": seconds},
                **dict.fromkeys(("prefilled", "tokens", "steps", "cached"), 3),
                "pictures": 6,
            },
            2,
        )
    assert times.summary()["seconds"]["towers"] == 3.0
    assert times.summary()["per_second"] == {"pictures": 4.0}


@pytest.fixture
def ask(tmp_path):
    """Run two pictures with three questions each."""
    photos = str(model_folder("tiny").parents[2] / "tests" / "images")
    questions = tmp_path / "questions.jsonl"
    asked = [{"image": name, "text": f"What is it? {number}"} for name in PICTURES for number in range(3)]
    questions.write_text("".join(json.dumps({"question_id": n} | one) + "\n" for n, one in enumerate(asked)))

    def run(**options):
        wanted = mgtool.InferOptions(
            **({"model": "tiny", "images": photos, "device": "cpu", "max_new_tokens": 4} | options)
        )
        return mgtool.infer([questions], tmp_path / "answers.jsonl", wanted)

    return run


def test_a_run_tells_its_stages(ask, tmp_path):
    done = ask()
    assert list(done.stages["seconds"]) == ["pictures", "towers", "prefill", "decode", "host"]
    assert all(done.stages["seconds"][stage] > 0 for stage in ("towers", "prefill", "decode"))
    assert set(done.stages["per_second"]) == {"pictures", "prompt_tokens", "tokens"}
    assert json.loads((tmp_path / "run.json").read_text())["times"]["stages"] == done.stages
    assert "share_of_peak" not in done.stages
    assert ask().stages == {}


def test_a_trace_names_the_stages(ask, tmp_path, capfd):
    ask(profile=tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {event.get("name") for event in events}
    assert {"mgtool: towers", "mgtool: prefill", "mgtool: decode", "mgtool: pictures"} <= names
    assert not list(tmp_path.glob("*writing*"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("more", [{"device": "cpu,cpu"}, {"tensor_parallel": 2}, {"engine": "ray"}])
def test_a_trace_is_of_one_process(more, tmp_path):
    with pytest.raises(UsageError, match=r"`profile` and .* do not go together: a trace is of one process"):
        mgtool.InferOptions(model="tiny", profile=tmp_path / "trace.json", **more)


@pytest.mark.parametrize("path", [".", "s3://bucket/trace.json"])
def test_a_trace_is_a_file_here(path):
    with pytest.raises(UsageError, match="`profile`"):
        mgtool.InferOptions(model="tiny", profile=path)


def test_work_is_counted_from_the_configuration():
    config = MGLlavaConfig.from_pretrained(model_folder("tiny"))
    work = Work.of(config, torch.bfloat16)
    model = MGLlavaForConditionalGeneration.from_pretrained(model_folder("tiny"))
    weights = sum(one.numel() for one in model.language_model.parameters())
    assert (work.token_flop, work.weight_bytes) == (2 * weights, 2 * weights)
    patches = config.low_grid**2 * config.low_config.hidden_size * 3 * config.low_config.patch_size**2
    assert work.picture_flop > 2 * patches
    assert work.token_bytes == 2 * 4 * 3 * 64 * 2


def test_shares_of_a_peak():
    times = StageTimes(pictures=10, prefilled=100, tokens=8, steps=4, cached=400)
    times.seconds |= {"towers": 2.0, "prefill": 1.0, "decode": 0.5}
    work = Work(picture_flop=10**11, token_flop=10**9, weight_bytes=10**9, token_bytes=10**6)
    found = shares_of_peak(times, work, Peak(1, 0.5, 0.1), torch.bfloat16)
    assert found == {"towers": 0.5, "prefill": 0.1, "decode": 0.088}
    assert shares_of_peak(times, work, Peak(1, 0.5, 0.1), torch.float32)["towers"] == 1.0


@pytest.mark.parametrize(
    ("card", "terabytes"),
    [("NVIDIA H200", 4.8), ("NVIDIA H100 80GB HBM3", 3.35), ("NVIDIA L40S", 0.864), ("NVIDIA L4", 0.3)],
)
def test_peaks_go_by_the_name_of_the_card(card, terabytes):
    assert peak_of(card).terabytes == terabytes


def test_a_card_that_nobody_knows_has_no_peak():
    assert peak_of("NVIDIA GeForce 256") is None
