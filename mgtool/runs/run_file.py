"""Files that are whole or absent: atomic writing, journals, numbered shards, and the record of a run."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mgtool.errors import ResumeError
from mgtool.files.atomic import sweep, write_bytes
from mgtool.records import canonical, dumps, parse

RUN_FILE = "run.json"
FAILURES_FILE = "failures.jsonl"
DRAWN_FOLDER = "visualized"


class Run:
    """The record of one run, ``run.json``: written when it begins and again when it ends.

    A later run goes on only when its `identity` (options, inputs, model) is the same.
    """

    def __init__(self, path: Path, *, command: str, identity: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.path = path
        self.record: dict[str, Any] = {"command": command, "identity": dict(identity), **about}
        self._began = time.time()

    @property
    def finished(self) -> bool:
        """Whether the run on disk is complete."""
        return bool(self._on_disk().get("finished"))

    @property
    def identity(self) -> dict[str, Any]:
        """What runs that go on must agree in."""
        identity: dict[str, Any] = self.record["identity"]
        return identity

    def results(self) -> dict[str, Any]:
        """The results of a finished run on disk."""
        return dict(self._on_disk().get("results", {}))

    def before(self) -> dict[str, Any]:
        """The record on disk; empty without one."""
        return self._on_disk()

    def check(self, *, renewed: Collection[str] = ()) -> dict[str, Any]:
        """The record on disk, which is of the same run or missing; `renewed` as of `begin`.

        Raises:
            ResumeError: naming the first difference.
        """
        before = self._on_disk()
        if before:
            self._refuse_difference(before, renewed if before.get("finished") else ())
        return before

    def begin(self, *, overwrite: bool = False, renewed: Collection[str] = ()) -> None:
        """Write the record, or check that the one on disk is of the same run; what killed writers left aside goes.

        Args:
            overwrite: whatever is on disk does not count.
            renewed: what of the identity may be new once the run on disk is finished: this run adds to it.

        Raises:
            ResumeError: naming the first difference.
        """
        sweep(self.path.parent)
        before = {} if overwrite else self.check(renewed=renewed)
        if before and any(before["identity"].get(key) != self.record["identity"].get(key) for key in renewed):
            before = {}
        self.record["started"] = before.get("started") or _timestamp(self._began)
        if not before.get("finished"):
            write_bytes(self.path, dumps(self.record) + b"\n")

    def refuse_other(self, noted: Mapping[str, Any]) -> None:
        """Check what only a finished run's record has.

        Raises:
            ResumeError: naming the first entry that is another one there.
        """
        before = self._on_disk()
        self._refuse(before, noted, keys=noted.keys() & before.keys())

    def finish(self, **results: Any) -> None:
        """Write the record with its results: counts and whatever else the stage found out."""
        seconds = round(time.time() - self._began, 3)
        self.record |= {"finished": _timestamp(time.time()), "seconds": seconds, **results}
        write_bytes(self.path, dumps(self.record) + b"\n")

    def _on_disk(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        return parse(self.path.read_bytes(), dict[str, Any], where=str(self.path))

    def _refuse_difference(self, before: Mapping[str, Any], renewed: Collection[str]) -> None:
        if before.get("command") != self.record["command"]:
            raise ResumeError(
                f"{self.path.parent} holds the output of `mgtool {before.get('command')}`: "
                "choose another `out` or add `overwrite`"
            )
        old, new = before.get("identity", {}), self.record["identity"]
        self._refuse(old, new, keys={*old, *new} - {*renewed})

    def _refuse(self, old: Mapping[str, Any], new: Mapping[str, Any], *, keys: Collection[str]) -> None:
        for key in sorted(keys):
            if canonical(old.get(key)) != canonical(new.get(key)):
                before, now = _shown(old.get(key)), _shown(new.get(key))
                raise ResumeError(
                    f"{self.path.parent} holds a run with {key} {before}, now it is {now}: "
                    "choose another `out` or add `overwrite`"
                )


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _shown(value: Any) -> str:
    text = "unset" if value is None else canonical(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
