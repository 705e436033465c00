"""What asking a judge costs, how much it may cost, and how fast it may be asked."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from mgtool.errors import UsageError
from mgtool.scoring.benchmark import JudgeRequest

CHARACTERS_PER_TOKEN = 4
"""What a token is taken for before a server has counted."""
_MILLION = 1_000_000
_UNITS = {"": 1, "k": 1000, "M": _MILLION}
_MINUTE_S = 60.0


class TokenUse(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one reply, or of many.

    Attributes:
        prompt: what was read.
        reply: what was written, thinking included.
    """

    prompt: int = 0
    reply: int = 0

    def __add__(self, other: TokenUse) -> TokenUse:
        return TokenUse(prompt=self.prompt + other.prompt, reply=self.reply + other.reply)

    @property
    def total(self) -> int:
        """Both together."""
        return self.prompt + self.reply


class JudgePrice(NamedTuple):
    """US dollars for a million tokens, read and written."""

    prompt: float
    reply: float

    def of(self, use: TokenUse) -> float:
        """What some tokens cost."""
        return (use.prompt * self.prompt + use.reply * self.reply) / _MILLION


def parsed_price(text: str) -> JudgePrice | None:
    """A price of the form ``2.50/10``; None for none.

    Raises:
        UsageError: for anything else.

    >>> parsed_price("2.50/10")
    JudgePrice(prompt=2.5, reply=10.0)
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)", text.strip())
    if found is None:
        raise UsageError("judge_price", f"{text}: give US dollars for a million tokens read/written, such as 2.50/10")
    return JudgePrice(float(found[1]), float(found[2]))


class JudgeBudget:
    """What may be spent; shared by the threads that ask.

    Args:
        text: ``200000``, ``200k`` or ``2M`` tokens, or ``5usd``; empty for no limit.
        price: what tokens cost.

    Raises:
        UsageError: for another form, or an amount of money without a price.
    """

    def __init__(self, text: str = "", price: JudgePrice | None = None) -> None:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(usd|k|M|)", text.strip()) if text else None
        if text and found is None:
            raise UsageError("judge_budget", f"{text}: give tokens (200000, 200k, 2M) or US dollars (5usd)")
        self.is_money = found is not None and found[2] == "usd"
        if self.is_money and price is None:
            raise UsageError("judge_budget", f"{text}: in dollars needs `judge_price`")
        self.limit = None if found is None else float(found[1]) * _UNITS.get(found[2], 1)
        self.text = text
        self.price = price
        self.refused = 0
        self._spent = 0.0
        self._lock = threading.Lock()

    def reserve(self, request: JudgeRequest) -> TokenUse | None:
        """Room for the most that a request can cost, or None where it is not there any more."""
        read = len(request.system + request.user) // CHARACTERS_PER_TOKEN + 1
        most = TokenUse(prompt=read, reply=request.max_tokens)
        with self._lock:
            if self.limit is not None and self._spent + self._amount(most) > self.limit:
                self.refused += 1
                return None
            self._spent += self._amount(most)
        return most

    def settle(self, reserved: TokenUse, used: TokenUse) -> None:
        """Replace what was reserved by what was used."""
        with self._lock:
            self._spent += self._amount(used) - self._amount(reserved)

    def _amount(self, use: TokenUse) -> float:
        return self.price.of(use) if self.is_money and self.price is not None else float(use.total)


class JudgePace:
    """Requests at even distances, and none while a server asks to be left alone; shared by the threads that ask.

    Args:
        per_minute: requests a minute at most; 0 for no limit.
        clock, sleep: of the machine.
    """

    def __init__(
        self,
        per_minute: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = _MINUTE_S / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._next = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Sleep until it is this request's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            self._sleep(turn - now)

    def hold(self, seconds: float) -> None:
        """Let all requests wait for so long."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


class JudgeUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge did for a run.

    Attributes:
        name: of the judge.
        replies: that were used, kept ones too.
        asked: of them in this run.
        failed: requests to which there is no reply.
        over_budget: of them because the budget was spent.
        tokens: of the replies that were asked for in this run, as far as the server counts.
        cost_usd: of these; None without a price.
    """

    name: str
    replies: int = 0
    asked: int = 0
    failed: int = 0
    over_budget: int = 0
    tokens: TokenUse = TokenUse()
    cost_usd: float | None = None

    @property
    def line(self) -> str:
        """All of it, for reading."""
        parts = [
            f"{self.replies:,} replies"
            + (f", {self.replies - self.asked:,} of them kept" if self.asked < self.replies else "")
        ]
        if self.tokens.total:
            parts.append(f"{self.tokens.prompt:,} tokens read and {self.tokens.reply:,} written")
        parts += [] if self.cost_usd is None else [f"{self.cost_usd:.2f} USD"]
        parts += [f"{self.failed:,} requests without a reply"] if self.failed else []
        return f"judge {self.name}: {'; '.join(parts)}"
