"""The record of a run, ``run.json``: what it was asked, of what, with what, and what came of it."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mgtool.errors import MgtoolError, RecordError, ResumeError, without_secrets
from mgtool.files.atomic import remove, sweep, write_bytes
from mgtool.files.regular import read_regular
from mgtool.records import canonical, convert, dumps, escaped, name_text, parse

RUN_FILE = "run.json"
FAILURES_FILE = "failures.jsonl"
DRAWN_FOLDER = "visualized"
_ALWAYS = ("mgtool", "torch", "transformers")
_MOST_SHOWN = 60


class Run:
    """The record of one run, written when it begins and again when it ends.

    Its keys are the same for every command: ``command, options, inputs, versions, model, detector, counts, times``.
    A later run goes on only when options, inputs, model and detector are the same.

    Args:
        path: where it is written.
        command: as the command line calls it.
        options: what the output depends on, by the fields' names.
        inputs: what identifies each input, by the fields' names.
        free: options that change no byte of the output, so that a later run may have others.
        noted: what was found out about the inputs; not compared.
        model: ``path`` and ``sha256`` of the model; the path may change.
        detector: what identifies the detector.
        computes: installed distributions that compute, beside those whose versions are always told.
    """

    def __init__(
        self,
        path: Path,
        *,
        command: str,
        options: Mapping[str, Any],
        inputs: Mapping[str, Any],
        free: Mapping[str, Any] | None = None,
        noted: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
        detector: str | None = None,
        computes: Collection[str] = (),
    ) -> None:
        self.path = path
        self._free, self._noted = dict(free or {}), dict(noted or {})
        what = {"command": command, "options": {**options, **self._free}, "inputs": {**inputs, **self._noted}}
        by = {"versions": versions(*computes), "model": None if model is None else dict(model), "detector": detector}
        self.record: dict[str, Any] = escaped({**what, **by, "counts": {}, "times": {}}, _kept_text)
        self._began, self._since = time.time(), time.monotonic()  # a clock may be set meanwhile

    @property
    def before(self) -> dict[str, Any]:
        """The record on disk; empty without one.

        Raises:
            ResumeError: what is there is no record of a run.
        """
        return read(self.path)

    def forget_odd(self) -> None:
        """Before a run that starts afresh: remove what is there in place of a record of a run.

        Raises:
            OutputError: it cannot be removed.
        """
        try:
            read(self.path)
        except ResumeError:
            remove(self.path)

    @contextlib.contextmanager
    def trusting(self) -> Iterator[None]:
        """Use what the record on disk says; `ResumeError` where it says something else than a run writes."""
        try:
            yield
        except (RecordError, LookupError, TypeError, AttributeError, ValueError) as error:
            raise ResumeError(f"{self.path}: {_NO_RECORD} of `mgtool {self.record['command']}`: {_WAY_OUT}") from error

    @property
    def finished(self) -> bool:
        """Whether the run on disk is complete."""
        return bool(self.before.get("times", {}).get("finished"))

    @property
    def counts(self) -> dict[str, Any]:
        """The counts of the run on disk."""
        return dict(self.before.get("counts") or {})

    @property
    def date(self) -> str:
        """The day on which the run began, UTC; that of the first time where it was run again."""
        return str(self.record["times"].get("started") or _timestamp(self._began))[:10]

    def share(self, path: Path, share: str, **free: Any) -> Run:
        """The record of the same run over a share of its input; `free` are options of its own."""
        part = object.__new__(Run)
        part.__dict__ |= {**self.__dict__, "path": path}
        part.record = {**self.record, "options": {**self.record["options"], **free, "share": share}}
        return part

    def differences(self) -> Iterator[tuple[str, Any, Any]]:
        """Each field in which the record on disk is of another run, with what it was and what it is now."""
        before = self.before
        if before and before.get("command") != self.record["command"]:
            yield "command", before.get("command"), self.record["command"]
        elif before:
            old, new = self._compared(before), self._compared(self.record)
            for key in sorted({*old, *new}):
                if canonical(old.get(key)) != canonical(new.get(key)):
                    yield key, old.get(key), new.get(key)

    def check(self, *, renewed: Collection[str] = ()) -> None:
        """Look whether the record on disk is of the same run, or missing; `renewed` as of `begin`.

        Raises:
            ResumeError: naming the first difference.
        """
        allowed = renewed if self.finished else ()
        for key, old, new in self.differences():
            if key == "command":
                raise ResumeError(f"{self.path.parent} holds the output of `mgtool {old}`: {_WAY_OUT}")
            if key not in allowed:
                was, now = _shown(old, new)
                raise ResumeError(f"{self.path.parent} holds a run with {key} {was}, now it is {now}: {_WAY_OUT}")

    def begin(self, *, overwrite: bool = False, renewed: Collection[str] = ()) -> None:
        """Write the record, or check that the one on disk is of the same run; what killed writers left aside goes.

        Args:
            overwrite: whatever is on disk does not count.
            renewed: what may be new once the run on disk is finished: this run adds to it.

        Raises:
            ResumeError: naming the first difference.
        """
        sweep(self.path.parent)
        if overwrite:
            self.forget_odd()
        else:
            self.check(renewed=renewed)
        before = {} if overwrite or any(self.differences()) else self.before
        times = before.get("times", {})
        self.record["times"] = {"started": times.get("started") or _timestamp(self._began)}
        if not times.get("finished"):
            self._write()

    @contextlib.contextmanager
    def binding_none(self, has_written: Callable[[], bool]) -> Iterator[None]:
        """Remove the record where a mistake ends the run before it has written anything: it binds no other run."""
        try:
            yield
        except MgtoolError:
            if not has_written():
                self.path.unlink(missing_ok=True)
            raise

    def refuse_other(self, noted: Mapping[str, Any]) -> None:
        """Check what only a finished run's record has of its inputs.

        Raises:
            ResumeError: naming the first entry that is another one there.
        """
        before = self.before.get("inputs", {})
        for key in noted.keys() & before.keys():
            if before[key] != noted[key]:
                raise ResumeError(
                    f"{self.path.parent} holds a run with {key} {before[key]}, now it is {noted[key]}: {_WAY_OUT}"
                )

    def finish(
        self,
        counts: Mapping[str, Any],
        *,
        noted: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
        times: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the record with its counts.

        Args:
            counts: what came of the run.
            noted: what was found out about the inputs.
            model: that was written.
            times: of its parts.
        """
        seconds = round(time.monotonic() - self._since, 3)
        self.record["inputs"] |= noted or {}
        self.record["model"] = self.record["model"] if model is None else dict(model)
        self.record |= {"counts": dict(counts)}
        self.record["times"] |= {"finished": _timestamp(time.time()), "seconds": seconds, **(times or {})}
        self._write()

    def _write(self) -> None:
        write_bytes(self.path, dumps(self.record) + b"\n")

    def _compared(self, record: Mapping[str, Any]) -> dict[str, Any]:
        options = {key: value for key, value in record.get("options", {}).items() if key not in self._free}
        inputs = {key: value for key, value in record.get("inputs", {}).items() if key in self._identifies}
        model = {key: value for key, value in (record.get("model") or {}).items() if key == "sha256"}
        return {**options, **inputs, "model": model.get("sha256"), "detector": record.get("detector")}

    @property
    def _identifies(self) -> set[str]:
        return {key for key in self.record["inputs"] if key not in self._noted}


