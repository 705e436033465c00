"""Judges: models that score answers, asked over an OpenAI-compatible endpoint or locally, never twice the same.

Every reply is kept as it came, in a journal keyed by judge and request, so that scores can be computed again without
asking.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mgtool.errors import UsageError
from mgtool.evaluation.judge_costs import (
    CHARACTERS_PER_TOKEN,
    JudgeBudget,
    JudgePace,
    JudgePrice,
    JudgeUse,
    TokenUse,
    parsed_price,
)
from mgtool.evaluation.judge_replies import counted, refusal, refused_parameter
from mgtool.evaluation.local_judge import LocalBackend
from mgtool.evaluation.options import EvalOptions
from mgtool.files.journal import Journal
from mgtool.files.retries import LONGEST_WAIT_S, retry_after, waiting
from mgtool.records import Advance, canonical
from mgtool.scoring.benchmark import JudgeRequest

JUDGE_FILE = "judge.jsonl"
ATTEMPTS = 6
TIMEOUT_S = 120.0
MAX_TOKENS = "max_tokens"
MORE_ROOM, FIRST_ROOM, MOST_TOKENS = 4, 1024, 16_384
"""A reply that thinking left no room for gets so many times as much, at least and at most so many tokens."""
_LIMIT_NAMES = {MAX_TOKENS: "max_completion_tokens", "max_completion_tokens": ""}
"""What stands in for a limit that the server refuses; nothing where it refuses that, too."""
_REFUSED = frozenset({400, 422})
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``judge.jsonl``.

    Attributes:
        key: the identity of judge and request.
        reply: as it came.
        otherwise: in what the judge was asked otherwise than the request says.
        tokens: as the server counted them; None where it did not.
    """

    key: str
    judge: str
    request: JudgeRequest
    reply: str
    otherwise: tuple[str, ...] = ()
    tokens: TokenUse | None = None


class Backend(Protocol):
    """A model that answers requests."""

    name: str
    tokens: dict[int, TokenUse]
    """Of the replies of the latest call, by place, where they are counted."""

    @property
    def otherwise(self) -> tuple[str, ...]:
        """In what it asks otherwise than the requests say, as found out so far."""
        ...

    def replies(self, requests: Sequence[JudgeRequest]) -> Iterator[tuple[int, str]]:
        """Place and text of each reply, in any order, as they come; those that fail for good are left out."""
        ...


class KeptJudge:
    """Asks a backend only what the journal does not know.

    Args:
        backend: the model.
        journal: its earlier replies, to which the new ones are added.
        advance: called with 1 for each new reply.
        budget: what may be spent on new ones.
        price: what they cost.
    """

    def __init__(
        self,
        backend: Backend,
        journal: Journal,
        advance: Advance = lambda n: None,
        budget: JudgeBudget | None = None,
        price: JudgePrice | None = None,
    ) -> None:
        self.backend = backend
        self.journal = journal
        self.advance = advance
        self.budget = budget or JudgeBudget()
        self.price = price
        self.asked = 0
        self._tokens = TokenUse()
        self._used: set[str] = set()
        self._failed: set[str] = set()
        self._known = {line.key: line for line in journal.read(Reply)}
        self._otherwise: dict[str, None] = {}

    def ask(self, requests: Sequence[JudgeRequest]) -> list[str | None]:
        """One reply for each request, in order; None where there is none."""
        keys = [request_key(self.backend.name, request) for request in requests]
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in self._known}
        waiting = list(new.items())
        for place, text in self.backend.replies([request for _, request in waiting]):
            key, request = waiting[place]
            self._keep(key, request, text, self.backend.tokens.get(place))
        known = [self._known.get(key) for key in keys]
        self._used |= {line.key for line in known if line is not None}
        self._failed = (self._failed | set(keys)) - self._known.keys()
        self._otherwise |= dict.fromkeys(way for line in known if line is not None for way in line.otherwise)
        return [None if line is None else line.reply for line in known]

    def _keep(self, key: str, request: JudgeRequest, text: str, tokens: TokenUse | None) -> None:
        name, otherwise = self.backend.name, self.backend.otherwise
        line = Reply(key=key, judge=name, request=request, reply=text, otherwise=otherwise, tokens=tokens)
        self.journal.append(line)
        self._known[key] = line
        self._tokens += tokens or TokenUse()
        self.asked += 1
        self.advance(1)

    @property
    def use(self) -> JudgeUse:
        """What was asked so far, and what that cost."""
        return JudgeUse(
            name=self.backend.name,
            replies=len(self._used),
            asked=self.asked,
            failed=len(self._failed),
            over_budget=min(self.budget.refused, len(self._failed)),
            tokens=self._tokens,
            cost_usd=None if self.price is None else round(self.price.of(self._tokens), 6),
        )

    @property
    def otherwise(self) -> list[str]:
        """In what the judge was asked otherwise than the original asks, for the replies that were used."""
        return list(self._otherwise)


