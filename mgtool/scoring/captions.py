"""What the captioning benchmarks share: references, and the metrics of pycocoevalcap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

import msgspec
import numpy as np

from mgtool.errors import InputError, require
from mgtool.records import Sample, Score, dumps
from mgtool.scoring import java_metrics
from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Judge, Pair, Submission, Verdict, with_targets
from mgtool.scoring.clusters import Floats, codes
from mgtool.scoring.ground_truth import SHEETS, Document, Row, Truth, first, listed, of_split, picture_name, whole
from mgtool.scoring.instructions import question_of
from mgtool.scoring.multiple_choice import VLMEVALKIT
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.statistics import Metric, Statistic, mean_of

NAMES = ("CIDEr", "BLEU-4", "BLEU-3", "BLEU-2", "BLEU-1", "METEOR", "ROUGE-L", "SPICE")
MOST_WORDS = 4
_COUNTS = 2 * MOST_WORDS + 2
"""Numbers that a text adds to BLEU."""
_SMALL, _TINY = 1e-9, 1e-15
"""What the official BLEU adds against divisions by zero."""


class _CaptionPicture(msgspec.Struct):
    id: int | str
    file_name: str = ""
    domain: str = ""


class _Reference(msgspec.Struct):
    image_id: int | str
    caption: str | None = None


class _Sentence(msgspec.Struct):
    raw: str


class _KarpathyPicture(msgspec.Struct):
    """A picture in one of Karpathy's files."""

    sentences: list[_Sentence]
    filename: str
    split: str = ""
    cocoid: int | None = None
    imgid: int | None = None


class CaptionBenchmark(Benchmark):
    """One caption a picture against several references."""

    metric = "CIDEr, BLEU-1 to 4, METEOR, ROUGE-L, SPICE; the last two but ROUGE-L, and the tokenizer, need Java"
    headline = "CIDEr"
    needs_all = True
    variants: ClassVar[Mapping[str, str]] = {
        OFFICIAL: "pycocoevalcap: PTB tokens in lower case without punctuation, which needs Java",
        VLMEVALKIT: "words between spaces, as they are written: no tokenizer and no Java; no METEOR, no SPICE",
    }
    instruction = "Provide a one-sentence caption for the provided image."

    def prompt(self, sample: Sample) -> str:
        """The request for a caption, unless the question file has one."""
        return question_of(sample) or self.instruction

    def load(self, truth: Truth) -> Sequence[Item]:
        """A COCO captions JSON, Karpathy's JSON (its test split, unless another is asked for), BLIP's list, or a TSV.

        Where no picture at all has a caption, as in the test sets' image info, the pictures are for a submission.
        """
        items = [item for document in of_split(truth.files, truth.split) for item in _items(document, truth.split)]
        if not items:
            raise truth.mismatch(f'{self.title}: a JSON with "images" and "annotations", each with a caption')
        return with_targets(items)

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The picture's id, or its name."""
        yield str(prediction.id)
        yield PurePosixPath(str(prediction.id)).name
        yield PurePosixPath(prediction.image).name

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """Each picture's CIDEr, ROUGE-L and BLEU counts; a picture without a caption has an empty one."""
        tokenized = list[str] if variant == VLMEVALKIT else java_metrics.tokenized
        if not _is_possible(variant) or not any(item.target for item, _ in pairs):
            return [Verdict(None, 0.0) for _ in pairs]
        said = tokenized([answer.text if answer else "" for _, answer in pairs])
        counts = [len(item.target) for item, _ in pairs]
        flat = iter(tokenized([caption for item, _ in pairs for caption in item.target]))
        references = [[next(flat) for _ in range(count)] for count in counts]
        found = (ciders(said, references), rouges(said, references), ngrams(said, references))
        return [
            Verdict(text, cider, {"words": {"caption": text, "references": refs, "bleu": counts, "rouge": rouge}})
            for text, refs, cider, rouge, counts in zip(said, references, *found, strict=True)
        ]

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """All metrics; None for those that could not be computed, never 0."""
        found: list[Any] = [score.fields.get("words") for score in scores]
        if not scores or None in found:
            return {name: Metric(value=None, n=len(scores)) for name in NAMES}
        groups = [score.group for score in scores]
        said = [fields["caption"] for fields in found]
        references = [fields["references"] for fields in found]
        numbers: dict[str, Statistic | Metric] = {"CIDEr": mean_of([score.score for score in scores], groups)}
        for size in range(MOST_WORDS, 0, -1):
            numbers[f"BLEU-{size}"] = bleu([fields["bleu"] for fields in found], groups, size)
        if variant == OFFICIAL:
            numbers["METEOR"] = Metric(value=100 * java_metrics.meteor(said, references), n=len(scores))
        numbers["ROUGE-L"] = mean_of([fields["rouge"] for fields in found], groups)
        if variant == OFFICIAL:
            spice = java_metrics.spice(said, references)
            numbers["SPICE"] = Metric(value=None if spice is None else 100 * spice, n=len(scores))
        return numbers

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """What was left out and why, and what the idf of CIDEr is over."""
        if not _is_possible(variant):
            why = "no `java` on the PATH, and the official tokenizer needs it; `variant` vlmevalkit does without"
            return [f"left out: {', '.join(NAMES)}: {why}"]
        models = "python -c 'from pycocoevalcap.spice.get_stanford_models import *; get_stanford_models()'"
        notes = [f"CIDEr's idf is over the references of the {len(scores):,} pictures scored here"]
        if variant == OFFICIAL and java_metrics.spice([], []) is None:
            notes.append(f"left out: SPICE: its Stanford models are not installed ({models})")
        return notes

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """COCO's form."""
        entries = [{"image_id": item.id, "caption": answer.text if answer else ""} for item, answer in pairs]
        return Submission("captions_results.json", dumps(entries))


