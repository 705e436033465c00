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
from mgtool.evaluation.options import EvalOptions
from mgtool.files.journal import Journal
from mgtool.files.retries import LONGEST_WAIT_S, retry_after, waiting
from mgtool.records import Advance, canonical
from mgtool.scoring.benchmark import JudgeRequest

JUDGE_FILE = "judge.jsonl"
ATTEMPTS = 6
TIMEOUT_S = 120.0
CHARACTERS_PER_TOKEN = 4
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``judge.jsonl``."""

    key: str
    judge: str
    request: JudgeRequest
    reply: str


class Backend(Protocol):
    """A model that answers requests."""

    name: str

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
        self._known = {line.key: line.reply for line in journal.read(Reply)}

    def ask(self, requests: Sequence[JudgeRequest]) -> list[str | None]:
        """One reply for each request, in order; None where there is none."""
        keys = [request_key(self.backend.name, request) for request in requests]
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in self._known}
        waiting = list(new.items())
        for place, text in self.backend.replies([request for _, request in waiting]):
            key, request = waiting[place]
            self.journal.append(Reply(key=key, judge=self.backend.name, request=request, reply=text))
            self._known[key] = text
            self.asked += 1
            self.advance(1)
        return [self._known.get(key) for key in keys]


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
        import httpx

        system = [{"role": "system", "content": request.system}] if request.system else []
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": request.user}],
            "max_tokens": request.max_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        try:
            response = client.post(self.url, json=body)
        except httpx.TransportError as error:
            raise _BusyError(str(error)) from error
        if response.status_code in _BUSY:
            raise _BusyError(f"status {response.status_code}", retry_after(response.headers))
        if response.status_code != httpx.codes.OK:
            raise UsageError("judge", f": the judge at {self.url} refuses: {response.status_code} {_message(response)}")
        try:
            return str(response.json()["choices"][0]["message"]["content"] or "")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise _BusyError("a reply that is not what it should be") from error


class LocalBackend:
    """A language model of Hugging Face's form, on this machine, one request after the other."""

    def __init__(self, path: str) -> None:
        self.name = f"hf:{path}"
        self.path = path

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


def _message(response: Any) -> str:
    """The server's own words, short; they hold no key, as the request's headers are not in them."""
    try:
        return str(response.json()["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return str(response.text)[:200]
