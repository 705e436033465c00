"""The Java programs of pycocoevalcap: the PTB tokenizer, METEOR and SPICE."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mgtool.errors import InputError, require

PUNCTUATION = frozenset(["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:-;", "--", "..."])
_BREAKS = str.maketrans(dict.fromkeys("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))


def available() -> bool:
    """Whether there is a Java to run them with."""
    return shutil.which("java") is not None


def tokenized(captions: Sequence[str]) -> list[str]:
    """PTB tokens of each caption, lower case, punctuation left out, joined by spaces.

    Raises:
        InputError: when Java fails.
    """
    if not captions:
        return []
    jar = _package() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    command = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    text = "\n".join(caption.translate(_BREAKS) for caption in captions)
    lines = _run([*command, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"], text).split("\n")
    if len(lines) < len(captions):
        raise InputError(f"the PTB tokenizer gave {len(lines)} lines for {len(captions)} captions")
    spoken = ((word for word in line.rstrip().split(" ") if word not in PUNCTUATION) for line in lines)
    return [" ".join(words) for words, _ in zip(spoken, captions, strict=False)]


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """METEOR 1.5 of a corpus of tokenised captions, as the COCO script asks for it."""
    jar = _package() / "meteor" / "meteor-1.5.jar"
    command = [_java(), "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(  # noqa: S603 - a fixed program of an installed package
        command, env=_environment(), stdin=pipe, stdout=pipe, stderr=nothing
    ) as process:
        statistics = [
            _answer(process, " ||| ".join(("SCORE", *refs, said.replace("|||", "").replace("  ", " "))))
            for said, refs in zip(candidates, references, strict=True)
        ]
        first = _answer(process, " ||| ".join(("EVAL", *statistics)))
        assert process.stdin is not None
        process.stdin.close()
        assert process.stdout is not None
        rest = process.stdout.read().decode().split()
    return float(rest[-1] if rest else first)


def _answer(process: subprocess.Popen[bytes], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()
    return process.stdout.readline().decode().strip()


def spice(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float | None:
    """SPICE; None where the Stanford models that it needs are not installed, or its Java does not run here."""
    if not list((_package() / "spice" / "lib").glob("stanford-corenlp-*-models.jar")):
        return None
    scorer = require("pycocoevalcap.spice.spice", what="SPICE", extra="captions").Spice
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            said = {n: [text] for n, text in enumerate(candidates)}
            score, _ = scorer().compute_score(dict(enumerate(map(list, references))), said)
        except (subprocess.CalledProcessError, OSError):
            return None
    return float(score)


def _package() -> Path:
    module = require("pycocoevalcap", what="scoring captions", extra="captions")
    return Path(next(iter(module.__path__)))


def _java() -> str:
    java = shutil.which("java")
    assert java is not None, "ask `available` first"
    return java


def _environment() -> dict[str, str]:
    """A UTF-8 locale, whatever the user's is."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _run(arguments: Sequence[str], text: str) -> str:
    done = subprocess.run(  # noqa: S603 - a fixed program of an installed package; the data goes in by stdin
        [_java(), *arguments], input=text.encode(), capture_output=True, check=False, env=_environment()
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise InputError(f"java failed: {last[0]}")
    return done.stdout.decode()
