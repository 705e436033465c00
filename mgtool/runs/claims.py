"""Shares of a run on a disk that all ranks see: each rank does its own, then takes over what dead ones left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from enum import Enum

from mgtool.files.lock import HeldError
from mgtool.runs.shares import Share

Hold = Callable[[Share], AbstractContextManager[object]]
"""Keeps others from a share; a `HeldError` where one is at it."""

_MOST_TOLD = 8


class State(Enum):
    """How far a share is."""

    NEW = "nobody began"
    BEGUN = "somebody began"
    DONE = "complete"


def do_shares(
    own: Share,
    *,
    hold: Hold,
    state: Callable[[Share], State],
    work: Callable[[Share], object],
    refresh: Callable[[], None] = lambda: None,
) -> list[Share]:
    """Do a rank's own share, then those that others began and no longer hold, one after the other.

    Args:
        own: which the caller holds; of any rank, shares that nobody began are taken, too.
        hold: keeps others away.
        state: looks at a share on disk.
        work: does one; it goes on where another rank stopped.
        refresh: brings what `state` looks at up to date.

    Returns:
        The shares that are not done, in order: others are at them, or will begin them.
    """
    wanted = {State.NEW, State.BEGUN} if own.is_any else {State.BEGUN}
    for share in own.all:
        if share == own:
            work(share)
        elif state(share) in wanted:
            _take_up(share, hold, state, work)
    refresh()
    return [share for share in sorted(own.all, key=lambda share: share.rank) if state(share) != State.DONE]


def _take_up(share: Share, hold: Hold, state: Callable[[Share], State], work: Callable[[Share], object]) -> None:
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(share))
        except HeldError:
            return
        if state(share) != State.DONE:  # since it was looked at
            work(share)


def told(missing: Sequence[Share]) -> str:
    """Shares that are waited for, in words; empty for none.

    >>> told([Share(1, 3)]), told([])
    ('shares 1 of 0..2', '')
    """
    if not missing:
        return ""
    ranks = ", ".join(str(share.rank) for share in missing[:_MOST_TOLD])
    more = f" and {len(missing) - _MOST_TOLD} more" if len(missing) > _MOST_TOLD else ""
    return f"shares {ranks}{more} of 0..{missing[0].world_size - 1}"
