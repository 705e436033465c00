"""ST-VQA (Biten et al., 2019; the M4C evaluator)."""

from __future__ import annotations

from mgtool.benchmarks.docvqa import DocVqa
from mgtool.scoring.benchmark import Item, Verdict
from mgtool.scoring.text_metrics import THRESHOLD


class StVqa(DocVqa):
    """ANLS over the stripped texts; white space inside them stays."""

    name = "stvqa"
    title = "Scene Text VQA"
    files = "a JSON with `data`, each with `question_id`, `question`, `answers` (rrc.cvc.uab.es, challenge 11)"

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The similarity to the nearest answer."""
        said = text.lower().strip()
        return Verdict(said, max((_similarity(said, answer.lower().strip()) for answer in item.target), default=0.0))


def _similarity(said: str, expected: str) -> float:
    from rapidfuzz.distance import Levenshtein

    length = max(len(said), len(expected))
    similarity = 1 - Levenshtein.distance(said, expected) / length if length else 1.0
    return similarity if similarity >= THRESHOLD else 0.0
