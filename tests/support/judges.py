"""A judge's server on this machine, and scoring with it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mgtool import benchmarks
from mgtool.evaluation import judge_models, pipeline
from mgtool.evaluation.pipeline import ScoredRun
from mgtool.files.journal import Journal
from mgtool.scoring import predictions
from mgtool.scoring.ground_truth import Truth


class JudgeServer(ThreadingHTTPServer):
    """Answers with `reply(prompt)`, after the troubles of `troubles` at the first requests of each prompt."""

    daemon_threads = True

    def __init__(self, reply: Callable[[str], str], troubles: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), JudgeHandler)
        self.reply = reply
        self.troubles = troubles
        self.seen: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def refusal(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """What is wrong with a request; nothing, but for newer judges."""
        return None

    def beside(self, body: dict[str, Any]) -> dict[str, Any]:
        """What a response says beside its choices; nothing, but for servers that count tokens."""
        return {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/"


class JudgeHandler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        server = self.server
        with server.lock:
            turn = server.seen[prompt]
            server.seen[prompt] += 1
            server.bodies.append(body)
            server.keys.add(self.headers.get("Authorization"))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        trouble = server.troubles[turn] if turn < len(server.troubles) else ""
        if trouble == "slow":
            time.sleep(0.2)
        with server.lock:
            server.at_once -= 1  # before the answer: who has it may ask again at once
        self._answer(prompt, trouble, body)

    def _answer(self, prompt: str, trouble: str, body: dict[str, Any]) -> None:
        refusal = self.server.refusal(body)
        is_short = body.get("max_completion_tokens", 64) < 64
        choice = {"message": {"content": ""}, "finish_reason": "length"} if is_short else {}
        choice = choice or {"message": {"content": "" if refusal else self.server.reply(prompt)}}
        text = json.dumps(refusal or {"choices": [choice], **self.server.beside(body)}).encode()
        status = int(trouble) if trouble.isdigit() else 400 if refusal else 200
        if trouble == "hang up":
            self.close_connection = True
            return
        payload = b'{"error": {"message": "no such model"}}' if status == 404 else text
        payload = payload[: len(payload) // 2] if trouble == "cut off" else payload
        payload = b"<html>no such thing</html>" if trouble == "nonsense" else payload
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., JudgeServer]]:
    servers = []

    def start(reply: Callable[[str], str], *troubles: str) -> JudgeServer:
        server = JudgeServer(reply, list(troubles))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def judge_at(server: JudgeServer, folder: Path, *, workers: int = 4) -> judge_models.KeptJudge:
    backend = judge_models.OpenAiBackend("gpt-x", server.url, workers, first_wait_s=0.001)
    return judge_models.KeptJudge(backend, Journal(folder / "judge.jsonl"))


def score(
    bench,
    name: str,
    truth: list[Path],
    answers: dict[Any, str],
    judge: judge_models.KeptJudge | None,
    variant: str = "official",
) -> ScoredRun:
    benchmark = benchmarks.get(name)
    lines = [{"question_id": key, "text": text} for key, text in answers.items()]
    items = benchmark.load(Truth(tuple(truth)))
    try:
        return pipeline.score(
            benchmark,
            items,
            predictions.read(json.dumps(lines).encode(), where="a.json"),
            variant=variant,
            judge=judge,
        )
    finally:
        if judge is not None:
            judge.journal.close()


def mm_vet(bench):
    questions = {
        f"v1_{n}": {"question": f"q{n}", "answer": "x<AND>y", "capability": capability, "imagename": f"{n}.jpg"}
        for n, capability in enumerate((["ocr"], ["ocr", "math"], ["rec"]))
    }
    return bench.write("mm-vet.json", questions)