_WAY_OUT = "choose another `out` or add `overwrite`"
_NO_RECORD = "is no record of a run"


class _Record(msgspec.Struct):
    """What a record needs to be looked at."""

    command: str
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)
    model: dict[str, Any] | None = None
    counts: dict[str, Any] | None = None
    times: dict[str, Any] = msgspec.field(default_factory=dict)


def read(path: Path) -> dict[str, Any]:
    """The record of a run; empty where there is none.

    Raises:
        ResumeError: what is there is no record of a run.
    """
    try:
        record = parse(read_regular(path), dict[str, Any], where=str(path))
        convert(record, _Record, where=str(path))
    except FileNotFoundError:
        return {}
    except (OSError, RecordError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error).partition(": ")[2]
        raise ResumeError(f"{path}: {_NO_RECORD} ({why or 'nested too deeply'}): {_WAY_OUT}") from error
    return record


def add_times(path: Path, **times: Any) -> None:
    """Add times of its parts to a finished run's record, as far as there are any.

    Raises:
        ResumeError: what is there is no record of a run.
    """
    told = {name: value for name, value in times.items() if value}
    if told and (record := read(path)):
        record["times"] |= told
        write_bytes(path, dumps(record) + b"\n")


def versions(*computes: str) -> dict[str, str]:
    """Versions of Python, mgtool, torch, transformers and what else computes, as far as it is installed."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in (*_ALWAYS, *computes):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def today() -> str:
    """The day, UTC."""
    return _timestamp(time.time())[:10]


def _kept_text(text: str) -> str:
    return without_secrets(name_text(text))


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _shown(old: Any, new: Any) -> tuple[str, str]:
    """Both as a line has room for them: of two lists the first entries that differ, of two texts the words that do."""
    if isinstance(old, list) and isinstance(new, list):
        pairs = ((a, b) for a, b in zip(old, new, strict=False) if a != b)
        old, new = next(pairs, (f"{len(old)} entries", f"{len(new)} entries"))
    if isinstance(old, str) and isinstance(new, str):
        was, now = (dict.fromkeys(text.split()) for text in (old, new))
        differ = " ".join(one for one in was if one not in now), " ".join(one for one in now if one not in was)
        old, new = differ if all(differ) else (old, new)
    return _short(old), _short(new)


def _short(value: Any) -> str:
    text = "unset" if value is None else value if isinstance(value, str) else canonical(value).decode()
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
