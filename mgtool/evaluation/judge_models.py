"""Judges: models that score answers, asked over an OpenAI-compatible endpoint or locally, never twice the same.

Every reply is kept as it came, in a journal keyed by judge and request, so that scores can be computed again without
asking.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mgtool.errors import UsageError
from mgtool.evaluation.options import EvalOptions
from mgtool.files.journal import Journal
from mgtool.files.retries import LONGEST_WAIT_S, retry_after, waiting
from mgtool.records import Advance, canonical
from mgtool.scoring.benchmark import JudgeRequest

JUDGE_FILE = "judge.jsonl"
ATTEMPTS = 6
TIMEOUT_S = 120.0
CHARACTERS_PER_TOKEN = 4
MAX_TOKENS = "max_tokens"
MORE_ROOM, FIRST_ROOM, MOST_TOKENS = 4, 1024, 16_384
"""A reply that thinking left no room for gets so many times as much, at least and at most so many tokens."""
_LIMIT_NAMES = {MAX_TOKENS: "max_completion_tokens", "max_completion_tokens": ""}
"""What stands in for a limit that the server refuses; nothing where it refuses that, too."""
_REFUSED = frozenset({400, 422})
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``judge.jsonl``; `otherwise`: in what the judge was asked otherwise than the request says."""

    key: str
    judge: str
    request: JudgeRequest
    reply: str
    otherwise: tuple[str, ...] = ()


class Backend(Protocol):
    """A model that answers requests."""

    name: str

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
    """

    def __init__(self, backend: Backend, journal: Journal, advance: Advance = lambda n: None) -> None:
        self.backend = backend
        self.journal = journal
        self.advance = advance
        self.asked = 0
        self._known = {line.key: line for line in journal.read(Reply)}
        self._otherwise: dict[str, None] = {}

    def ask(self, requests: Sequence[JudgeRequest]) -> list[str | None]:
        """One reply for each request, in order; None where there is none."""
        keys = [request_key(self.backend.name, request) for request in requests]
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in self._known}
        waiting = list(new.items())
        for place, text in self.backend.replies([request for _, request in waiting]):
            key, request = waiting[place]
            otherwise = self.backend.otherwise
            line = Reply(key=key, judge=self.backend.name, request=request, reply=text, otherwise=otherwise)
            self.journal.append(line)
            self._known[key] = line
            self.asked += 1
            self.advance(1)
        known = [self._known.get(key) for key in keys]
        self._otherwise |= dict.fromkeys(way for line in known if line is not None for way in line.otherwise)
        return [None if line is None else line.reply for line in known]

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


def backend(options: EvalOptions) -> Backend:
    """The model that is asked for.

    Raises:
        UsageError: for a judge that is neither ``openai:MODEL`` nor ``hf:PATH``.
    """
    kind, _, name = options.judge.partition(":")
    if kind == "openai" and name:
        return OpenAiBackend(name, options.judge_url, options.judge_workers)
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
    judge = KeptJudge(backend(options), Journal(folder / JUDGE_FILE), advance)
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

    def __init__(self, model: str, url: str, workers: int, *, first_wait_s: float = 1.0) -> None:
        self.name = f"openai:{model}"
        self.model = model
        self.url = f"{url.rstrip('/')}/chat/completions"
        self.workers = workers
        self.first_wait_s = first_wait_s
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

        if not requests:
            return
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with (
            httpx.Client(headers=headers, timeout=TIMEOUT_S) as client,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            places = {pool.submit(self._patiently, client, request): n for n, request in enumerate(requests)}
            try:
                for done in as_completed(places):
                    text = done.result()
                    if text is not None:
                        yield places[done], text
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _patiently(self, client: Any, request: JudgeRequest) -> str | None:
        import tenacity

        rising = tenacity.wait_random_exponential(multiplier=self.first_wait_s, max=LONGEST_WAIT_S)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=waiting(rising, lambda error: getattr(error, "wait_s", None)),
            retry=tenacity.retry_if_exception_type(_BusyError),
            retry_error_callback=lambda _: None,
        )
        reply: str | None = retrying(self._once, client, request)
        return reply

    def _once(self, client: Any, request: JudgeRequest) -> str:
        """A reply; one that is empty because its limit was reached is asked for again with more room."""
        limit = max(request.max_tokens, self._least_tokens)
        while True:
            text, is_cut_off = self._replied(client, request, limit)
            if text or not is_cut_off or limit >= MOST_TOKENS:
                break
            limit = min(max(MORE_ROOM * limit, FIRST_ROOM), MOST_TOKENS)
        if text and limit > max(request.max_tokens, self._least_tokens):
            self._least_tokens = limit
        return text

    def _replied(self, client: Any, request: JudgeRequest, limit: int) -> tuple[str, bool]:
        """The text, and whether it was cut off at the limit."""
        response = self._accepted(client, request, limit)
        try:
            choice = response.json()["choices"][0]
            return str(choice["message"]["content"] or ""), choice.get("finish_reason") == "length"
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _BusyError("a reply that is not what it should be") from error

    def _accepted(self, client: Any, request: JudgeRequest, limit: int) -> Any:
        """The response to a request, without the parameters that the server refuses."""
        import httpx

        while True:
            body = self._body(request, limit)
            try:
                response = client.post(self.url, json=body)
            except httpx.TransportError as error:
                raise _BusyError(str(error)) from error
            if response.status_code in _BUSY:
                raise _BusyError(f"status {response.status_code}", retry_after(response.headers))
            if response.status_code == httpx.codes.OK:
                return response
            if response.status_code not in _REFUSED or not self._gives_way(_refused_parameter(response), body):
                detail = f": the judge at {self.url} refuses: {response.status_code} {_message(response)}"
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


class LocalBackend:
    """A language model of Hugging Face's form, on this machine, one request after the other."""

    def __init__(self, path: str) -> None:
        self.name = f"hf:{path}"
        self.path = path
        self.otherwise: tuple[str, ...] = ()

    def replies(self, requests: Sequence[JudgeRequest]) -> Iterator[tuple[int, str]]:
        """Greedy, or sampled where a request wants a temperature."""
        if not requests:
            return
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.path)
        model = AutoModelForCausalLM.from_pretrained(self.path, dtype="auto", device_map="auto").eval()
        for place, request in enumerate(requests):
            ids = tokenizer(_as_text(tokenizer, request), return_tensors="pt", add_special_tokens=False).to(
                model.device
            )
            heat = {"temperature": request.temperature} if request.temperature else {}
            torch.manual_seed(request.repeat)
            with torch.inference_mode():
                out = model.generate(**ids, max_new_tokens=request.max_tokens, do_sample=bool(heat), **heat)
            yield place, tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def _as_text(tokenizer: Any, request: JudgeRequest) -> str:
    if tokenizer.chat_template is None:
        return f"{request.system}\n{request.user}".lstrip()
    system = [{"role": "system", "content": request.system}] if request.system else []
    turns = [*system, {"role": "user", "content": request.user}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def _refused_parameter(response: Any) -> str:
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


def _message(response: Any) -> str:
    """The server's own words, short; they hold no key, as the request's headers are not in them."""
    try:
        return str(response.json()["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError, RecursionError):
        return str(response.text)[:200]
