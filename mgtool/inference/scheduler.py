"""Which prompts run: those that wait, those that are decoded together, and what there is room for."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from mgtool.errors import ItemError
from mgtool.inference.sampling import SamplerState
from mgtool.model.processor import PlacedPicture

SMALLEST_PART = 8
"""Prompts of a group that are worth prefilling before there is room for all of it."""


@dataclass(frozen=True)
class Group:
    """Prompts that show the same pictures with the same boxes.

    Attributes:
        key: the identity of the pictures and their boxes.
        pictures: in the order in which the prompts show them.
        numbers: N names of the prompts, for the caller.
        prompts: N lists of token ids with placeholders.
        is_video: the pictures are the frames of one video, at one placeholder.
        shared: tokens whose keys and values the prompts share with those of the group that this is a part of; None
            for a whole group.
    """

    key: tuple[str, ...]
    pictures: Sequence[PlacedPicture]
    numbers: Sequence[int]
    prompts: Sequence[Sequence[int]]
    is_video: bool = False
    shared: int | None = None

    @property
    def common(self) -> int:
        """Tokens that the prompts share."""
        return shared_length(self.prompts) if self.shared is None else self.shared

    def part(self, begin: int, end: int | None = None) -> Group:
        """Some of the prompts, which go on sharing what the whole group shares."""
        numbers, prompts = self.numbers[begin:end], self.prompts[begin:end]
        return replace(self, numbers=numbers, prompts=prompts, shared=self.common)

    def alone(self, at: int) -> Group:
        """One prompt, which shares nothing."""
        return replace(self, numbers=[self.numbers[at]], prompts=[self.prompts[at]], shared=None)


class Completion(NamedTuple):
    """An answer's token ids, the end token included, why it ended, and what the sampler noted."""

    ids: list[int]
    finish_reason: Literal["stop", "length"]
    state: SamplerState


Outcome = tuple[int, Completion | ItemError]


@dataclass
class RunningSequence:
    """A prompt that is decoded.

    Attributes:
        prompt: a group of this prompt alone.
        limit: of new tokens.
        state: of the sampler.
        ids: new tokens so far.
        finish_reason: why the answer ended; None while it has not.
    """

    prompt: Group
    limit: int
    state: SamplerState
    ids: list[int] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None

    @property
    def number(self) -> int:
        """The caller's name of the prompt."""
        return self.prompt.numbers[0]


