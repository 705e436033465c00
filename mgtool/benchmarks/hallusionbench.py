"""HallusionBench (Guan et al., 2024; the official `utils.py`).

The official script asks a judge about every answer; without one, yes and no are read as VLMEvalKit does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from mgtool.records import Score
from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Judge, JudgeRequest, Pair, Verdict, by_field, mean_score
from mgtool.scoring.ground_truth import Row, Truth, whole
from mgtool.scoring.instructions import YES_OR_NO
from mgtool.scoring.judged import UNREAD, JudgedBenchmark, read_by_judge, rubric, unread_notes
from mgtool.scoring.lmms_eval import LMMS_EVAL
from mgtool.scoring.normalizers import yes_or_no
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.statistics import Metric, Statistic, mean_of

_SET = ("category", "subcategory", "set_id", "figure_id")
"""What tells the figure of a question; its `question_id` counts the questions of the set."""


class HallusionBench(Benchmark):
    """Accuracy of single answers, of figures with all their questions, of questions over all their figures."""

    name = "hallusionbench"
    title = "HallusionBench"
    files = "HallusionBench.json (github.com/tianyi-lab/HallusionBench), or HallusionBench.tsv"
    metric = "aAcc over answers, fAcc over figures, qAcc over questions"
    headline = "aAcc"
    judge = "optional"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "a judge about every answer, else by the word; fAcc is over questions with a figure",
        "vlmevalkit": "exactly one of the words yes and no, a judge where there is none; fAcc is over all questions",
        "mg-llava": "as vlmevalkit, without a judge",
        LMMS_EVAL: "the official one with replies of 16 tokens; without a judge any `yes`, even in a word, is a yes, "
        "and fAcc is over all questions",
    }
    breakdowns: ClassVar[tuple[str, ...]] = ("category", "l2-category")
    instruction = YES_OR_NO
    others_instructions: ClassVar[Mapping[str, str]] = {"vlmevalkit": ""}

    def load(self, truth: Truth) -> list[Item]:
        """The official list, whose questions are called `VD_illusion_0_1_0`, or a TSV."""
        rows = [row for document in truth.files for row in document.rows() if "question" in row]
        if not rows:
            raise truth.mismatch(
                "HallusionBench's list of `category`, `set_id`, `figure_id`, `question_id`, `gt_answer`"
            )
        return [_of_table(row) if "index" in row else _official(row) for row in rows]

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The id; in the official results it is that of the question within its set and figure."""
        parts = [prediction.fields.get(name) for name in _SET]
        if None not in parts:
            yield "_".join(map(str, (*parts, prediction.id)))
        yield str(prediction.id)

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """The judge's, as the official script has it; else by the word that is there."""
        if judge is None or variant not in _JUDGED:
            verdicts = super().grade(pairs, variant)
            return verdicts if judge is None or not self.asks_judge(variant) else read_by_judge(pairs, verdicts, judge)
        answered = [(place, item, said) for place, (item, said) in enumerate(pairs) if said is not None]
        replies = judge.ask([_request(item, said, _JUDGED[variant]) for _, item, said in answered])
        verdicts = [self.missing(item) for item, _ in pairs]
        for (place, item, _), reply in zip(answered, replies, strict=True):
            verdicts[place] = UNREAD if reply is None else _judged(item, reply)
        return verdicts

    def asks_judge(self, variant: str) -> bool:
        """The reference implementation asks nobody."""
        return variant != "mg-llava"

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Exactly one of yes and no has to be there; lmms-eval looks for a yes, even within words."""
        said = yes_or_no(text) if variant != LMMS_EVAL else "yes" if "yes" in text.lower() else "no"
        return Verdict(said, float(said == item.target))

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """Who read the answers."""
        if variant not in _JUDGED or _by_judge(scores):
            return unread_notes(scores, JudgedBenchmark.unread_policy)
        return ["yes and no are read by rule; the official script asks a judge about every answer (`judge`)"]

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The three accuracies; the official figure accuracy leaves questions without a figure out."""
        return _accuracies(scores, variant)

    def breakdown(self, scores: Sequence[Score], variant: str) -> dict[str, dict[str, Statistic | Metric]]:
        """The three accuracies of each category."""
        return {
            field: {
                f"{value} {name}": number
                for value, part in by_field(scores, field).items()
                for name, number in _accuracies(part, variant).items()
            }
            for field in self.breakdowns
        }


_JUDGED = {OFFICIAL: 1024, LMMS_EVAL: 16}
"""The variants that ask a judge about every answer, with the longest reply."""


def _by_judge(scores: Sequence[Score]) -> bool:
    return any("reply" in score.fields or "unread" in score.fields for score in scores)


def _request(item: Item, said: Prediction, max_tokens: int) -> JudgeRequest:
    """The original's question; it names no temperature."""
    details = item.fields.get("details") or item.target
    asked = rubric("hallusionbench").format(question=item.question, reference=details, prediction=said.text)
    return JudgeRequest(user=asked, temperature=None, max_tokens=max_tokens)


def _judged(item: Item, reply: str) -> Verdict:
    """Correct, incorrect, or unclear; without a figure to look at, unclear is right too."""
    said = reply.lower()
    found = "incorrect" if "incorrect" in said else "correct" if "correct" in said else "unclear"
    blind = item.fields["category"] == "VS" and item.fields["figure"].endswith("_0")
    return Verdict(found, float(found == "correct" or (blind and found == "unclear")), {"reply": reply})


def _accuracies(scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
    seen = variant == OFFICIAL or (variant == LMMS_EVAL and _by_judge(scores))
    figures = [s for s in scores if not (seen and s.fields["category"] == "VS" and s.fields["figure"].endswith("_0"))]
    apart = variant in _JUDGED
    return {
        "aAcc": mean_score(scores),
        "fAcc": _all_right(figures, "figure", apart=apart),
        "qAcc": _all_right(scores, "set_question", apart=apart),
    }


def _all_right(scores: Sequence[Score], field: str, *, apart: bool) -> Statistic:
    """VLMEvalKit leaves the category out of the name, so that the sets of VD's and VS's `ocr` fall together."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        name = score.fields[field]
        groups[name if apart else name.partition("_")[2]].append(score)
    hits = [float(all(score.score for score in part)) for part in groups.values()]
    return mean_of(hits, [part[0].fields["set"] for part in groups.values()])


def _official(row: Row) -> Item:
    category, subcategory, group, figure, question = (str(row[name]) for name in (*_SET, "question_id"))
    target = "yes" if str(row["gt_answer"]) == "1" else "no"
    image = str(row.get("filename") or "").removeprefix("./")
    return _item("_".join((category, subcategory, group, figure, question)), category, subcategory, row, target, image)


def _of_table(row: Row) -> Item:
    category, subcategory = str(row.get("category", "")), str(row.get("l2-category", ""))
    target = str(row["answer"]).strip().lower()
    return _item(whole(row["index"]), category, subcategory, row, target, str(row.get("image_path", "")))


def _item(number: int | str, category: str, subcategory: str, row: Row, target: str, image: str) -> Item:
    group, figure, question = str(number).split("_")[-3:]
    prefix = f"{category}_{subcategory}_{group}"
    return Item(
        id=number,
        question=str(row["question"]),
        target=target,
        image=image,
        group=f"{prefix}_{figure}",
        fields={
            "category": category,
            "l2-category": subcategory,
            "set": prefix,
            "figure": f"{prefix}_{figure}",
            "set_question": f"{prefix}_{question}",
            **({"details": str(row["gt_answer_details"])} if row.get("gt_answer_details") else {}),
        },
    )
