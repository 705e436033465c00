"""How long a busy server is left alone before it is asked again.

By hand: tenacity, which does the asking, knows no header that says how long to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

LONGEST_WAIT_S = 60.0


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Seconds that a response asks to wait, as a number or as a date (RFC 9110, 10.2.3); None where it does not."""
    value = (headers or {}).get("Retry-After")
    if not value:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def waiting(rising: Callable[[Any], float], asked: Callable[[BaseException], float | None]) -> Callable[[Any], float]:
    """A wait for tenacity: what a failure asks for, `LONGEST_WAIT_S` at most, or else the rising one."""

    def wait(state: Any) -> float:
        seconds = asked(state.outcome.exception())
        return rising(state) if seconds is None else min(seconds, LONGEST_WAIT_S)

    return wait
