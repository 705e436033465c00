"""Where heads of the language model are shown to look while it learns to read scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lessons import COLUMNS, ROWS
from sprites import names, plural
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from world import COLOURS

from mgtool.model.splice import IGNORED

SPACE = "\u0120"
"""As the tokenizer writes the one before a word."""
SIDES = ("left", "right", "above", "below", "top", "bottom")
FIRST = 4
"""Weight of the first token beside an object's one: four objects and five are told apart best where it is as large."""
EXACT = 4.0
ODDS = 5.0
"""Weights of the two losses of what is counted by: numbers are told apart by small differences of attention."""


class Sample(NamedTuple):
    """A told scene within a conversation of L tokens, visual ones among them.

    Attributes:
        ids: (L,) the text's tokens; zeros for the V visual ones.
        labels: (L,) what is learned.
        first: position of the first visual token.
        shown: (V, K) the words of the visual tokens.
    """

    ids: Tensor
    labels: Tensor
    first: int
    shown: Tensor


class Gaze(NamedTuple):
    """What some heads of a layer look at.

    Attributes:
        name: of their loss.
        layer, heads: which.
        wanted: a sample's positions that look, (N,), and for each head at what, (heads, N, L), summing to one.
        counts: whether the share of the first token tells a number, and so must be exact.
    """

    name: str
    layer: int
    heads: tuple[int, ...]
    wanted: Callable[[Sample], tuple[Tensor, Tensor]]
    counts: bool = False


class Words:
    """What the tokens of a vocabulary are to the scenes, (vocabulary,) each.

    Attributes:
        singular: the token of a name's singular; -1 for what is no name.
        places: whether it tells a place of the grid.
        sides: whether it is one of `SIDES`.
        sought: whether a question says by it what is to be found: names, colours, sides.
        asks: whether an answer begins behind it.
        parts: whether a question ends with it.
    """

    def __init__(self, words: PreTrainedTokenizerFast) -> None:
        def token(word: str) -> int:
            return int(words.convert_tokens_to_ids(f"{SPACE}{word}"))

        def holds(tokens: Iterable[int]) -> Tensor:
            return torch.zeros(len(words), dtype=torch.bool).index_fill(0, torch.tensor(list(tokens)), 1)

        self.singular = torch.full((len(words),), -1)
        for name in names():
            self.singular[[token(name), token(plural(name))]] = token(name)
        self.places = holds(map(token, (*ROWS, *COLUMNS)))
        self.sides = holds(map(token, SIDES))
        self.sought = (self.singular >= 0) | self.sides | holds(map(token, COLOURS))
        self.asks = holds([token("="), int(words.convert_tokens_to_ids(":"))])
        self.parts = holds(map(int, words.convert_tokens_to_ids([",", words.eos_token])))


