"""TextVQA (Singh et al., 2019; the M4C evaluator)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from mgtool.benchmarks.vqav2 import vlmevalkit_processor, whole_processor
from mgtool.errors import InputError
from mgtool.records import SampleId, Score, dumps
from mgtool.scoring.benchmark import Benchmark, Item, Judge, Pair, Submission, Verdict, with_targets
from mgtool.scoring.ground_truth import Row, Truth, data_rows, first, listed, of_split, whole
from mgtool.scoring.instructions import SINGLE_WORD
from mgtool.scoring.predictions import Prediction

ANNOTATORS = 10
_OCR = ("Reference OCR token:", "OCR tokens:")


class TextVqa(Benchmark):
    """Soft agreement with ten annotators; answers are always normalised, after M4C's tokeniser."""

    name = "textvqa"
    title = "TextVQA"
    files = "TextVQA_0.5.1_val.json (textvqa.org/dataset), or TextVQA_VAL.tsv"
    metric = "VQA accuracy over ten annotators; the name of the result says whether prompts had OCR tokens"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "the M4C evaluator, as LLaVA's, lmms-eval's and MG-LLaVA's copies of it",
        "vlmevalkit": "VQA's processor without M4C's tokens; a period beside a digit stays",
    }
    instruction = SINGLE_WORD

    def load(self, truth: Truth) -> Sequence[Item]:
        """The official JSON with `data`, or a TSV whose `answer` is the list of ten."""
        items = [_item(row) for document in of_split(truth.files, truth.split) for row in data_rows(document)]
        if not items:
            raise truth.mismatch("TextVQA's JSON: an object with `data`, each with `question_id`, `answers`")
        wrong = next((item for item in items if item.target and len(item.target) != ANNOTATORS), None)
        if wrong is not None:
            raise InputError(f"question {wrong.id}: expected {ANNOTATORS} answers, found {len(wrong.target)}")
        return with_targets(items)

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The question's id; or, as LLaVA's files have it, the picture's id and the question in the prompt."""
        yield str(prediction.id)
        yield _key(str(prediction.id), _asked(prediction.prompt))

    def addressed(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """LLaVA's lines name picture and question; where several items share both, they are answered in turn."""
        sharing: dict[str, list[SampleId]] = defaultdict(list)
        for item in items:
            sharing[item.aliases[0]].append(item.id)
        seen: Counter[str] = Counter()
        turns = []
        for prediction in predictions:
            key = _key(str(prediction.id), _asked(prediction.prompt))
            several = sharing.get(key, [])[seen[key] :]
            seen[key] += 1
            turns.append(msgspec.structs.replace(prediction, id=several[0]) if several else prediction)
        return turns

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """Each answer, and whether its prompt had OCR tokens."""
        return [
            verdict._replace(fields={"ocr_tokens": any(mark in answer.prompt for mark in _OCR)}) if answer else verdict
            for verdict, (_, answer) in zip(super().grade(pairs, variant), pairs, strict=True)
        ]

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The mean over the annotators."""
        return vlmevalkit_processor(item, text) if variant == "vlmevalkit" else whole_processor(item, text)

    def label(self, scores: Sequence[Score], variant: str) -> str:
        """The prompt's form changes the score, so that it is part of the name."""
        forms = {score.fields["ocr_tokens"] for score in scores if "ocr_tokens" in score.fields}
        form = {frozenset({True}): ", OCR tokens in the prompt", frozenset({False}): ", no OCR tokens"}
        return super().label(scores, variant) + form.get(frozenset(forms), "")

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """EvalAI's form."""
        entries = [{"question_id": item.id, "answer": answer.text if answer else ""} for item, answer in pairs]
        return Submission("submission.json", dumps(entries))


def _item(row: Row) -> Item:
    image = str(first(row, ("image_id", "image_path"), ""))
    question = str(row["question"])
    target = listed(first(row, ("answers", "answer"), []))
    return Item(
        id=whole(first(row, ("question_id", "index"))),
        question=question,
        target=target,
        image=image,
        group=image,
        aliases=(_key(image, question.lower().strip()),),
    )


def _key(image: str, question: str) -> str:
    return f"{image}\n{question}"


def _asked(prompt: str) -> str:
    """The question inside a prompt, lower case."""
    short = re.search(r"Question: (.*?) Short answer:", prompt, re.DOTALL)
    if short:
        return short[1].lower().strip()
    lines = (line.strip() for line in prompt.split("\n"))
    kept = (line for line in lines if line and line != "<image>" and line != SINGLE_WORD and not line.startswith(_OCR))
    return next(kept, "").lower()