class CountingJudge:
    """Answers nothing and counts what would be asked."""

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0

    def ask(self, requests: Sequence[JudgeRequest]) -> list[str | None]:
        """Nobody answers."""
        self.requests += len(requests)
        self.tokens += sum(len(request.system + request.user) // CHARACTERS_PER_TOKEN for request in requests)
        return [None] * len(requests)


def request_key(judge: str, request: JudgeRequest) -> str:
    """The identity of a request to a judge; a first question has none of what tells repeated ones apart."""
    asked = msgspec.to_builtins(request)
    if not request.repeat:
        del asked["repeat"]
    return hashlib.sha256(canonical([judge, asked])).hexdigest()


def backend(options: EvalOptions, budget: JudgeBudget | None = None) -> Backend:
    """The model that is asked for, within a budget.

    Raises:
        UsageError: for a judge that is neither ``openai:MODEL`` nor ``hf:PATH``.
    """
    kind, _, name = options.judge.partition(":")
    if kind == "openai" and name:
        pace = JudgePace(options.judge_rate)
        return OpenAiBackend(name, options.judge_url, options.judge_workers, pace=pace, budget=budget)
    if kind == "hf" and name:
        return LocalBackend(name)
    raise UsageError("judge", f"{options.judge}: give openai:MODEL or hf:PATH")


@contextlib.contextmanager
def kept_judge(options: EvalOptions, folder: Path | None, advance: Advance) -> Iterator[KeptJudge | None]:
    """The judge that is asked for, with the replies that a folder keeps; None where none is asked for.

    Args:
        options: judge, its URL, its workers.
        folder: where the replies are kept.
        advance: called with 1 for each new reply.

    Raises:
        UsageError: for a judge without a folder, or of a form that is not known.
    """
    if not options.judge:
        yield None
        return
    if folder is None:
        raise UsageError("judge", "needs `out` DIR, where its replies are kept")
    price = parsed_price(options.judge_price)
    budget = JudgeBudget(options.judge_budget, price)
    judge = KeptJudge(backend(options, budget), Journal(folder / JUDGE_FILE), advance, budget, price)
    try:
        yield judge
    finally:
        judge.journal.close()


class _BusyError(Exception):
    """A failure that may pass.

    Attributes:
        wait_s: how long the server asks to wait, where it says so.
    """

    def __init__(self, detail: str, wait_s: float | None = None) -> None:
        super().__init__(detail)
        self.wait_s = wait_s


class OpenAiBackend:
    """Any endpoint that speaks OpenAI's chat completions; the key comes from ``OPENAI_API_KEY``."""

    def __init__(
        self,
        model: str,
        url: str,
        workers: int,
        *,
        first_wait_s: float = 1.0,
        pace: JudgePace | None = None,
        budget: JudgeBudget | None = None,
    ) -> None:
        self.name = f"openai:{model}"
        self.model = model
        self.url = f"{url.rstrip('/')}/chat/completions"
        self.workers = workers
        self.first_wait_s = first_wait_s
        self.pace, self.budget = pace or JudgePace(), budget or JudgeBudget()
        self.tokens: dict[int, TokenUse] = {}
        self._limit_name = MAX_TOKENS
        self._has_temperature = True
        self._least_tokens = 0

    @property
    def otherwise(self) -> tuple[str, ...]:
        """What the server refused, and the room that it needs to answer at all."""
        limit = f"with `{self._limit_name}`" if self._limit_name else "without a limit of the reply"
        ways = {
            f"{limit} in place of `{MAX_TOKENS}`": self._limit_name != MAX_TOKENS,
            "without `temperature`": not self._has_temperature,
            f"with room for {self._least_tokens:,} tokens at least": self._least_tokens > 0,
        }
        return tuple(way for way, is_so in ways.items() if is_so)

    def replies(self, requests: Sequence[JudgeRequest]) -> Iterator[tuple[int, str]]:
        """Ask several at a time; a busy or broken server is asked again, later and later.

        Raises:
            UsageError: when the server refuses the key, the model or the form of the request.
        """
        import httpx

        self.tokens = {}
        if not requests:
            return
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(headers=headers, timeout=TIMEOUT_S) as client, ThreadPoolExecutor(self.workers) as pool:
            places = {pool.submit(self._affordably, client, request): n for n, request in enumerate(requests)}
            try:
                for done in as_completed(places):
                    text, tokens = done.result()
                    if text is not None:
                        self.tokens |= {places[done]: tokens} if tokens.total else {}
                        yield places[done], text
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _affordably(self, client: Any, request: JudgeRequest) -> tuple[str | None, TokenUse]:
        """A reply and its tokens; none where the budget has no room for it."""
        reserved = self.budget.reserve(request)
        if reserved is None:
            return None, TokenUse()
        used: list[TokenUse] = []
        try:
            text = self._patiently(client, request, used)
        finally:
            tokens = sum(used, TokenUse())
            self.budget.settle(reserved, tokens)
        return text, tokens

    def _patiently(self, client: Any, request: JudgeRequest, used: list[TokenUse]) -> str | None:
        import tenacity

        rising = tenacity.wait_random_exponential(multiplier=self.first_wait_s, max=LONGEST_WAIT_S)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=waiting(rising, lambda error: getattr(error, "wait_s", None)),
            retry=tenacity.retry_if_exception_type(_BusyError),
            retry_error_callback=lambda _: None,
        )
        reply: str | None = retrying(self._once, client, request, used)
        return reply

    def _once(self, client: Any, request: JudgeRequest, used: list[TokenUse]) -> str:
        """A reply; one that is empty because its limit was reached is asked for again with more room."""
        limit = max(request.max_tokens, self._least_tokens)
        while True:
            text, is_cut_off = self._replied(client, request, limit, used)
            if text or not is_cut_off or limit >= MOST_TOKENS:
                break
            limit = min(max(MORE_ROOM * limit, FIRST_ROOM), MOST_TOKENS)
        if text and limit > max(request.max_tokens, self._least_tokens):
            self._least_tokens = limit
        return text

    def _replied(self, client: Any, request: JudgeRequest, limit: int, used: list[TokenUse]) -> tuple[str, bool]:
        """The text, and whether it was cut off at the limit."""
        response = self._accepted(client, request, limit)
        try:
            body = response.json()
            choice = body["choices"][0]
            text = str(choice["message"]["content"] or "")
            used.append(counted(body.get("usage"), request, text))
            return text, choice.get("finish_reason") == "length"
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _BusyError("a reply that is not what it should be") from error

    def _accepted(self, client: Any, request: JudgeRequest, limit: int) -> Any:
        """The response to a request, without the parameters that the server refuses."""
        import httpx

        while True:
            body = self._body(request, limit)
            self.pace.wait()
            try:
                response = client.post(self.url, json=body)
            except httpx.TransportError as error:
                raise _BusyError(str(error)) from error
            if response.status_code in _BUSY:
                seconds = retry_after(response.headers)
                self.pace.hold(min(seconds or 0.0, LONGEST_WAIT_S))
                raise _BusyError(f"status {response.status_code}", seconds)
            if response.status_code == httpx.codes.OK:
                return response
            if response.status_code not in _REFUSED or not self._gives_way(refused_parameter(response), body):
                detail = f": the judge at {self.url} refuses: {response.status_code} {refusal(response)}"
                raise UsageError("judge", detail)

    def _body(self, request: JudgeRequest, limit: int) -> dict[str, Any]:
        system = [{"role": "system", "content": request.system}] if request.system else []
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": request.user}],
        }
        if self._limit_name:
            body[self._limit_name] = limit
        if request.temperature is not None and self._has_temperature:
            body["temperature"] = request.temperature
        return body

    def _gives_way(self, refused: str, body: dict[str, Any]) -> bool:
        """Leave out, from now on, what the server refused; whether that is something that can be left out."""
        if refused not in body or refused not in (*_LIMIT_NAMES, "temperature"):
            return False
        if refused == "temperature":
            self._has_temperature = False
        elif refused == self._limit_name:  # another thread may have found it out by now
            self._limit_name = _LIMIT_NAMES[refused]
        return True
