"""What a judge may cost, what it did cost, and how fast it is asked: over a real server, and by a clock of our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from judges import JudgeServer, mm_vet

from mgtool.errors import UsageError
from mgtool.evaluation import judge_models
from mgtool.evaluation.judge_costs import JudgeBudget, JudgePace, JudgePrice, TokenUse
from mgtool.evaluation.options import EvalOptions
from mgtool.scoring.benchmark import JudgeRequest

ROOM = 500
"""Fewer tokens than one question of MM-Vet needs, as far as can be told before it is asked."""


class CountingServer(JudgeServer):
    def beside(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 1000, "completion_tokens": 20}}


@pytest.fixture
def counting() -> Iterator[CountingServer]:
    server = CountingServer(lambda prompt: "quite good" if "| z |" in prompt else "1.0", [])
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def asked(mgtool, bench, counting, monkeypatch):
    """Scores MM-Vet's three questions with a judge; gives the exit code, scores.json and what was said."""
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    truth, out = mm_vet(bench), bench.folder / "out"
    judge = ("--judge", "openai:m", "--judge-url", counting.url, "--judge-workers", "1", "--out", out)

    def run(*options: str, said: str = "x") -> tuple[int, dict[str, Any], str]:
        answers = bench.write("said.json", {"v1_0": "x", "v1_1": "x", "v1_2": said})
        code, _, err = mgtool("eval", answers, "--benchmark", "mm-vet", "--ground-truth", truth, *judge, *options)
        scores = out / "scores.json"
        return code, json.loads(scores.read_bytes()) if scores.is_file() else {}, " ".join(err.split())

    return run


def test_tokens_and_cost_are_told(asked) -> None:
    code, scores, said = asked("--judge-price", "2.5/10")
    assert code == 0
    expected = {"name": "openai:m", "replies": 3, "asked": 3, "failed": 0, "over_budget": 0}
    assert scores["judge"] == {**expected, "tokens": {"prompt": 3000, "reply": 60}, "cost_usd": 0.0081}
    assert "judge openai:m: 3 replies; 3,000 tokens read and 60 written; 0.01 USD" in said
    _, again, said = asked()
    assert again["judge"] == {**expected, "asked": 0, "tokens": {"prompt": 0, "reply": 0}, "cost_usd": None}
    assert "3 replies, 3 of them kept" in said


def test_a_spent_budget_ends_the_questions_and_a_larger_one_goes_on(asked, counting, bench) -> None:
    code, scores, said = asked("--judge-budget", str(1000 + 20 + ROOM))
    assert (code, len(counting.bodies)) == (3, 1)
    assert (scores["judge"]["failed"], scores["judge"]["over_budget"], scores["counts"]["unjudged"]) == (2, 2, 2)
    assert "--judge-budget 1520 is spent: 2 questions were not asked" in said
    failures = [json.loads(line) for line in (bench.folder / "out/failures.jsonl").read_text().splitlines()]
    assert [(line["id"], line["stage"], line["reason"]) for line in failures] == [
        ("v1_1", "eval", "model_error"),
        ("v1_2", "eval", "model_error"),
    ]
    code, scores, _ = asked("--judge-budget", "1usd", "--judge-price", "2.5/10")
    assert (code, len(counting.bodies), scores["metrics"]["total"]["value"]) == (0, 3, 100)
    assert (bench.folder / "out/failures.jsonl").read_text() == ""


def test_a_reply_that_cannot_be_read_is_a_failure(asked) -> None:
    code, scores, said = asked(said="z")
    assert (code, scores["counts"]["unjudged"]) == (3, 1)
    assert "1 unjudged" in said
    assert asked("--allow-failures", "1", said="z")[0] == 0


def test_a_server_that_speaks_nonsense_is_asked_again(bench, serve) -> None:
    server = serve(lambda prompt: "1.0", "nonsense", "429", "slow")
    backend = judge_models.OpenAiBackend("m", server.url, 2, first_wait_s=0.001)
    assert list(backend.replies([JudgeRequest(user="a question")])) == [(0, "1.0")]
    assert backend.tokens == {0: TokenUse(prompt=3, reply=1)}  # about: this server counts none


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


def test_the_rate_is_kept_and_a_busy_server_left_alone() -> None:
    clock = Clock()
    pace = JudgePace(120, clock, clock.sleep)
    for _ in range(3):
        pace.wait()
    assert clock.slept == [0.5, 0.5]
    pace.hold(7.0)
    pace.wait()
    assert clock.slept[2:] == [7.0]
    free = JudgePace(0, clock, clock.sleep)
    free.wait()
    free.wait()
    assert len(clock.slept) == 3


def test_a_budget_reserves_the_most_and_keeps_what_was_used() -> None:
    request = JudgeRequest(user="x" * 400, max_tokens=100)  # 101 tokens to read, as far as can be told
    budget = JudgeBudget("0.5k")
    first, second = budget.reserve(request), budget.reserve(request)
    assert first is not None
    assert second is not None
    assert budget.reserve(request) is None
    budget.settle(first, TokenUse(prompt=90, reply=5))
    assert budget.reserve(request) is not None
    assert budget.refused == 1
    money = JudgeBudget("0.001usd", JudgePrice(2.0, 10.0))
    assert money.reserve(request) is None  # 101 * 2 + 100 * 10 millionths
    assert JudgeBudget().reserve(request) is not None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"judge_budget": "5 apples"}, "judge_budget` 5 apples: give tokens"),
        ({"judge_budget": "5usd"}, "in dollars needs `judge_price`"),
        ({"judge_price": "3"}, "judge_price` 3: give US dollars"),
        ({"judge_rate": -1.0}, "judge_rate` -1.0"),
    ],
)
def test_a_wrong_limit_is_one_line(tmp_path, options: dict[str, Any], says: str) -> None:
    def begin() -> None:
        with judge_models.kept_judge(EvalOptions("mm-vet", judge="openai:m", **options), tmp_path, lambda n: None):
            pass

    with pytest.raises(UsageError, match=says):
        begin()
