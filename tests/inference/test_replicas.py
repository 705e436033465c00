"""Runs over several processes, shares, reused answers, and what batching costs: always the same answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from mgtool.inference import replicas
from mgtool.inference.answer_cache import AnswerCache, KeptAnswer
from mgtool.inference.grouping import Prompt
from mgtool.inference.replicas import chunked
from mgtool.records import Media, Sample

PHOTOS = Path(__file__).parent.parent / "images"


@pytest.fixture
def questions(write) -> Path:
    """Forty questions about three pictures, with one that cannot be asked."""
    names = ["coffee.jpg", "china.jpg", "rocket.jpg"]
    names = [name for name in names if (PHOTOS / name).exists()]
    records = [{"question_id": n, "image": names[n % len(names)], "text": f"What is {n}?"} for n in range(40)]
    records[17]["image"] = "gone.jpg"
    return write("q.jsonl", records)


@pytest.fixture
def ask(mgtool, models, questions, tmp_path):
    """Run over the questions; gives the exit code, the bytes of the answers and stderr."""

    def run(name: str, *options: object, device: str = "cpu"):
        out = tmp_path / name / "answers.jsonl"
        arguments = ("--images", PHOTOS, "--boxes", "off", "--model", models["vicuna"], "--max-new-tokens", 3, *options)
        code, _, stderr = mgtool("infer", questions, *arguments, "--out", out, "--device", device, "-q")
        return code, out.read_bytes() if out.exists() else b"", stderr

    return run


def test_several_devices_give_the_bytes_of_one(ask, tmp_path):
    code, one, _ = ask("one")
    assert (code, one.count(b"\n")) == (3, 39)
    assert ask("two", device="cpu,cpu") == (3, one, "")
    failures = [(tmp_path / name / "failures.jsonl").read_bytes() for name in ("one", "two")]
    assert failures[0] == failures[1]
    stages = json.loads((tmp_path / "two" / "run.json").read_text())["times"]["stages"]
    assert all(stages["seconds"][name] > 0 for name in ("towers", "prefill", "decode"))


@pytest.mark.slow
def test_a_split_model_gives_the_answers_of_a_whole_one(ask):
    assert ask("split", "--tensor-parallel", 2) == ask("whole")


def test_a_mistake_that_a_worker_finds_is_one_line(ask, models, tmp_path):
    weights = tmp_path / "broken"
    weights.mkdir()
    for file in models["vicuna"].iterdir():
        if file.is_file():
            (weights / file.name).write_bytes(
                file.read_bytes()[:5000] if "safetensors" in file.name else file.read_bytes()
            )
    code, answers, stderr = ask("broken", "--model", weights, device="cpu,cpu")
    assert (code, answers, stderr.count("\n")) == (2, b"", 1)
    assert "cannot be loaded" in stderr


def test_a_ray_cluster_gives_the_bytes_of_one(ask, tmp_path):
    pytest.importorskip("ray")
    code, one, _ = ask("one")
    assert ask("ray", "--engine", "ray", "--ray-address", "local", "--world-size", 2) == (code, one, "")
    files = [tmp_path / name / "failures.jsonl" for name in ("one", "ray")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert ask("ray") == (code, one, "")  # the same run: nothing is left to answer
    assert ask("ray", "--temperature", 1)[0] == 2


def test_shares_join_to_the_whole(ask, monkeypatch, tmp_path):
    whole = ask("whole")[1]
    for rank in range(3):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        monkeypatch.setenv("SLURM_NTASKS", "3")
        ask("shares", "--rank", "slurm")
    shares = sorted((tmp_path / "shares").glob("answers-?????-of-00003.jsonl"))
    assert len(shares) == 3
    assert b"".join(share.read_bytes() for share in shares) == whole
    failures = [path.read_bytes() for path in (tmp_path / "shares").glob("*.failures.jsonl")]
    assert failures == [(tmp_path / "whole" / "failures.jsonl").read_bytes()]
    monkeypatch.delenv("SLURM_PROCID")
    code, _, stderr = ask("shares", "--rank", "slurm")
    assert (code, "SLURM_PROCID" in stderr) == (2, True)


def test_answers_of_earlier_runs_need_no_model(ask, models, tmp_path):
    options = ("--temperature", 0.9, "--logprobs", "--num-samples", 2)
    cache = ("--cache", tmp_path / "cache")
    plain = ask("plain", *options)[1]
    assert ask("first", *options, *cache)[1] == plain
    weights = next(models["vicuna"].glob("*.safetensors"))
    aside = weights.rename(weights.with_suffix(".aside"))
    try:
        assert ask("second", *options, *cache) == (3, plain, "")
        assert ask("third", *options, *cache, "--seed", 1)[0] == 2
    finally:
        aside.rename(weights)


@pytest.mark.slow
def test_a_cache_serves_several_processes(ask, tmp_path):
    cache = ("--cache", tmp_path / "cache")
    assert ask("both", *cache, device="cpu,cpu")[1] == ask("again", *cache)[1] == ask("without")[1]


def test_a_settled_cache_finds_what_was_there_when_it_was_opened(tmp_path):
    def prompt(name: str) -> Prompt:
        return Prompt(0, Sample(id=name), "Who?", [len(name)], ())

    answers = [KeptAnswer("A cup", "stop", 3)]
    with closing(AnswerCache(tmp_path, {}, by_id=False)) as first:
        first.add(prompt("a"), answers)
        with closing(AnswerCache(tmp_path, {}, by_id=False, settled=True)) as settled:
            first.add(prompt("bb"), answers)
            settled.add(prompt("ccc"), answers)
            assert [settled.find(prompt(name)) for name in ("a", "bb", "ccc")] == [answers, None, None]
        assert [first.find(prompt(name)) for name in ("a", "bb", "ccc")] == [answers] * 3


def test_a_run_killed_between_a_questions_answers_draws_them_again(ask, tmp_path):
    options = ("--temperature", 0.9, "--num-samples", 3)
    whole = ask("whole", *options)[1]
    folder = tmp_path / "whole"
    lines = whole.splitlines(keepends=True)
    (folder / "answers.jsonl").unlink()
    (folder / "answers.jsonl.partial").write_bytes(b"".join(lines[:10]))
    run = json.loads((folder / "run.json").read_bytes())
    run["times"].pop("finished")
    (folder / "run.json").write_text(json.dumps(run))
    assert ask("whole", *options) == (3, whole, "")


def test_parity_is_reported_and_nothing_written(mgtool, models, questions):
    arguments = ("--images", PHOTOS, "--boxes", "off", "--model", models["vicuna"], "--device", "cpu", "--json")
    code, out, _ = mgtool("infer", questions, *arguments, "--max-new-tokens", 4, "--check-parity", 20)
    parity = json.loads(out)
    assert (code, parity["samples"], parity["equal"]) == (0, 19, 1.0)
    assert 0 < parity["largest_difference"] < 1e-3
    arguments = (*arguments, "--dtype", "bfloat16", "--max-new-tokens", 4, "--check-parity", 20)
    rough = json.loads(mgtool("infer", questions, *arguments)[1])
    assert rough["largest_difference"] > parity["largest_difference"]
    exact = json.loads(mgtool("infer", questions, *arguments, "--deterministic")[1])
    assert (exact["equal"], exact["largest_difference"]) == (1.0, 0.0)


def test_deterministic_answers_do_not_depend_on_batches(ask):
    options = ("--deterministic", "--dtype", "bfloat16", "--logprobs")
    one = ask("one", *options, "--batch-size", 1)
    assert one == ask("many", *options, "--batch-size", 32)


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_the_run_goes_on_later(ask, models, questions, tmp_path):
    long = ("--batch-size", 1, "--max-new-tokens", 30)  # so that it is not over before it is killed
    whole = ask("whole", *long)[1]
    out = tmp_path / "killed" / "answers.jsonl"
    command = [sys.executable, "-m", "mgtool.commands.main", "infer", questions, "--images", PHOTOS, "--boxes", "off"]
    command += ["--model", models["vicuna"], *long, "--out", out, "-q"]
    run = subprocess.Popen(list(map(str, [*command, "--device", "cpu,cpu"])), stderr=subprocess.PIPE, text=True)
    partial = out.with_name("answers.jsonl.partial")
    while run.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.01)
    serving = [child for child in psutil.Process(run.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    serving[0].kill()
    stderr = run.communicate(timeout=60)[1]
    assert (run.returncode, stderr.count("\n"), "was killed" in stderr) == (2, 1, True)
    assert not out.exists()
    assert ask("killed", *long)[1] == whole


def test_unordered_answers_are_the_same_ones(mgtool, models, questions):
    command = ["infer", questions, "--images", PHOTOS, "--boxes", "off", "--model", models["vicuna"]]
    command += ["--max-new-tokens", 3, "--out", "-", "--device", "cpu", "-q"]
    both = [mgtool(*command, *more) for more in ([], ["--unordered"])]
    assert [code for code, _, _ in both] == [3, 3]
    ordered, unordered = (stdout.splitlines() for _, stdout, _ in both)
    assert sorted(ordered) == sorted(unordered)
    assert [json.loads(line)["question_id"] for line in ordered] == [n for n in range(40) if n != 17]


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantised_models_answer(ask, bits):
    pytest.importorskip("torchao")
    pytest.importorskip("bitsandbytes")
    code, answers, stderr = ask("narrow", "--quantize", bits)
    assert (code, answers.count(b"\n"), stderr) == (3, 39, "")
    assert json.loads(answers.splitlines()[0])["tokens"] == 3


def test_a_device_map_changes_nothing(ask):
    assert ask("mapped", "--device-map", "auto") == ask("plain")


@pytest.mark.parametrize(
    "options",
    [
        ("--choices", "A,B", "--temperature", 1),
        ("--choices", "A,B", "--yes-no"),
        ("--unordered",),
        ("--rank", 2, "--world-size", 2),
        ("--rank", "first"),
        ("--device-map", "auto", "--tensor-parallel", 2),
        ("--quantize", "8bit", "--device-map", "auto"),
        ("--check-parity", 3, "--temperature", 1),
        ("--device-map", "balanced"),
        ("--system", "<image>"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(ask, options):
    code, answers, stderr = ask("mistake", *options)
    assert (code, answers, stderr.count("\n")) == (2, b"", 1)
    assert "--" in stderr


@pytest.mark.parametrize("device", ["cpu,cuda", "tpu", "cpu,"])
def test_devices_that_there_are_not_are_one_line(ask, device):
    code, answers, stderr = ask("mistake", device=device)
    assert (code, answers, stderr.count("\n"), f"--device {device}" in stderr) == (2, b"", 1, True)


def test_without_an_output_there_is_one_line(mgtool, models, questions):
    code, _, stderr = mgtool("infer", questions, "--model", models["vicuna"])
    assert (code, stderr.count("\n"), "--out" in stderr) == (2, 1, True)


def test_a_process_waits_for_one_that_is_far_behind(monkeypatch):
    monkeypatch.setattr(replicas, "FURTHEST", 2000)
    handing = replicas.Chunks(((at, Sample(id=at)) for at in range(5, 10_005)), 2, is_split=False)
    answered: list[int] = []

    def answer(chunk):
        for at, _ in chunk:
            handing.finish(at)
            answered.append(at)

    slow = handing.take(0)
    assert slow[0][0] == 5
    while handing.is_due(1):
        answer(handing.take(1))
    assert 2000 <= max(answered) < 2005 + replicas.CHUNK
    answer(slow)
    ended = False
    while not ended:
        assert handing.is_due(0) or handing.is_due(1)
        chunks = [handing.take(index) for index in (0, 1) if handing.is_due(index)]
        for chunk in chunks:
            answer(chunk or [])
        ended = not any(chunks)
    assert sorted(answered) == list(range(5, 10_005))


def test_a_pictures_questions_stay_in_one_chunk():
    def samples(*counts: int) -> list[tuple[int, Sample]]:
        names = [str(picture) for picture, count in enumerate(counts) for _ in range(count)]
        return [(at, Sample(id=at, images=(Media(name=name),))) for at, name in enumerate(names)]

    assert [len(chunk) for chunk in chunked(samples(30, 30, 30))] == [60, 30]
    assert [len(chunk) for chunk in chunked(samples(600, 1))] == [256, 256, 88, 1]
    text = [(at, Sample(id=at)) for at in range(70)]
    assert [chunk[0][0] for chunk in chunked(text)] == [0, 32, 64]
