"""Outputs in an object store: written into a folder here, and put there file by file as each becomes whole."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mgtool.errors import OutputError
from mgtool.files.lease import Leases
from mgtool.files.lock import LOCK_SUFFIX, kept_elsewhere, one_writer
from mgtool.files.no_links import open_own
from mgtool.files.store import Store, StoredFile, bare, is_store
from mgtool.files.temporary import temporary_folder
from mgtool.runs import ray_nodes
from mgtool.runs.run_file import FAILURES_FILE, RUN_FILE

_LOOKS_EVERY_S = 2.0
_GROWING_EVERY_S, _GROWING_SHARE = 30.0, 20
"""How often files that grow are put again: seldom enough that a twentieth of the time goes into it."""
_SIDE_BY_SIDE = 8
_LARGE = ".tar"
_ASIDE = ".writing-"
_SAFETY_S = 86_400.0
"""Copies are said to be older than they are: what is compared with their times is looked at rather than trusted."""


@contextlib.contextmanager
def writing(out: str | Path, *, is_file: bool = False, share: str = "", wait: bool = False) -> Iterator[Path]:
    """The path here at which to write an output, while no other run does; arguments as of `one_writer`.

    An output in a store has what an earlier run left there, whole files are put there while the block runs, and all of
    them at its end, be it an error.

    Raises:
        UsageError: a URL of something else than a store.
        HeldError: another run writes, and is not waited for.
        OutputError: the store cannot be written.
    """
    if not is_store(out):
        with one_writer(Path(out), is_file=is_file, share=share, wait=wait):
            yield Path(out)
        return
    with _copied(str(out), is_file=is_file) as copied:
        leases = Leases(copied.store, copied.stem)
        with leases.hold(share, wait=wait), copied.mirror.kept(copied.path, leases):
            yield copied.path


def taking_part(place: str | Path, *, is_file: bool = False) -> Path:
    """The path here, while this process lives, at which to write shares of an output that another process holds.

    Args:
        place: as `place_of` gives it on the machine of the other process.
        is_file: as of `writing`.

    Raises:
        OutputError: the store cannot be asked from this machine.
    """
    if not is_store(place):
        return Path(place)
    try:
        copied = _for_life.enter_context(_copied(str(place), is_file=is_file))
        leases = Leases(copied.store, copied.stem, are_of_shares=True)
        _for_life.enter_context(copied.mirror.kept(copied.path, leases))
    except OutputError as error:
        raise OutputError(f"on the node {ray_nodes.here()}: {error}") from error
    return copied.path


_for_life = contextlib.ExitStack()


class _Copied(NamedTuple):
    path: Path
    store: Store
    stem: str
    mirror: _Mirror


@contextlib.contextmanager
def _copied(out: str, *, is_file: bool) -> Iterator[_Copied]:
    """An output in a store, and where it is to be here."""
    url = out.rstrip("/")
    where, _, stem = url.rpartition("/") if is_file else (url, "", "")
    store = Store(where)
    with temporary_folder("out") as folder:
        yield _Copied(folder / stem if stem else folder, store, stem, _Mirror(store, folder, Path(stem).stem))


def refresh(path: Path) -> None:
    """See what other machines have done of an output that is here as a copy; of another, nothing is to be done."""
    if (mirror := _mirrors.get(Path(os.path.abspath(path)))) is not None:  # noqa: PTH100 - of links, the names
        mirror.exchange()


def is_copy(path: Path) -> bool:
    """Whether an output lies in a store, and here as a copy."""
    return Path(os.path.abspath(path)) in _mirrors  # noqa: PTH100 - of links, the names


def place_of(path: Path) -> str | Path:
    """Where other machines find an output: where it is, or the URL of what is here as a copy."""
    mirror = _mirrors.get(Path(os.path.abspath(path)))  # noqa: PTH100 - of links, the names
    return path if mirror is None else mirror.url_of(path)


@contextlib.contextmanager
def filling(place: str | Path, *names: str) -> Iterator[Path]:
    """The folder here for whole files of an output that another process holds.

    Args:
        place: a folder, or the URL of one in a store.
        names: of files that are made in the block, or are no longer to be; in a store they are put at its end, in this
            order.
    """
    if not is_store(place):
        yield Path(place)
        return
    store = Store(str(place))
    with temporary_folder("part") as folder:
        yield folder
        for name in names:
            if (folder / name).exists():
                store.put(name, folder / name)
            else:
                store.remove([name])


_mirrors: dict[Path, _Mirror] = {}


class _Seen(NamedTuple):
    """A file here and there when both were last the same."""

    signature: tuple[int, int, int]
    tag: str
    is_ours: bool


class _Mirror:
    """A folder here and the files of a store.

    Args:
        store: where the files are put.
        folder: here.
        stem: how names of files begin that are of this output; empty for all.
    """

    def __init__(self, store: Store, folder: Path, stem: str) -> None:
        self._store, self._folder, self._stem = store, folder, stem
        self._seen: dict[str, _Seen] = {}
        self._alone = threading.RLock()
        self._due_at = dict[str, float]()
        self._of_stem = re.compile(rf"\.?{re.escape(stem)}(?:[.-].*)?", re.DOTALL)
        self._ended = threading.Event()

    @contextlib.contextmanager
    def kept(self, path: Path, leases: Leases) -> Iterator[None]:
        """Put files while the block runs, and the rest at its end; shares are held there."""
        path = Path(os.path.abspath(path))  # noqa: PTH100 - of links, the names
        self.exchange()
        kept_elsewhere[path], _mirrors[path] = self._holding(leases), self
        thread = threading.Thread(target=self._follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            del kept_elsewhere[path], _mirrors[path]
            self._push()

    def _holding(self, leases: Leases) -> Callable[[str, bool], contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def hold(share: str, wait: bool) -> Iterator[None]:
            with leases.hold(share, wait=wait):
                self.exchange()
                try:
                    yield
                finally:
                    self._push()

        return hold

    def url_of(self, path: Path) -> str:
        """Of a file or the folder here."""
        below = path.absolute().relative_to(self._folder.absolute()).as_posix()
        return self._store.url if below == "." else f"{self._store.url}/{below}"

    def exchange(self) -> None:
        """Put what is new here, then take what is new there."""
        with self._alone:
            self._push()
            self._pull()

    def _follow(self) -> None:
        while not self._ended.wait(_LOOKS_EVERY_S):
            with contextlib.suppress(OutputError):  # the next time, or the last one, says what is wrong
                self._push(growing_too=False)

    def _push(self, *, growing_too: bool = True) -> None:
        with self._alone:
            files = self._files()
            ends = {name: (_signature(path), path.read_bytes()) for name, path in files.items() if _is_record(name)}
            found = {name: path for name, path in self._files().items() if not _is_record(name)}
            due = [name for name in found if growing_too or self._is_due(name)]
            hollow = _hollow_names(found)
            with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
                for tells in (False, True):  # a JSON beside a file tells that it is complete
                    files_now = ((name, found[name], _signature(found[name])) for name in _json(due, are=tells))
                    list(pool.map(lambda one: self._put(*one, is_hollow=one[0] in hollow), files_now))
            for name, (signature, content) in ends.items():  # that a run has ended is the last to come
                self._put(name, content, signature)
            gone = [name for name in self._seen if name not in ends and name not in found]
            self._store.remove(gone)
            for name in gone:
                del self._seen[name]

    def _files(self) -> dict[str, Path]:
        """What is whole, or grows."""
        paths = (path for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink())
        named = ((path.relative_to(self._folder).as_posix(), path) for path in paths)
        return {name: path for name, path in named if self._is_of_output(name)}

    def _is_of_output(self, name: str) -> bool:
        if LOCK_SUFFIX in name or _ASIDE in name:
            return False
        return not self._stem or name in _BESIDE or self._of_stem.fullmatch(name) is not None

    def _is_due(self, name: str) -> bool:
        """Whether a file that may grow is put again; hidden ones and those that are partial do."""
        is_growing = name.rpartition("/")[2].startswith(".") or name.endswith(".partial")
        return not is_growing or time.monotonic() >= self._due_at.get(name, 0.0)

    def _put(
        self, name: str, content: Path | bytes, signature: tuple[int, int, int], *, is_hollow: bool = False
    ) -> None:
        """Put a file; `signature` is of before its content was read, so that what is newer is put again."""
        began, known = time.monotonic(), self._seen.get(name)
        if signature == _ABSENT or (known is not None and known.signature == signature):
            return
        tag = bare(self._store.put(name, content))
        if is_hollow:
            signature = _hollow(self._folder / name, signature[1])
        self._seen[name] = _Seen(signature, tag, is_ours=True)
        self._due_at[name] = began + max(_GROWING_EVERY_S, _GROWING_SHARE * (time.monotonic() - began))

    def _pull(self) -> None:
        there = {name: about for name, about in self._store.files().items() if self._is_of_output(name)}
        new = [name for name, about in there.items() if name not in self._seen or self._seen[name].tag != about.tag]
        hollow = _hollow_names(there)
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            for are in (False, True):  # that a run has ended is the last to come
                names = [name for name in new if _is_record(name) == are]
                list(pool.map(lambda name: self._take(name, there[name], is_hollow=name in hollow), names))
        for name in [name for name, seen in self._seen.items() if not seen.is_ours and name not in there]:
            (self._folder / name).unlink(missing_ok=True)  # of ours, a listing that lags says nothing
            del self._seen[name]

    def _take(self, name: str, about: StoredFile, *, is_hollow: bool) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_hollow:
            _hollow(path, about.size)
        else:
            self._fetch(name, path)
        if path.exists():
            os.utime(path, (about.modified - _SAFETY_S,) * 2)
            self._seen[name] = _Seen(_signature(path), about.tag, is_ours=False)

    def _fetch(self, name: str, path: Path) -> None:
        aside = path.with_name(f".{path.name}{_ASIDE}store")
        if self._store.fetch(name, aside):  # else removed since it was listed
            aside.replace(path)


_BESIDE = (RUN_FILE, FAILURES_FILE)
"""Files that are named for the folder of an answers file."""
_ABSENT = (0, 0, 0)


def _json(names: Iterable[str], *, are: bool) -> list[str]:
    return [name for name in names if name.endswith(".json") == are]


def _is_record(name: str) -> bool:
    return name == RUN_FILE or name.endswith((f"/{RUN_FILE}", f".{RUN_FILE}"))


def _signature(path: Path) -> tuple[int, int, int]:
    try:
        about = path.stat()
    except FileNotFoundError:
        return _ABSENT
    return about.st_mtime_ns, about.st_size, about.st_ino


def _hollow_names(names: Iterable[str]) -> set[str]:
    """Files for which one with their size and no content stands, as they are in the store: all tars but the first.

    That one is kept, as the data card shows what is in it.
    """
    return set(sorted(name for name in names if name.endswith(_LARGE))[1:])


def _hollow(path: Path, size: int) -> tuple[int, int, int]:
    """A file of a size that takes no room."""
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.truncate(size)
    return _signature(path)