def _is_possible(variant: str) -> bool:
    return variant == VLMEVALKIT or java_metrics.available()


def bleu(counts: Sequence[Sequence[int]], groups: Sequence[str], size: int = MOST_WORDS) -> Statistic:
    """BLEU over all texts together, of their `ngrams` up to `size` words."""
    return Statistic(np.array(counts, dtype=np.float64).reshape(-1, _COUNTS), codes(groups), _Bleu(size))


class _Bleu:
    """BLEU of sums: correct 1..4, guessed 1..4, length, closest reference length."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, sums: Floats) -> Floats:
        correct, guessed = sums[..., : self.size], sums[..., MOST_WORDS : MOST_WORDS + self.size]
        score = np.prod((correct + _TINY) / (guessed + _SMALL), axis=-1) ** (1 / self.size)
        ratio = (sums[..., -2] + _TINY) / (sums[..., -1] + _SMALL)
        return np.asarray(score * np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0))


def ciders(said: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr of each tokenised text against its references; how rare a word is, all references tell."""
    return _scored("cider", "Cider", said, references)


def rouges(said: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """ROUGE-L of each tokenised text against its references."""
    return _scored("rouge", "Rouge", said, references)


def _scored(module: str, name: str, said: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    scorer = getattr(require(f"pycocoevalcap.{module}.{module}", what="captions", extra="captions"), name)()
    candidates, truths = {n: [text] for n, text in enumerate(said)}, dict(enumerate(map(list, references)))
    return [float(score) for score in scorer.compute_score(truths, candidates)[1]] if said else []


def ngrams(said: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[int]]:
    """What each caption adds to BLEU: correct and guessed n-grams of 1 to 4 words, its length, the closest length."""
    rows = []
    for text, refs in zip(said, references, strict=True):
        own = _grams(text)
        most: dict[tuple[str, ...], int] = defaultdict(int)
        for reference in refs:
            for gram, count in _grams(reference).items():
                most[gram] = max(most[gram], count)
        correct = [0] * MOST_WORDS
        for gram, count in own.items():
            correct[len(gram) - 1] += min(count, most[gram])
        length = len(text.split())
        guessed = [max(0, length - size) for size in range(MOST_WORDS)]
        lengths = [len(reference.split()) for reference in refs]
        closest = min((abs(other - length), other) for other in lengths)[1]
        rows.append([*correct, *guessed, length, closest])
    return rows


def _grams(text: str) -> dict[tuple[str, ...], int]:
    words = text.split()
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for size in range(1, MOST_WORDS + 1):
        for start in range(len(words) - size + 1):
            counts[tuple(words[start : start + size])] += 1
    return counts


def _items(document: Document, split: str) -> list[Item]:
    if document.suffix in SHEETS:
        return [_of_row(row) for row in document.rows()]
    if document.suffix == ".json" and not document.keys:
        return [_of_row(row) for row in document.rows() if isinstance(row.get("caption"), list)]
    if "images" not in document.keys:
        return []
    if "annotations" not in document.keys and b'"sentences"' in bytes(document.keys["images"]):
        return _karpathy(document, split or "test")
    captions: dict[Any, list[str]] = defaultdict(list)
    references = document.part("annotations", list[_Reference]) if "annotations" in document.keys else []
    for reference in references:
        if reference.caption is not None:
            captions[reference.image_id].append(reference.caption)
    if references and not captions:
        return []  # instances or keypoints, which lie in the same official folder
    return [_item(p.id, p.file_name, captions[p.id], p.domain) for p in document.part("images", list[_CaptionPicture])]


def _karpathy(document: Document, split: str) -> list[Item]:
    pictures = [p for p in document.part("images", list[_KarpathyPicture]) if p.split in ("", split)]
    if not pictures:
        raise InputError(f"{document.path}: no picture of split {split}")
    return [
        _item(
            next(n for n in (p.cocoid, p.imgid, p.filename) if n is not None), p.filename, [s.raw for s in p.sentences]
        )
        for p in pictures
    ]


def _of_row(row: Row) -> Item:
    """A row with all captions of its picture, which is named by its number or by the one at the end of its name."""
    name = picture_name(row, ("image_path", "image"))
    number = first(row, ("image_id", "index"))
    if number is None:
        stem = PurePosixPath(name).stem
        number = stem.rpartition("_")[2].lstrip("0") or stem
    return _item(whole(number), name, listed(first(row, ("caption", "answer"), [])))


def _item(number: int | str, name: str, captions: list[str], domain: str = "") -> Item:
    base = PurePosixPath(name)
    aliases = {base.name, base.stem}
    return Item(
        id=number,
        target=captions,
        image=name,
        group=str(number),
        fields={"domain": domain} if domain else {},
        aliases=tuple(sorted(alias for alias in aliases if alias)),
    )
