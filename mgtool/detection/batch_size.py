"""The batch size that pays, found while a detector runs."""

from __future__ import annotations

MOST = 64
"""Largest batch that is found by itself."""


_GAIN = 1.05


_TIMES = 2


class BatchSize:
    """How many pictures the detector gets at once.

    Found by itself, it doubles from 1 while that makes pictures a second rise and memory allows it. Whether found
    or given, a batch that does not fit into memory is halved, and no later one is as large.

    Args:
        given: the size; None to find it.

    Attributes:
        now: the size of the next batch.
    """

    def __init__(self, given: int | None = None) -> None:
        self.now = given or 1
        self._growing = given is None
        self._rates: list[float] = []
        self._before = 0.0
        self._memory = _memory_in_use()
        self._largest_use = self._memory

    def ran(self, count: int, seconds: float) -> None:
        """Learn from a batch that went well."""
        if not self._growing or count != self.now:
            return
        self._largest_use = max(self._largest_use, _memory_in_use())
        self._rates.append(count / max(seconds, 1e-9))
        if len(self._rates) < _TIMES:
            return
        rate, self._rates = max(self._rates), []
        if rate < self._before * _GAIN:
            self._growing, self.now = False, self.now // 2
        elif self.now >= MOST or not self._has_room():
            self._growing = False
        else:
            self._before, self.now = rate, self.now * 2

    def did_not_fit(self, count: int) -> None:
        """Learn from a batch that ran out of memory."""
        self._growing = False
        self.now = max(1, min(self.now, count // 2))

    def _has_room(self) -> bool:
        import psutil

        # the system ends a process that takes too much instead of refusing: twice the batch must fit by far
        return 2 * (self._largest_use - self._memory) < psutil.virtual_memory().available


def _memory_in_use() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)
