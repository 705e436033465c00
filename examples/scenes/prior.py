"""What can be guessed without looking: the best answers from the words of the questions alone.

    python examples/scenes/prior.py TRAIN_FOLDER TEST_FOLDER

Two guessers learn from the training conversations: the most frequent answer of a question's form, and naive Bayes
over its words. Both must be at chance on the test questions, or a question tells its answer.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from questions import CATEGORIES
from sprites import names, plural
from world import COLOURS, MOST_COPIES, SIGNS

Asked = tuple[str, str]
"""A question and its answer."""

CHANCE = {
    "existence": 1 / 2,
    "counting": 1 / MOST_COPIES,
    "position": 1 / 4,
    "colour": 1 / len(COLOURS),
    "comparison": 1 / 2,
    "relation": 1 / len(names()),
    "naming": 1 / len(names()),
    "reading": 1 / len(SIGNS),
}
_SLOTS = {form for name in names() for form in (name, plural(name))} | set(COLOURS)


def main() -> None:
    """Parse the command line and print a table."""
    parser = argparse.ArgumentParser(description="Measure what questions alone tell about their answers.")
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    given = parser.parse_args()
    print(f"{'category':<12} {'n':>6} {'chance':>8} {'by form':>8} {'by words':>9}   (percent right)")
    for category, row in measure(trained(given.train), tested(given.test)).items():
        print(f"{category:<12} {row[0]:>6.0f} {row[1]:>8.1f} {row[2]:>8.1f} {row[3]:>9.1f}")


def measure(seen: Iterable[Asked], asked: dict[str, list[Asked]]) -> dict[str, tuple[float, float, float, float]]:
    """For each category: questions, chance, and what the two guessers get right, in percent."""
    guesser = Guesser(seen)
    table = {}
    for category, pairs in asked.items():
        by_form = sum(guesser.by_form(question) == answer for question, answer in pairs)
        by_words = sum(guesser.by_words(question) == answer for question, answer in pairs)
        count = max(1, len(pairs))
        table[category] = (len(pairs), 100 * CHANCE[category], 100 * by_form / count, 100 * by_words / count)
    return table


def trained(folder: Path) -> list[Asked]:
    """All questions with their answers of a folder's conversations."""
    talks = json.loads((folder / "conversations.json").read_text(encoding="utf-8"))
    values = [[turn["value"].removeprefix("<image>\n") for turn in talk["conversations"]] for talk in talks]
    return [pair for talk in values for pair in zip(talk[::2], talk[1::2], strict=True)]


def tested(folder: Path) -> dict[str, list[Asked]]:
    """A folder's test questions with their answers, by category."""
    asked: dict[str, list[Asked]] = {category: [] for category in CATEGORIES}
    for split in ("random", "adversarial"):
        lines = (folder / f"pope_{split}.jsonl").read_text(encoding="utf-8").splitlines()
        asked["existence"] += [(row["text"], row["label"]) for row in map(json.loads, lines)]
    for row in json.loads((folder / "answers.json").read_text(encoding="utf-8")).values():
        asked[row["types"]["semantic"]].append((row["question"], row["answer"]))
    return asked


class Guesser:
    """Two ways to guess an answer from the words of a question.

    An answer that the question names counts as its place in the question, so that ``the first of the two`` can be
    learnt.
    """

    def __init__(self, seen: Iterable[Asked]) -> None:
        self._answers: dict[str, Counter[str]] = defaultdict(Counter)
        self._words: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for question, answer in seen:
            form, words = _read(question)
            place = _placed(answer.lower(), words)
            self._answers[form][place] += 1
            self._words[form, place].update(_features(words))

    def by_form(self, question: str) -> str:
        """The most frequent answer of the question's form."""
        form, words = _read(question)
        return _unplaced(self._answers[form].most_common(1)[0][0], words) if self._answers[form] else ""

    def by_words(self, question: str) -> str:
        """The likeliest answer by naive Bayes."""
        form, words = _read(question)
        if not self._answers[form]:
            return ""
        return _unplaced(max(self._answers[form], key=lambda place: self._likelihood(form, place, words)), words)

    def _likelihood(self, form: str, place: str, words: list[str]) -> float:
        count, seen = self._answers[form][place], self._words[form, place]
        return math.log(count) + sum(math.log((seen[word] + 1) / (count + len(_SLOTS))) for word in _features(words))


def _read(question: str) -> tuple[str, list[str]]:
    """A question's form, and the words that fill its slots."""
    words = [word for word in re.findall(r"\w+", question) if word in _SLOTS]
    form = re.sub(r"\w+", lambda match: "_" if match[0] in _SLOTS else match[0], question)
    return form.replace(" an _", " a _"), words


def _features(words: list[str]) -> list[str]:
    return [f"{place} {word}" for place, word in enumerate(words)]


def _placed(answer: str, words: list[str]) -> str:
    return f"word {words.index(answer)}" if answer in words else answer


def _unplaced(place: str, words: list[str]) -> str:
    return words[int(place.removeprefix("word "))] if place.startswith("word ") else place


if __name__ == "__main__":
    main()