class Scheduler:
    """Groups that wait and sequences that run, at most `batch_size` of them.

    Args:
        batch_size: halved for good where memory does not suffice.
        max_new_tokens: limit of an answer.
        vision_tokens: of a picture, without its boxes.
        shares: prompts of a group share what they begin with; else each waits alone.

    Attributes:
        running: sequences by their places in the batch.
    """

    def __init__(self, *, batch_size: int, max_new_tokens: int, vision_tokens: int, shares: bool) -> None:
        self.batch_size, self.max_new_tokens, self.vision_tokens = batch_size, max_new_tokens, vision_tokens
        self.running: list[RunningSequence] = []
        self._shares = shares
        self._waiting: deque[Group] = deque()
        self._supply: Iterator[Group | None] = iter(())
        self._is_over = True
        self._is_ready: Callable[[], bool] = lambda: True

    def supply(self, groups: Iterable[Group | None], is_ready: Callable[[], bool]) -> None:
        """Take groups from a stream when there is room; arguments as of `Engine.generate`."""
        self._supply, self._is_ready, self._is_over = iter(groups), is_ready, False

    def has_work(self) -> bool:
        """Whether something runs, waits, or may still come."""
        return self._fill() or bool(self.running) or not self._is_over

    def has_room(self, drawn: Sequence[Group] = ()) -> bool:
        """Whether another sequence may run beside those of the groups drawn so far, and a group waits."""
        return len(self.running) + _prompts(drawn) < self.batch_size and self._fill(begun=bool(drawn))

    def next_groups(self, tokens: int, holds: Callable[[Sequence[int], int], bool]) -> list[Group]:
        """The groups that are prefilled next, in the order in which they wait; none where that is not worth it.

        Args:
            tokens: whose keys and values memory is left for.
            holds: whether prefixes of some lengths, and a number of pictures, are not too much at once.
        """
        drawn: list[Group] = []
        while self.has_room(drawn):
            several = [*drawn, self._waiting[0]]
            pictures = sum(len(group.pictures) for group in several)
            if drawn and not holds([self._shared(group) for group in several], pictures):
                break
            group = self.next_group(tokens, drawn)
            if group is None:
                break
            drawn.append(group)
        return drawn

    def next_group(self, tokens: int, drawn: Sequence[Group] = ()) -> Group | None:
        """The group that waits, or as much of it as there is room for; None where that is not worth a prefill.

        Args:
            tokens: whose keys and values memory is left for.
            drawn: groups that are about to run.
        """
        group = self._waiting[0]
        room = self._room(group, tokens, drawn)
        if room < min(len(group.prompts), SMALLEST_PART) and (self.running or drawn):
            return None
        self._waiting.popleft()
        if len(group.prompts) > room:
            self._waiting.appendleft(group.part(room))
            group = group.part(0, room)
        return group

    def leave(self, indices: Sequence[int]) -> None:
        """Sequences ended; the last ones take their places, as `moves_for` says."""
        for source, target in moves_for(indices, len(self.running)):
            self.running[target] = self.running[source]
        del self.running[len(self.running) - len(indices) :]

    def split(self, group: Group, *, is_scarce: bool) -> bool:
        """Let a group that failed wait again, in halves; False where that would not help.

        Args:
            group: as `next_group` gave it.
            is_scarce: it failed for want of memory.
        """
        count = len(group.prompts)
        if count > 1:
            self._waiting.extendleft([group.part(count // 2), group.part(0, count // 2)])
            self.batch_size = len(self.running) + count // 2 if is_scarce else self.batch_size
            return True
        if is_scarce and self.running:
            self._waiting.appendleft(group)
            self.batch_size = len(self.running)
            return True
        return False

    def back_off(self) -> RunningSequence | None:
        """Sequences that cannot be decoded together begin again, half as many at a time; gives one that ran alone."""
        sequences, self.running = self.running, []
        if len(sequences) == 1:
            return sequences[0]
        # The cache may have grown in some layers only, so that none can go on.
        self._waiting.extendleft(sequence.prompt for sequence in reversed(sequences))
        self.batch_size = max(1, len(sequences) // 2)
        return None

    def _fill(self, *, begun: bool = False) -> bool:
        """Whether a group waits, drawing one from the stream where none does.

        Args:
            begun: another one is about to run, so that this one is not waited for.
        """
        if not self._waiting and not self._is_over and (self._is_ready() or not (self.running or begun)):
            try:
                group = next(self._supply)
            except StopIteration:
                self._is_over = True
            else:
                self._waiting.extend([] if group is None else self._parts(group))
        return bool(self._waiting)

    def _parts(self, group: Group) -> list[Group]:
        return [group.part(0)] if self._shares else [group.alone(at) for at in range(len(group.prompts))]

    def _room(self, group: Group, tokens: int, drawn: Sequence[Group]) -> int:
        """Prompts of a group that places and tokens are left for; 1 at least where nothing runs."""
        reserved = sum(sequence.limit - len(sequence.ids) for sequence in self.running)
        reserved += sum(self._shared(one) + len(one.prompts) * self._own(one) for one in drawn)
        places = self.batch_size - len(self.running) - _prompts(drawn)
        room = min(places, (tokens - reserved - self._shared(group)) // self._own(group))
        return max(room, 0 if self.running or drawn else 1)

    def _shared(self, group: Group) -> int:
        """Tokens of what a group's prompts share, with those of all its pictures."""
        return group.common + sum(len(picture.boxes) + self.vision_tokens for picture in group.pictures)

    def _own(self, group: Group) -> int:
        """Tokens of a prompt's own, and of the longest answer."""
        return max(map(len, group.prompts)) - group.common + self.max_new_tokens


def _prompts(groups: Sequence[Group]) -> int:
    return sum(len(group.prompts) for group in groups)


def moves_for(leaving: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Which of `count` places take whose number when some leave, so that there is no hole: (from, to) each.

    >>> moves_for([1, 2, 5], 6), moves_for([5], 6)
    ([(3, 1), (4, 2)], [])
    """
    gone, kept = set(leaving), count - len(leaving)
    sources = [place for place in range(kept, count) if place not in gone]
    return list(zip(sources, sorted(place for place in gone if place < kept), strict=True))


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, leaving each at least one of its own; all of a prompt that is alone.

    >>> shared_length([[1, -200, 5, 6], [1, -200, 5, 7, 8]]), shared_length([[1, 2], [1, 2]]), shared_length([[1, 2]])
    (3, 1, 2)
    """
    if len(prompts) == 1:
        return len(prompts[0])
    common = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in common), min(map(len, prompts)) - 1)
