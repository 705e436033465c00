"""Own data scored by all answers together, by a judge, and out of packed tars."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from judges import judge_at

from mgtool import benchmarks
from mgtool.errors import UsageError
from mgtool.evaluation import pipeline
from mgtool.evaluation.pipeline import ScoredRun
from mgtool.scoring import predictions
from mgtool.scoring.ground_truth import Truth

RIGHT = {"a": ["A man rides a wave.", "A surfer on a wave!"], "b": ["Two dogs run."], "c": ["An empty table"]}
SAID = {"a": "a man on a wave", "b": "Two dogs run"}


def rows():
    return [{"id": key, "question": "What is it?", "answers": answers} for key, answers in RIGHT.items()]


def scored(truth, metrics: str, judge=None) -> ScoredRun:
    benchmark = benchmarks.get("custom").configured(metrics.split(","), ())
    lines = [{"question_id": key, "text": text} for key, text in SAID.items()]
    answers = predictions.read(json.dumps(lines).encode(), where="answers.json")
    return pipeline.score(benchmark, benchmark.load(Truth((truth,))), answers, variant="official", judge=judge)


def test_bleu_cider_and_rouge_are_those_of_pycocoevalcap_on_plain_words(bench) -> None:
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu
    cider, rouge = pytest.importorskip("pycocoevalcap.cider.cider"), pytest.importorskip("pycocoevalcap.rouge.rouge")
    run = scored(bench.write("val.jsonl", rows()), "cider,rouge,bleu,exact")
    gts = {key: [text.lower().strip(".!") for text in texts] for key, texts in RIGHT.items()}
    res = {key: [SAID.get(key, "").lower()] for key in RIGHT}  # a missing answer is an empty one
    expected = {
        "cider": cider.Cider().compute_score(gts, res)[0],
        "rouge": rouge.Rouge().compute_score(gts, res)[0],
        "bleu": bleu(4).compute_score(gts, res, verbose=0)[0][3],
        "exact": 1 / 3,
    }
    values = {name: metric.value for name, metric in run.result.metrics.items()}
    assert values == pytest.approx({name: 100 * value for name, value in expected.items()})
    assert run.result.notes[0] == "cider, rouge, bleu: over words in lower case, without punctuation"


@pytest.mark.parametrize(("metrics", "is_said"), [("cider,exact", True), ("exact,anls", False)])
def test_metrics_of_many_items_together_say_that_memory_grows(bench, monkeypatch, metrics: str, is_said: bool) -> None:
    monkeypatch.setattr(pipeline, "MANY", len(RIGHT))
    notes = scored(bench.write("val.jsonl", rows()), metrics).result.notes
    assert ("these numbers are of all 3 items together, so that memory grows with the items" in notes) == is_said


def test_a_judge_says_whether_an_answer_is_right(bench, serve) -> None:
    server = serve(lambda prompt: "Yes." if "judged: Two dogs" in prompt else "perhaps")
    judge = judge_at(server, bench.folder)
    run = scored(bench.write("val.json", rows()), "judge,exact", judge)
    judge.journal.close()
    assert [score.score for score in run.scores] == [0, 1, 0]
    assert run.result.metrics["judge"].value == pytest.approx(100 / 3)
    assert run.result.notes[0] == "1 replies of the judge could not be read: they count as wrong"
    assert len(server.bodies) == 6  # one reply can be read at once, the other at no heat


def test_a_judge_is_asked_where_it_is_a_metric_alone(bench) -> None:
    with pytest.raises(UsageError, match="judge needs a judge"):
        scored(bench.write("val.json", rows()), "judge")
    assert not benchmarks.get("custom").asks_judge("official")
    assert benchmarks.get("custom").configured(["judge"], ()).asks_judge("official")


def packed(path) -> None:
    """A tar with a conversation, a question whose answer stands beside it, and a picture with a caption."""
    conversation = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a man on a wave"}]
    members = {
        "0.json": json.dumps({"id": "a", "conversations": conversation, "category": "sea"}),
        "1.json": json.dumps({"id": "b", "question": "What do they do?", "answer": "Two dogs run", "category": "land"}),
        "2.txt": "An empty table",
    }
    with tarfile.open(path, "w") as tar:
        for name, text in members.items():
            for part, data in ((name, text.encode()), (f"{name[0]}.jpg", b"\xff\xd8\xff\xd9")):
                info = tarfile.TarInfo(part)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("given", ["tars", "tars/x-000.tar"])
def test_tars_hold_the_right_answers_too(bench, mgtool, given: str) -> None:
    (bench.folder / "tars").mkdir()
    packed(bench.folder / "tars/x-000.tar")
    answers = bench.write("answers.jsonl", [{"question_id": key, "text": text} for key, text in SAID.items()])
    truth = ("--ground-truth", bench.folder / given, "--metric", "exact", "--by", "category")
    code, out, _ = mgtool("eval", answers, "--benchmark", "custom", *truth, "--json")
    scores = json.loads(out)
    assert code == 3  # the picture with a caption has no answer
    assert scores["metrics"]["exact"]["value"] == pytest.approx(200 / 3)
    assert set(scores["breakdown"]["category"]) == {"sea", "land"}


def test_a_parquet_file_holds_right_answers_in_its_columns(bench) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    table = {"id": list(RIGHT), "question": ["What is it?"] * 3, "answers": list(RIGHT.values())}
    pq.write_table(pytest.importorskip("pyarrow").table(table), bench.folder / "val.parquet")
    run = scored(bench.folder / "val.parquet", "exact")
    assert [score.score for score in run.scores] == [0, 1, 0]
    assert run.scores[0].target == RIGHT["a"]
