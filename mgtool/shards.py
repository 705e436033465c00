"""Files that are whole or absent: atomic writing, journals, numbered shards, and the record of a run."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from mgtool.errors import OutputError, ResumeError
from mgtool.records import canonical, dumps, parse

T = TypeVar("T")
RUN_FILE = "run.json"
FAILURES_FILE = "failures.jsonl"
DRAWN_FOLDER = "visualized"
UNSPLIT = "shard"
"""What tars without splits are called."""
_ASIDE = ".writing"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is complete and on disk.

    Raises:
        OutputError: when the disk is full or the folder cannot be written.
    """
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that appears under its name only when it is complete; one that exists is replaced.

    Raises:
        OutputError: when it cannot be written.
    """
    aside = _aside(path)
    try:
        aside.mkdir(parents=True)
        yield aside
        for file in aside.rglob("*"):
            _sync(file)
        if path.exists():
            shutil.rmtree(path)
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for files that are needed for a while; `sweep` removes it where its maker was killed.

    Raises:
        OutputError: when it cannot be made.
    """
    scratch, made = _aside(folder / "scratch"), not folder.exists()
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing came of it, nothing is left


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_lines(path: Path, records: Iterable[Any]) -> int:
    """Write records as JSON lines, atomically; gives their number."""
    count = 0
    with atomic_file(path) as file:
        for record in records:
            file.write(dumps(record) + b"\n")
            count += 1
    return count


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk, so that a rename survives a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}{_ASIDE}-{socket.gethostname()}-{os.getpid()}")


def sweep(folder: Path) -> None:
    """Remove what killed writers of this machine left aside; files of writers that still run stay."""
    for leftover in folder.glob(f".*{_ASIDE}-{socket.gethostname()}-*"):
        if _runs(int(leftover.name.rpartition("-")[2])):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def shard_name(prefix: str, index: int, suffix: str) -> str:
    """The name of a shard.

    >>> shard_name("boxes", 7, ".jsonl")
    'boxes-000007.jsonl'
    """
    return f"{prefix}-{index:06d}{suffix}"


def tar_splits(tars: Iterable[str]) -> list[tuple[str, str]]:
    """The splits that tars are of by their names, each with what these begin with; without splits all are for training.

    >>> tar_splits(["train-000000.tar", "train-000001.tar", "val-000000.tar"])
    [('train', 'train'), ('val', 'val')]
    >>> tar_splits([shard_name(UNSPLIT, 0, ".tar")])
    [('train', 'shard')]
    """
    names = dict.fromkeys(tar.partition("-")[0] for tar in tars)
    return [("train" if name == UNSPLIT else name, name) for name in names]


def list_shards(folder: Path, prefix: str, suffix: str) -> list[Path]:
    """The shards of a folder in their order."""
    pattern = re.compile(re.escape(prefix) + r"-\d{6,}" + re.escape(suffix))
    return sorted(path for path in folder.glob(f"{prefix}-*{suffix}") if pattern.fullmatch(path.name))


class Journal:
    """An append-only file of JSON lines that survives being killed at any byte.

    A torn last line is cut off when the journal is opened again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def read(self, type: type[T]) -> Iterator[T]:
        """The records that are whole, in order; cuts off a torn tail."""
        if not self.path.exists():
            return
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                yield parse(line, type, where=f"{self.path}:{number}")
                whole += len(line)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)

    def append(self, record: Any) -> None:
        """Write one record and hand it to the operating system.

        Raises:
            OutputError: when the disk is full or the folder cannot be written.
        """
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab")
            self._file.write(dumps(record) + b"\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def keep(self, count: int) -> None:
        """Cut off what comes after the first `count` records."""
        if self.path.exists():
            with self.path.open("rb") as file:
                whole = sum(len(line) for line in itertools.islice(file, count))
            os.truncate(self.path, whole)

    def close(self) -> None:
        """Put everything on disk and close."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def publish(self, path: Path) -> None:
        """Close, and give the complete file its final name."""
        if self._file is None and not self.path.exists():
            write_bytes(path, b"")
            return
        self.close()
        self.path.replace(path)
        sync_folder(path.parent)

    def remove(self) -> None:
        """Close and delete."""
        self.close()
        self.path.unlink(missing_ok=True)


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
                "choose another --out or add --overwrite"
            )
        old, new = before.get("identity", {}), self.record["identity"]
        self._refuse(old, new, keys={*old, *new} - {*renewed})

    def _refuse(self, old: Mapping[str, Any], new: Mapping[str, Any], *, keys: Collection[str]) -> None:
        for key in sorted(keys):
            if canonical(old.get(key)) != canonical(new.get(key)):
                before, now = _shown(old.get(key)), _shown(new.get(key))
                raise ResumeError(
                    f"{self.path.parent} holds a run with {key} {before}, now it is {now}: "
                    "choose another --out or add --overwrite"
                )


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _shown(value: Any) -> str:
    text = "unset" if value is None else canonical(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
