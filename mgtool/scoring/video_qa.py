"""What the video benchmarks share: open answers that a judge compares (Video-ChatGPT's evaluation)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, ClassVar

from mgtool.records import Score
from mgtool.scoring.benchmark import Item, JudgeRequest, Verdict, mean_score
from mgtool.scoring.ground_truth import Document, Row, Truth, first, whole
from mgtool.scoring.judged import JudgedBenchmark, rubric
from mgtool.scoring.statistics import Metric, Statistic, mean_of


class VideoQa(JudgedBenchmark):
    """Yes or no, and a score of 0 to 5, for each answer."""

    files = "test_q.json and test_a.json (Video-ChatGPT's zero-shot set), or a list of question, answer, question_id"
    metric = "accuracy (the judge's yes), and mean score of 0 to 5"
    breakdowns: ClassVar[tuple[str, ...]] = ("type",)
    attempts = 5  # the original goes on until every reply can be read

    def load(self, truth: Truth) -> list[Item]:
        """Questions and answers, together or in two files."""
        rows: dict[str, Row] = {}
        for document in (*truth.files, *truth.question_files):
            for row in _rows(document):
                number = str(first(row, ("question_id", "id", "index")))
                rows[number] = {**rows.get(number, {}), **row}
        complete = [row for row in rows.values() if "question" in row and "answer" in row]
        if not complete:
            raise truth.mismatch("questions and answers with `question_id`, `question`, `answer`")
        return [_item(row) for row in complete]

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        """The original's prompt."""
        asked = rubric("video-qa").format(question=item.question, answer=item.target, prediction=text)
        return JudgeRequest(user=asked, system=rubric("video-qa-system"), temperature=None, repeat=attempt)

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        """A Python dictionary with `pred` and `score`; the original cuts the score to a whole number."""
        begin, end = reply.find("{"), reply.rfind("}")  # a search by a pattern takes the square of many braces' number
        try:
            value: Any = ast.literal_eval(reply[begin : end + 1]) if 0 <= begin < end else None
            said, rating = str(value["pred"]).lower(), int(float(value["score"]))
        except (ValueError, SyntaxError, KeyError, TypeError, OverflowError, MemoryError, RecursionError):
            return None
        if not ("yes" in said or "no" in said) or not 0 <= rating <= 5:
            return None
        return Verdict(text, float("yes" in said), {"reply": reply, "rating": rating})

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Accuracy in percent, rating in its own scale."""
        ratings = [score.fields.get("rating", 0.0) for score in scores]
        return {"accuracy": mean_score(scores), "score": mean_of(ratings, [s.group for s in scores], scale=1.0)}


def _rows(document: Document) -> list[Row]:
    return document.rows() if document.suffix in (".json", ".jsonl", ".tsv", ".csv") else []


def _item(row: Row) -> Item:
    video = str(first(row, ("video_name", "video", "video_id", "gif_name"), ""))
    return Item(
        id=whole(first(row, ("question_id", "id", "index"))),
        question=str(row["question"]),
        target=str(row["answer"]),
        image=video,
        group=video,
        fields={"type": str(row["type"])} if row.get("type") is not None else {},
    )
