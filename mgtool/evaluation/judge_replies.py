"""What an OpenAI-compatible server's responses say."""

from __future__ import annotations

import re
from typing import Any

from mgtool.evaluation.judge_costs import CHARACTERS_PER_TOKEN, TokenUse
from mgtool.scoring.benchmark import JudgeRequest


def counted(usage: Any, request: JudgeRequest, text: str) -> TokenUse:
    """The tokens that a server counted; about as many, where it counts none."""
    known = usage if isinstance(usage, dict) else {}
    numbers = [known.get(name) for name in ("prompt_tokens", "completion_tokens")]
    guessed = [len(request.system + request.user), len(text)]
    prompt, reply = (
        number if isinstance(number, int) and number >= 0 else length // CHARACTERS_PER_TOKEN + 1
        for number, length in zip(numbers, guessed, strict=True)
    )
    return TokenUse(prompt=prompt, reply=reply)


def refused_parameter(response: Any) -> str:
    """The parameter that a refusal names, in its own field or in its words; empty where it names none."""
    try:
        body = response.json()
        error = body.get("error", body)  # some servers have its fields at the top, or a mere text
        named = error.get("param") if isinstance(error, dict) else None
        words = str(error.get("message", "") if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        return ""
    found = re.search(r"max_completion_tokens|max_tokens|temperature", words)
    return named if isinstance(named, str) and named else found[0] if found else ""


def refusal(response: Any) -> str:
    """The server's own words, short; they hold no key, as the request's headers are not in them."""
    try:
        return str(response.json()["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError, RecursionError):
        return str(response.text)[:200]
