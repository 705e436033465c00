"""Which share a process has: by number, by what launchers say, or whichever is free."""

from __future__ import annotations

import pytest

from mgtool.errors import UsageError
from mgtool.runs.claims import State, do_shares, told
from mgtool.runs.shares import Share, share_of


def _array(
    monkeypatch: pytest.MonkeyPatch, task: int, count: int, *, first: int = 0, step: int = 1, of: int = 1
) -> None:
    last = first + (count - 1) * step
    numbers = {"ID": task, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    for name, value in numbers.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    monkeypatch.setenv("SLURM_NTASKS", str(of))


@pytest.mark.parametrize(
    ("task", "first", "step", "of", "process", "share"),
    [
        (0, 0, 1, 1, 0, Share(0, 3)),
        (3, 1, 1, 1, 0, Share(2, 3)),
        (20, 10, 5, 1, 0, Share(2, 3)),
        (15, 10, 5, 4, 3, Share(7, 12)),
    ],
)
def test_tasks_of_an_array_are_ranks(
    task: int, first: int, step: int, of: int, process: int, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    _array(monkeypatch, task, 3, first=first, step=step, of=of)
    monkeypatch.setenv("SLURM_PROCID", str(process))
    assert share_of("slurm", 1) == share


def test_an_array_with_gaps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _array(monkeypatch, 9, 3, first=1)
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "9")
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_ID 9 of an array with gaps"):
        share_of("slurm", 1)


def test_half_an_array_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _array(monkeypatch, 1, 3)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.delenv("SLURM_ARRAY_TASK_COUNT")
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_COUNT is not there"):
        share_of("slurm", 1)


def test_any_needs_a_number_of_shares() -> None:
    assert share_of("any", 7).is_any
    with pytest.raises(UsageError, match="`rank` any: give `world_size`"):
        share_of("any", 1)


@pytest.mark.parametrize(
    ("own", "done", "left"),
    [(Share(1, 4), [1, 2], [0, 3]), (Share(-1, 4), [0, 2, 3], [1])],
)
def test_a_rank_does_its_own_and_what_dead_ones_began(own: Share, done: list[int], left: list[int]) -> None:
    """Share 0 was never begun, 1 is at work elsewhere unless it is the rank's own, 2 was left behind, 3 is new."""
    states = {0: State.NEW, 1: State.BEGUN, 2: State.BEGUN, 3: State.NEW}
    held = set[int]() if own.rank == 1 else {1}
    worked: list[int] = []

    def hold(share: Share):
        from contextlib import nullcontext

        from mgtool.files.lock import HeldError

        if share.rank in held:
            raise HeldError("held")
        return nullcontext()

    def work(share: Share) -> None:
        worked.append(share.rank)
        states[share.rank] = State.DONE

    missing = do_shares(own, hold=hold, state=lambda share: states[share.rank], work=work)
    assert (sorted(worked), [share.rank for share in missing]) == (done, left)
    assert told(missing).endswith("of 0..3")
