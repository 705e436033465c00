"""A conversation that is tokenised as one text, as tokenizers do with what their chat templates give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from mgtool.model.splice import IGNORED
from mgtool.model.templates import Piece, told_apart


class Stretch(NamedTuple):
    """A part of the text.

    Attributes:
        text: with special tokens spelt out.
        learned: whether training has a loss on it.
        kind: ``text``; ``spelt`` where a special token in it is text, so that it is tokenised by itself; ``place``.
    """

    text: str
    learned: bool
    kind: str


def stretches(
    pieces: Iterable[Piece], names: Mapping[str, str], special: re.Pattern[str] | None, place: re.Pattern[str]
) -> Iterator[Stretch]:
    """A conversation's pieces as stretches.

    Args:
        pieces: of a template.
        names: how ``bos`` and ``eos`` are spelt.
        special: what special tokens look like; None where there are none.
        place: what placeholders look like; in what is learned they are text.
    """
    for piece in pieces:
        if piece.special:
            yield Stretch(names[piece.special], piece.learned, "text")
            continue
        for text, is_special in told_apart(piece, special) if special else [(piece.text, False)]:
            for part in [text] if piece.learned else re.split(f"({place.pattern})", text):
                is_spelt = not is_special and special is not None and special.search(part) is not None
                is_place = not piece.learned and place.fullmatch(part) is not None
                yield Stretch(part, piece.learned, "place" if is_place else "spelt" if is_spelt else "text")


def tokens(found: Iterable[Stretch], tokenizer: Any, places: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """Token ids, and labels (-100 where there is no loss).

    Args:
        found: the stretches.
        tokenizer: one that tells where its tokens stand in a text.
        places: ids of the placeholders.
    """
    ids: list[int] = []
    labels: list[int] = []
    for kind, run in groupby((one for one in found if one.text), key=lambda one: one.kind):
        parts = list(run)
        if kind == "place":
            ids += [places[one.text] for one in parts]
            labels += [IGNORED] * len(parts)
            continue
        options = {"add_special_tokens": False, "return_offsets_mapping": True, "split_special_tokens": kind == "spelt"}
        encoded = tokenizer("".join(one.text for one in parts), **options)
        learned = [one.learned for one in parts for _ in one.text]
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ids += encoded["input_ids"]
        labels += [token if learned[begin] else IGNORED for token, (begin, _) in pairs]
    return ids, labels