class Looks:
    """What seven heads are shown.

    From a name in the text, one looks to the places that hold it, and four, in two layers, to the objects of that name
    and the first token, so that their number can be told from what that one gets; without a match all look at the first
    token. How well a name matches itself differs from name to name, and each of the four errs for itself.
    Where an answer begins, one looks to what its question names. Before a name is answered, one looks at what has it.
    """

    def __init__(self, words: PreTrainedTokenizerFast) -> None:
        self.words = Words(words)
        self.gazes = (
            Gaze("looked_up", 1, (0, 1, 2), self.looked_up, counts=True),
            Gaze("counted", 2, (1, 2), self.counted, counts=True),
            Gaze("asked", 2, (0,), self.asked),
            Gaze("searched", 3, (0,), self.searched),
        )

    def looked_up(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Names in the text, and for each the places that hold it, and its objects with the first token."""
        asking, same = self._named(sample)
        places = same & self._placed(sample)
        each = self._each(sample, same)
        return asking, torch.cat([_shares(sample, places, ~places.any(dim=-1)), each, each])

    def counted(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """The objects of `looked_up` once more."""
        asking, same = self._named(sample)
        return asking, self._each(sample, same).expand(2, -1, -1)

    def asked(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Where an answer begins, and the names, colours and sides of its question."""
        asking = (self.words.asks[sample.ids[:-1]] & (sample.labels[1:] != IGNORED)).nonzero().flatten()
        before = torch.arange(len(sample.ids)) < asking[:, None]
        words = self._with(sample, asking) & before & self.words.sought[sample.ids] & (sample.labels == IGNORED)
        told = words.any(dim=-1)
        return asking[told], (words[told] / words[told].sum(dim=-1, keepdim=True))[None]

    def searched(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Where an answer begins with a name, and what has it; of that what tells its place, where a side is asked."""
        named = (self.words.singular[sample.ids[1:]] >= 0) & (sample.labels[1:] != IGNORED)
        asking = (named & self.words.asks[sample.ids[:-1]]).nonzero().flatten()
        sided = (self._with(sample, asking) & self.words.sides[sample.ids]).any(dim=-1, keepdim=True)
        having = _having(sample, self.words.singular[sample.ids[asking + 1]]) & (self._placed(sample) | ~sided)
        return asking, _shares(sample, having, ~having.any(dim=-1))

    def _named(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Positions (N,) of the names in the text, and (N, V) whether a visual token has the name."""
        named = self.words.singular[sample.ids]
        asking = (named >= 0).nonzero().flatten()
        return asking, _having(sample, named[asking])

    def _each(self, sample: Sample, same: Tensor) -> Tensor:
        """(N, V) what has a name -> (1, N, L), its objects with the first token; a list without a grid tells places."""
        placed = self._placed(sample)
        return _shares(sample, same & (placed if placed.all() else ~placed), FIRST)

    def _placed(self, sample: Sample) -> Tensor:
        """(V,) whether a visual token tells its place."""
        return self.words.places[sample.shown].any(dim=-1)

    def _with(self, sample: Sample, asking: Tensor) -> Tensor:
        """(N,) positions -> (N, L), whether another is of the same question."""
        part = self.words.parts[sample.ids].cumsum(0)
        return part == part[asking, None]


def _having(sample: Sample, name: Tensor) -> Tensor:
    """(N,) names -> (N, V), whether a visual token has it among its words."""
    return (sample.shown[None] == name[:, None, None]).any(dim=-1)


def _shares(sample: Sample, looks: Tensor, first: Tensor | float) -> Tensor:
    """(N, V) of the visual tokens, with a weight of the first of all -> (1, N, L), summing to one."""
    wanted = torch.zeros(len(looks), len(sample.ids))
    wanted[:, sample.first : sample.first + looks.shape[-1]] = looks.float()
    wanted[:, 0] = first
    return (wanted / wanted.sum(dim=-1, keepdim=True))[None]


@contextmanager
def watched(layers: nn.ModuleList, gazes: Sequence[Gaze]) -> Iterator[dict[int, dict[str, Any]]]:
    """What the attention of these gazes' layers is given, by layer, once the model has run."""
    given: dict[int, dict[str, Any]] = {gaze.layer: {} for gaze in gazes}
    hooks = [
        layers[number].self_attn.register_forward_pre_hook(
            lambda _, args, kwargs, seen=seen: seen.update(kwargs), with_kwargs=True
        )
        for number, seen in given.items()
    ]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def missed(
    attention: nn.Module, gaze: Gaze, samples: Sequence[Sample], given: dict[str, Any], *, exact: bool = True
) -> Tensor:
    """Cross entropy of the heads' attention with what they should look at; samples are padded on the left.

    Where the first token's share counts, that weighs more, and the share's log odds are learned, too: to cross entropy
    alone, four objects and five are almost the same. `exact` False leaves both out: they hinder heads that
    match nothing yet.
    """
    counts = exact and gaze.counts
    states: Tensor = given["hidden_states"]
    shape = (*states.shape[:2], -1, attention.head_dim)
    queries, keys = (
        project(states).view(shape)[:, :, list(gaze.heads)].transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj)
    )
    queries, keys = apply_rotary_pos_emb(queries, keys, *given["position_embeddings"])
    losses, odds = [states.new_zeros(0)], [states.new_zeros(0)]
    for row, sample in enumerate(samples):
        asking, wanted = gaze.wanted(sample)
        places = asking + states.shape[1] - len(sample.ids)
        scores = queries[row][:, places] @ keys[row][:, -len(sample.ids) :].transpose(-1, -2) * attention.scaling
        logits = scores.float().masked_fill(torch.arange(len(sample.ids)) > asking[:, None], -1e4)
        losses.append(-(wanted * logits.log_softmax(-1)).sum(-1).flatten())
        if counts:
            odds.append(_odds_missed(logits, wanted))
    loss, errors = torch.cat(losses).mean(), torch.cat(odds)
    return EXACT * loss + ODDS * errors.sum() / max(1, len(errors)) if counts else loss


def _odds_missed(logits: Tensor, wanted: Tensor) -> Tensor:
    """Squared errors of the first token's log odds, where it is neither all that is looked at nor nothing of it."""
    first = wanted[..., 0]
    shared = (first > 0) & (first < 1)
    found = logits[..., 0] - logits[..., 1:].logsumexp(-1)
    return (found[shared] - first[shared].logit()).square()
