"""Disks that are small or fail, inputs that vanish, and what a run has left on a disk."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DAY = re.compile(rb"20\d\d-\d\d-\d\d")
_MASKED = ("times", "versions")
_PAGE = 4096
_FAILING = Path("/sys/fs/ext4")


class Disk:
    """A file system of its own in a folder, with what is there copied into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size: int) -> None:
        """Give a tmpfs so many bytes."""
        _shell("mount", "-o", f"remount,size={max(size, 2 * _PAGE)}", str(self.folder))

    def fill(self) -> None:
        """Leave no room, be it at a moment at which nothing is used."""
        place = os.statvfs(self.folder)
        self.resize((place.f_blocks - place.f_bfree) * place.f_frsize)

    def fail(self) -> None:
        """Let an ext4 be found broken, whereupon it can only be read, by whoever has files open, too."""
        device = self.folder.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        (_FAILING / name / "trigger_fs_error").write_text("tried")

    def mend(self) -> None:
        """Mount an ext4 again, to be written."""
        _shell("umount", str(self.folder))
        _shell("mount", "-o", "loop,errors=remount-ro", str(_image(self.folder)), str(self.folder))


@contextmanager
def disk(folder: Path, kind: str) -> Iterator[Disk]:
    """Put a disk under a folder: a tmpfs (`full`), an ext4 in a file (`readonly`), or none (any other kind)."""
    if kind not in ("full", "readonly"):
        yield Disk(folder)
        return
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    if kind == "full":
        _shell("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))
    else:
        _mount_image(folder)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    shutil.rmtree(kept)
    _shell("sync", "-f", str(folder))
    try:
        yield Disk(folder)
    finally:
        _shell("umount", "-l", str(folder))


def _image(folder: Path) -> Path:
    return folder.with_name("image")


def _mount_image(folder: Path) -> None:
    image = _image(folder)
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(64 << 20)
    _shell("mkfs.ext4", "-q", "-F", str(image))
    _shell("mount", "-o", "loop,errors=remount-ro", str(image), str(folder))
    (folder / "lost+found").rmdir()


def _shell(*words: str) -> None:
    subprocess.run(words, check=True)


def spoil(given: Path, patterns: tuple[str, ...], rng: random.Random) -> str:
    """Remove an input, or cut it off in its middle; gives what was done in words."""
    path = rng.choice(sorted(path for pattern in patterns for path in given.glob(pattern)))
    if rng.random() < 0.5:
        path.unlink()
        return f"{path.name} removed"
    os.truncate(path, path.stat().st_size // 2)
    return f"{path.name} cut off"


def size(folder: Path) -> int:
    """Bytes of a tmpfs that the files of a folder take."""
    return sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in folder.rglob("*") if path.is_file())


def tree(folder: Path) -> dict[str, str]:
    """The hash of each file below a folder, of records of runs without their times; folders, too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = "a folder"
        elif not path.exists():  # of a database that was looked at meanwhile
            continue
        elif path.name.endswith("run.json"):
            record = {key: value for key, value in json.loads(path.read_bytes()).items() if key not in _MASKED}
            record["counts"].pop("new_tokens", None)  # that the last process made
            found[name] = json.dumps(record, sort_keys=True)
        elif path.suffix == ".sqlite":
            found[name] = _rows(path)
        elif path.name in ("log.jsonl", "trainer_state.json", "training_args.bin"):
            found[name] = "times"
        else:
            found[name] = hashlib.sha256(_DAY.sub(b"day", path.read_bytes())).hexdigest()
    return found


def _rows(path: Path) -> str:
    import sqlite3

    with sqlite3.connect(path) as database:
        rows = sorted(map(repr, database.execute("SELECT * FROM answers")))
    database.close()
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def difference(whole: dict[str, str], found: dict[str, str]) -> str:
    """The first names that are not the same; empty where all are."""
    missing, more = sorted(whole.keys() - found.keys()), sorted(found.keys() - whole.keys())
    changed = sorted(name for name in whole.keys() & found.keys() if whole[name] != found[name])
    parts = {"missing": missing, "left over": more, "other bytes": changed}
    told = "; ".join(f"{what}: {names[:4]}" for what, names in parts.items() if names)
    for name in changed:
        if name.endswith("run.json"):
            told += f" {whole[name]} / {found[name]}"
    return told


def inputs(folder: Path) -> list[object]:
    """What the records of runs below a folder say of their inputs."""
    return [json.loads(path.read_bytes())["inputs"] for path in sorted(folder.rglob("*run.json"))]


def says_changed(folder: Path) -> bool:
    """Whether a record of a run says that its input changed while it was read."""
    return any(b"changed while they were read" in path.read_bytes() for path in folder.rglob("*run.json"))


def failures(folder: Path) -> list[bytes]:
    """What is recorded as failed below a folder."""
    return [path.read_bytes() for path in sorted(folder.rglob("*failures*.jsonl"))]
