"""Judged benchmarks, asked over a real HTTP server that misbehaves."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from judges import JudgeServer, judge_at, mm_vet, score

from mgtool import benchmarks
from mgtool.errors import UsageError
from mgtool.evaluation import judge_models
from mgtool.evaluation.options import EvalOptions
from mgtool.scoring import predictions
from mgtool.scoring.benchmark import JudgeRequest
from mgtool.scoring.ground_truth import Truth
from mgtool.stages import evaluate as stage


def test_a_server_that_misbehaves(bench, serve, value, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server = serve(lambda prompt: "0.5", "429", "500", "cut off", "hang up", "slow")
    judge = judge_at(server, bench.folder)
    run = score(bench, "mm-vet", [mm_vet(bench)], {0: "x", 1: "x", 2: "z"}, judge)
    assert value(run, "total") == 50
    assert {key: metric.value for key, metric in run.result.breakdown["capability"].items()} == {
        "math": 50,
        "ocr": 50,
        "rec": 50,
    }
    assert set(server.seen.values()) == {5}  # four failures each, then the slow answer
    assert server.keys == {"Bearer sk-secret"}
    kept = (bench.folder / "judge.jsonl").read_text()
    assert kept.count("\n") == 3
    assert "sk-secret" not in kept
    again = judge_at(server, bench.folder)
    before = len(server.bodies)
    assert value(score(bench, "mm-vet", [mm_vet(bench)], {0: "x", 1: "x", 2: "z"}, again), "total") == 50
    assert (len(server.bodies), again.asked) == (before, 0)


def test_a_torn_journal_asks_again_only_for_what_is_lost(bench, serve, value) -> None:
    server = serve(lambda prompt: "1.0")
    score(bench, "mm-vet", [mm_vet(bench)], {0: "x", 1: "x", 2: "z"}, judge_at(server, bench.folder))
    journal = bench.folder / "judge.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    again = judge_at(server, bench.folder)
    assert value(score(bench, "mm-vet", [mm_vet(bench)], {0: "x", 1: "x", 2: "z"}, again), "total") == 100
    assert again.asked == 1


def test_only_new_replies_advance(bench, serve, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    truth, url = mm_vet(bench), serve(lambda prompt: "1.0").url
    said = bench.write("said.json", {f"v1_{n}": "x" for n in range(3)})
    options = EvalOptions("mm-vet", ground_truth=[truth], judge="openai:m", judge_url=url)
    seen: list[int] = []
    for _ in range(2):
        run = stage.evaluate(said, options, bench.folder / "out", advance=seen.append)
        assert run.result.metrics["total"].value == 100
    assert seen == [1, 1, 1]


def test_the_temperature_rises_and_what_cannot_be_read_counts_as_0(bench, serve, value) -> None:
    server = serve(lambda prompt: "quite good" if "| z |" in prompt else "1.0")
    run = score(bench, "mm-vet", [mm_vet(bench)], {0: "x", 1: "x", 2: "z"}, judge_at(server, bench.folder))
    assert value(run, "total") == pytest.approx(200 / 3)
    assert run.result.notes == ["1 replies of the judge could not be read: they count as 0"]
    heats = [body["temperature"] for body in server.bodies if "| z |" in body["messages"][-1]["content"]]
    assert heats == [0.0, 0.0, 0.5, 1.0, 1.5]
    assert {body["max_tokens"] for body in server.bodies} == {3}


def test_a_server_that_never_answers_is_counted(bench, serve) -> None:
    server = serve(lambda prompt: "1.0", *["503"] * 50)
    run = score(bench, "mm-vet", [mm_vet(bench)], {0: "x"}, judge_at(server, bench.folder))
    assert run.scores[0].fields["unread"]
    assert max(server.seen.values()) == judge_models.ATTEMPTS
    assert not (bench.folder / "judge.jsonl").exists()


def test_a_refusal_is_one_line(bench, serve) -> None:
    server = serve(lambda prompt: "1.0", *["404"] * 9)
    with pytest.raises(UsageError, match="refuses: 404 no such model"):
        score(bench, "mm-vet", [mm_vet(bench)], {0: "x"}, judge_at(server, bench.folder))


def test_several_at_a_time(bench, serve) -> None:
    server = serve(lambda prompt: "ok", "slow")
    judge = judge_at(server, bench.folder, workers=4)
    requests = [JudgeRequest(user=f"number {n}") for n in range(8)]
    assert judge.ask([*requests, requests[0]]) == ["ok"] * 9
    assert 1 < server.most_at_once <= 4
    assert sum(server.seen.values()) == 8  # the same question is asked once
    judge.journal.close()


def test_no_judge_is_one_line(bench) -> None:
    with pytest.raises(UsageError, match="needs a judge: add `judge` openai:MODEL"):
        score(bench, "mm-vet", [mm_vet(bench)], {0: "x"}, None)
    with pytest.raises(UsageError, match="give openai:MODEL or hf:PATH"):
        judge_models.backend(EvalOptions(judge="gpt-4"))


def test_counting_asks_nobody(bench) -> None:
    benchmark = benchmarks.get("mm-vet")
    items = benchmark.load(Truth((mm_vet(bench),)))
    counting = judge_models.CountingJudge()
    benchmark.grade([(item, predictions.Prediction(id=item.id, text="x")) for item in items], "official", counting)
    assert counting.requests == 3
    assert counting.tokens > 3 * 300


def test_variants_are_explained_with_the_judge(mgtool, bench, serve, monkeypatch) -> None:
    rows = "Index,Question,Options,Correct Answer\n1,Is it?,(a) Open (b) Closed,(a)\n2,Is it?,(a) Open (b) Closed,(b)\n"
    truth = bench.write("Questions.csv", rows)
    answers = bench.write("answers.jsonl", [{"question_id": 1, "text": "A"}, {"question_id": 2, "text": "A"}])
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    judge = ("--judge", "openai:m", "--judge-url", serve(lambda prompt: "yes").url, "--out", bench.folder / "out")
    options = (answers, "--benchmark", "mmvp", "--ground-truth", truth, "--explain-variants", "--json")
    code, out, _ = mgtool("eval", *options, *judge)
    assert code == 0
    (item,) = json.loads(out)["items"]  # the rules read A, the judge calls both right
    assert (item["question_id"], item["scores"]) == (2, {"official": 1, "vlmevalkit": 0, "lmms-eval": 0})


@pytest.mark.parametrize("name", ["pope", "mme", "hallusionbench"])
def test_a_judge_that_would_not_be_asked_is_refused(bench, name: str) -> None:
    options = EvalOptions("mmstar", ground_truth=[bench.write("x.tsv", "")], judge="openai:m")
    with pytest.raises(UsageError, match=r"is not asked by mmstar \(official\); `variant` vlmevalkit does"):
        stage.evaluate(bench.write("a.jsonl", [{"question_id": 1, "text": "A"}]), options, bench.folder / "out")
    assert benchmarks.get(name).asks_judge("vlmevalkit")
    assert not benchmarks.get("vqav2").asks_judge("official")


class ThinkingServer(JudgeServer):
    """A judge of the newer kind: it refuses `max_tokens` and every temperature, and thinks before it answers."""

    def refusal(self, body: dict[str, Any]) -> dict[str, Any] | None:
        for name in ("max_tokens", "temperature"):
            if name in body:
                known = {"message": f"Unsupported: '{name}'"}  # some servers name it in words alone
                return known if name == "temperature" else {"error": {**known, "param": name}}
        return None


def test_a_newer_judge_is_asked_without_what_it_refuses(bench, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    server = ThinkingServer(lambda prompt: "1.0", [])
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    said = bench.write("said.json", {f"v1_{n}": "x" for n in range(3)})
    options = EvalOptions(
        "mm-vet", ground_truth=[mm_vet(bench)], judge="openai:m", judge_url=server.url, judge_workers=1
    )
    ways = ["with `max_completion_tokens` in place of `max_tokens`", "without `temperature`"]
    ways.append("with room for 1,024 tokens at least")
    for asked in (6, 0):  # both refusals, the empty reply, then each question once; the second run asks nothing
        server.bodies.clear()
        run = stage.evaluate(said, options, bench.folder / "out")
        assert (run.result.metrics["total"].value, len(server.bodies)) == (100, asked)
        assert run.result.notes == [f"the judge was asked otherwise than the original asks: {', '.join(ways)}"]
        assert json.loads((bench.folder / "out/run.json").read_bytes())["inputs"]["judge_asked_otherwise"] == ways
    server.shutdown()
    server.server_close()


def test_a_local_judge(tmp_path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<unk>", "is", "it", "red", "yes", "no"])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>").save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path)
    requests = [JudgeRequest(user="is it red", max_tokens=4), JudgeRequest(user="it is", max_tokens=4)]
    backend = judge_models.backend(EvalOptions(judge=f"hf:{tmp_path}"))
    first, second = list(backend.replies(requests)), list(backend.replies(requests))
    assert first == second
    assert [place for place, _ in first] == [0, 1]
    assert all(set(text.split()) <= set(words) for _, text in first)
