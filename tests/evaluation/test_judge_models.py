"""Judged benchmarks, asked over a real HTTP server that misbehaves."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mgtool import benchmarks
from mgtool.errors import InputError, UsageError
from mgtool.evaluation import judge_models, pipeline
from mgtool.evaluation.options import EvalOptions
from mgtool.evaluation.pipeline import ScoredRun
from mgtool.files.journal import Journal
from mgtool.scoring import predictions
from mgtool.scoring.benchmark import JudgeRequest
from mgtool.scoring.ground_truth import Truth
from mgtool.stages import evaluate as stage


class JudgeServer(ThreadingHTTPServer):
    """Answers with `reply(prompt)`, after the troubles of `troubles` at the first requests of each prompt."""

    daemon_threads = True

    def __init__(self, reply: Callable[[str], str], troubles: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), JudgeHandler)
        self.reply = reply
        self.troubles = troubles
        self.seen: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def refusal(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """What is wrong with a request; nothing, but for newer judges."""
        return None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/"


class JudgeHandler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        server = self.server
        with server.lock:
            turn = server.seen[prompt]
            server.seen[prompt] += 1
            server.bodies.append(body)
            server.keys.add(self.headers.get("Authorization"))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        trouble = server.troubles[turn] if turn < len(server.troubles) else ""
        if trouble == "slow":
            time.sleep(0.2)
        with server.lock:
            server.at_once -= 1  # before the answer: who has it may ask again at once
        self._answer(prompt, trouble, body)

    def _answer(self, prompt: str, trouble: str, body: dict[str, Any]) -> None:
        refusal = self.server.refusal(body)
        is_short = body.get("max_completion_tokens", 64) < 64
        choice = {"message": {"content": ""}, "finish_reason": "length"} if is_short else {}
        choice = choice or {"message": {"content": "" if refusal else self.server.reply(prompt)}}
        text = json.dumps(refusal or {"choices": [choice]}).encode()
        status = int(trouble) if trouble.isdigit() else 400 if refusal else 200
        if trouble == "hang up":
            self.close_connection = True
            return
        payload = b'{"error": {"message": "no such model"}}' if status == 404 else text
        payload = payload[: len(payload) // 2] if trouble == "cut off" else payload
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., JudgeServer]]:
    servers = []

    def start(reply: Callable[[str], str], *troubles: str) -> JudgeServer:
        server = JudgeServer(reply, list(troubles))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def judge_at(server: JudgeServer, folder: Path, *, workers: int = 4) -> judge_models.KeptJudge:
    backend = judge_models.OpenAiBackend("gpt-x", server.url, workers, first_wait_s=0.001)
    return judge_models.KeptJudge(backend, Journal(folder / "judge.jsonl"))


def score(
    bench,
    name: str,
    truth: list[Path],
    answers: dict[Any, str],
    judge: judge_models.KeptJudge | None,
    variant: str = "official",
) -> ScoredRun:
    benchmark = benchmarks.get(name)
    lines = [{"question_id": key, "text": text} for key, text in answers.items()]
    items = benchmark.load(Truth(tuple(truth)))
    try:
        return pipeline.score(
            benchmark,
            items,
            predictions.read(json.dumps(lines).encode(), where="a.json"),
            variant=variant,
            judge=judge,
        )
    finally:
        if judge is not None:
            judge.journal.close()


def mm_vet(bench):
    questions = {
        f"v1_{n}": {"question": f"q{n}", "answer": "x<AND>y", "capability": capability, "imagename": f"{n}.jpg"}
        for n, capability in enumerate((["ocr"], ["ocr", "math"], ["rec"]))
    }
    return bench.write("mm-vet.json", questions)


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


def test_llava_bench(bench, serve, value) -> None:
    asked = [
        {"question_id": n, "image": "1.jpg", "category": "conv" if n < 2 else "detail", "text": f"q{n}"}
        for n in range(3)
    ]
    truth = [
        bench.write("lb/questions.jsonl", asked),
        bench.write("lb/context.jsonl", [{"image": "1.jpg", "caption": "a cat"}]),
        bench.write("lb/answers_gpt4.jsonl", [{"question_id": n, "text": "reference"} for n in range(3)]),
    ]
    replies = {"q0": "8 6\nbecause", "q1": "9, 10", "q2": "8.0 4.0\n"}
    server = serve(lambda prompt: next(text for key, text in replies.items() if key in prompt))
    run = score(
        bench, "llava-bench", [truth[0].parent], dict.fromkeys(range(3), "model"), judge_at(server, bench.folder)
    )
    # "9, 10" splits into three cells and cannot be read: it is left out of both means; (6 + 4) / (8 + 8) = 62.5
    assert value(run, "score") == 62.5
    assert run.result.breakdown["category"]["conv"].value == 75
    assert "left out of both means" in run.result.notes[0]
    content = server.bodies[0]["messages"][-1]["content"]
    assert content.index("[Assistant 1]\nreference") < content.index("[Assistant 2]\nmodel")


def test_mmvp(bench, serve, value) -> None:
    rows = "Index,Question,Options,Correct Answer\n" + "".join(
        f"{n},Is it {n}?,(a) Open (b) Closed,(a)\n" for n in range(1, 5)
    )
    truth = bench.write("Questions.csv", rows)
    server = serve(lambda prompt: "No" if "answer:shut" in prompt else "yes")
    run = score(bench, "mmvp", [truth], {1: "open", 2: "open", 3: "open", 4: "shut"}, judge_at(server, bench.folder))
    assert (value(run, "accuracy"), value(run, "question_accuracy")) == (50, 75)
    plain = bench.score("mmvp", [truth], {1: "A.", 2: "Open", 3: "A", 4: "B"}, variant="vlmevalkit")
    assert (value(plain, "accuracy"), value(plain, "question_accuracy")) == (50, 75)


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
    assert (item["question_id"], item["scores"]) == (2, {"official": 1, "vlmevalkit": 0})


def test_video_qa(bench, serve, value) -> None:
    truth = [
        bench.write("test_q.json", [{"question_id": n, "question": f"q{n}?", "video_name": "v"} for n in range(3)]),
        bench.write("test_a.json", [{"question_id": n, "answer": "a cat"} for n in range(3)]),
    ]
    replies = {"q0": "{'pred': 'Yes!', 'score': 4.8}", "q1": "Sure: {'pred': 'No', 'score': 1}", "q2": "{'pred': yes}"}
    server = serve(lambda prompt: next(text for key, text in replies.items() if key in prompt))
    run = score(bench, "msvd-qa", truth, dict.fromkeys(range(3), "cat"), judge_at(server, bench.folder))
    assert value(run, "accuracy") == pytest.approx(100 / 3)
    assert value(run, "score") == pytest.approx(5 / 3)  # the original cuts 4.8 to 4
    assert "temperature" not in server.bodies[0]  # nor does it name a temperature


def test_a_reply_that_cannot_be_read_is_asked_for_again(bench, serve, value) -> None:
    replies = iter(["Hm.", "{'pred': 'yes', 'score': 4}", "Hm.", "Hm.", "B"])
    server = serve(lambda prompt: next(replies))
    truth = bench.write("q.json", [{"question_id": 1, "question": "q?", "answer": "a", "video_name": "v"}])
    run = score(bench, "msvd-qa", [truth], {1: "x"}, judge_at(server, bench.folder))
    assert (value(run, "accuracy"), value(run, "score")) == (100, 4)
    table = bench.write("S.tsv", [{"index": 1, "question": "?", "A": "cat", "B": "dog", "answer": "B"}])
    run = score(bench, "seedbench", [table], {1: "it barks"}, judge_at(server, bench.folder))
    assert (value(run, "accuracy"), sum(server.seen.values())) == (100, 5)
    again = judge_at(server, bench.folder)  # the journal tells the repeated questions apart
    assert value(score(bench, "seedbench", [table], {1: "it barks"}, again), "accuracy") == 100
    assert again.asked == 0


def test_a_choice_without_a_readable_reply_is_counted_as_the_judges(bench, serve) -> None:
    server = serve(lambda prompt: "Hm.")
    table = bench.write("S.tsv", [{"index": 1, "question": "?", "A": "cat", "B": "dog", "answer": "B"}])
    run = score(bench, "seedbench", [table], {1: "it barks"}, judge_at(server, bench.folder))
    assert run.result.notes == ["1 replies of the judge could not be read: they count as wrong"]
    assert sum(server.seen.values()) == 3


def test_vlmevalkit_asks_for_a_yes_or_no_hotter_and_hotter(bench, serve, value) -> None:
    replies = iter(["Unknown", "yes or no", "Yes"] + ["Unknown"] * 5 + ["B"])
    server = serve(lambda prompt: next(replies))
    rows = [
        {"index": n, "question": f"q{n}", "answer": "Yes", "category": "OCR", "image_path": f"OCR/{n}.jpg"}
        for n in (1, 2)
    ]
    truth = bench.write("MME.tsv", rows)
    judge = judge_at(server, bench.folder, workers=1)
    run = score(bench, "mme", [truth], {1: "It is", 2: "No"}, judge, variant="vlmevalkit")
    assert [item.score for item in run.scores] == [1, 0]
    assert [body["temperature"] for body in server.bodies] == [0.0, 0.5, 1.0]
    run = score(bench, "mme", [truth], {1: "Well", 2: "No"}, judge_at(server, bench.folder), variant="vlmevalkit")
    assert run.result.notes[-1] == "1 replies of the judge could not be read: they count as other, which is wrong"
    pairs = bench.write(
        "MMVP.tsv", [{"index": n, "question": "?", "A": "cat", "B": "dog", "answer": "B"} for n in (1, 2)]
    )
    judge = judge_at(server, bench.folder)
    run = score(bench, "mmvp", [pairs], {1: "it barks", 2: "a dog"}, judge, variant="vlmevalkit")
    assert value(run, "accuracy") == 100


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


def mathvista(bench):
    base = {"question": "?", "image": "1.png", "metadata": {"task": "math word problem", "skills": ["arithmetic"]}}
    multi = {"question_type": "multi_choice", "answer_type": "text", "choices": ["3/11", "8/11"]}
    decimal = {"question_type": "free_form", "answer_type": "float", "precision": 1.0}
    problems = {
        "1": {**base, **multi, "answer": "8/11"},
        "2": {**base, **decimal, "answer": "1.2"},
        "3": {**base, "question_type": "free_form", "answer_type": "integer", "answer": "14"},
        "4": {**base, **multi, "answer": "3/11"},
    }
    return bench.write("testmini.json", problems)


def test_mathvista_by_rule(bench, value) -> None:
    # 1: (B) in the sentence -> 8/11; 2: 1.24 rounds to 1.2; 3: nothing to be found without a judge; 4: a choice
    answers = {"1": 'The answer is "(B) eight elevenths".', "2": "1.24", "3": "It is 14", "4": "3/11"}
    run = score(bench, "mathvista", [mathvista(bench)], answers, None)
    assert [item.score for item in run.scores] == [1, 1, 0, 1]
    assert run.result.notes[0].startswith("1 replies")
    assert run.result.breakdown["skills"]["arithmetic"].n == 4


def test_mathvista_reads_its_own_results(bench) -> None:
    """`generate_response.py` writes the whole problems, target and all; one that failed has no `response`: 1 of 2."""
    truth = mathvista(bench)
    problems = json.loads(truth.read_bytes())
    said = {"2": {**problems["2"], "pid": "2", "response": "1.2"}, "3": {**problems["3"], "pid": "3", "error": "busy"}}
    answers = predictions.read(json.dumps(said).encode(), where="output.json")
    assert [(p.id, p.text) for p in answers.predictions] == [("2", "1.2")]
    assert [failure.id for failure in answers.failures] == ["3"]
    assert bench.score("mathvista", [truth], answers).scores[1].score == 1
    with pytest.raises(InputError, match="no answer in this file"):
        predictions.read(truth.read_bytes(), where="testmini.json")


def test_mathvista_strips_a_reply(bench, serve, value) -> None:
    problem = {
        "question": "?",
        "image": "1.png",
        "answer": "[2, 4]",
        "question_type": "free_form",
        "answer_type": "list",
    }
    server = serve(lambda prompt: " [2, 4]\n")
    truth = bench.write("list.json", {"1": problem})
    assert (
        value(score(bench, "mathvista", [truth], {"1": "The second"}, judge_at(server, bench.folder)), "accuracy")
        == 100
    )


def test_mm_vet_tables_list_capabilities_with_commas(bench, serve) -> None:
    rows = [
        {"index": n, "question": "?", "answer": "x", "category": category}
        for n, category in enumerate(("ocr,math", "ocr"))
    ]
    server = serve(lambda prompt: "1.0" if "| one |" in prompt else "0.0")
    run = score(bench, "mm-vet", [bench.write("MMVet.tsv", rows)], {0: "one", 1: "two"}, judge_at(server, bench.folder))
    assert {key: number.value for key, number in run.result.breakdown["capability"].items()} == {"math": 100, "ocr": 50}
    assert set(run.result.breakdown["capabilities"]) == {"math_ocr", "ocr"}


def test_mathvista_with_a_judge(bench, serve, value) -> None:
    server = serve(lambda prompt: "14.0")
    run = score(bench, "mathvista", [mathvista(bench)], {"3": "It is fourteen"}, judge_at(server, bench.folder))
    assert run.scores[2].score == 1  # int(float("14.0"))
    assert server.bodies[0]["max_tokens"] == 256


def test_mathvista_asks_about_every_sentence_when_there_is_a_judge(bench, serve) -> None:
    # the quick rule for `The answer is "..."` is off in the original, unless asked for
    server = serve(lambda prompt: "A")
    answers = {"1": 'The answer is "(B) eight elevenths".', "2": "", "4": "8/11"}
    run = score(bench, "mathvista", [mathvista(bench)], answers, judge_at(server, bench.folder))
    assert [item.extracted for item in run.scores] == ["3/11", None, None, "8/11"]
    assert len(server.bodies) == 1


def test_mathvista_takes_the_nearest_choice(bench) -> None:
    # "8/12" is one edit from 8/11 and three from 3/11
    run = score(bench, "mathvista", [mathvista(bench)], {"1": 'The answer is "8/12".'}, None)
    assert run.scores[0].extracted == "8/11"


def test_choices_that_the_rules_cannot_read(bench, serve, value) -> None:
    row = {"index": 1, "question": "What", "A": "cat", "B": "dog", "answer": "B", "category": "x", "image": "1"}
    truth = bench.write("MMBench_DEV_EN.tsv", [row])
    server = serve(lambda prompt: "B")
    run = score(bench, "mmbench", [truth], {1: "man's best friend"}, judge_at(server, bench.folder))
    assert value(run, "accuracy") == 100
    asked = server.bodies[0]["messages"][0]["content"]
    assert "Question: What?\nOptions: There are several options: \nA. cat\nB. dog\n\nAnswer: man's" in asked


def test_choices_in_chinese_are_asked_about_in_chinese(bench, serve, value) -> None:
    row = {"index": 1, "question": "这是什么", "A": "猫", "B": "狗", "answer": "B", "category": "x", "image": "1"}
    truth = bench.write("MMBench_DEV_CN.tsv", [row])
    server = serve(lambda prompt: "B" if prompt.startswith("你是一个") else "A")
    run = score(bench, "mmbench-cn", [truth], {1: "人类的朋友"}, judge_at(server, bench.folder))
    assert value(run, "accuracy") == 100


@pytest.mark.parametrize(
    ("reply", "figure", "right"),
    [
        ("Correct.", 1, 1),
        ("incorrect", 1, 0),  # holds the word correct too
        ("unclear", 1, 0),
        ("unclear", 0, 1),  # no figure to look at: not to know is right
    ],
)
def test_hallusionbench_as_the_official_script_asks(bench, serve, reply: str, figure: int, right: int) -> None:
    ids = {"set_id": "0", "figure_id": str(figure), "question_id": "0", "gt_answer": "1"}
    row = {"category": "VS", "subcategory": "map", "question": "Is it?", "gt_answer_details": "It is north.", **ids}
    truth = bench.write("HallusionBench.json", [row])
    server = serve(lambda prompt: reply)
    answers = {f"VS_map_0_{figure}_0": "north"}
    run = score(bench, "hallusionbench", [truth], answers, judge_at(server, bench.folder))
    assert run.scores[0].score == right
    body = server.bodies[0]
    assert "\nReference answer: It is north.\nPrediction answer:north\nOutput:" in body["messages"][0]["content"]
    assert "temperature" not in body  # the original names none
    by_rule = score(bench, "hallusionbench", [truth], answers, None)
    assert by_rule.scores[0].score == 0
    assert by_rule.result.notes[0].startswith("yes and no are read by rule")


@pytest.mark.parametrize(("reply", "right"), [("Yes", 1), ("no", 0), ("Yes.", 0), ("yes\n", 0)])
def test_mmvp_takes_yes_or_no_alone(bench, serve, reply: str, right: int) -> None:
    header = "Index,Question,Options,Correct Answer\n"
    truth = bench.write("Questions.csv", header + "1,Open?,(a) Yes (b) No,(a)\n2,Open?,(a) Yes (b) No,(b)\n")
    run = score(bench, "mmvp", [truth], {1: "a"}, judge_at(serve(lambda prompt: reply), bench.folder))
    assert run.scores[0].score == right


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
