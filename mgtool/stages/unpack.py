"""WebDataset tars -> pictures, a conversation file and box shards: what `mgtool pack` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgtool.errors import OutputError, UsageError
from mgtool.files import atomic
from mgtool.files.lock import one_writer
from mgtool.files.space import check_space, size_on_disk
from mgtool.inputs.fingerprints import fingerprint
from mgtool.packing.unpack import CONVERSATIONS_FILE, unpack_samples
from mgtool.records import Advance, LeftOut
from mgtool.runs import run_file
from mgtool.tars.paths import below, find
from mgtool.tars.samples import read_found


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What came of unpacking.

    Attributes:
        failures: number of samples that could not be read or written, in ``failures.jsonl``.
        samples, pictures: numbers of samples and of files of pictures and videos.
        renamed: pictures and videos that could not keep their names; ``renamed.jsonl`` has both names of each.
        boxes_differ: pictures that came again with other boxes, which are left out.
        renames: why they could not: count and examples by reason.
        left_out: what else the tars hold: count and examples by reason.
    """

    failures: int
    samples: int
    pictures: int
    renamed: int
    boxes_differ: int
    renames: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, Any] = field(default_factory=dict)


def unpack(
    tars: str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    overwrite: bool = False,
    wait: bool = False,
    advance: Advance = lambda count: None,
) -> Unpacked:
    """Fill a folder with what can be packed again; it appears when it is complete, and is then left alone.

    Args:
        tars: as `mgtool.open_tars` takes them.
        folder: gets ``images/``, ``conversations.json``, ``boxes/`` and ``failures.jsonl`` where there are any, and
            ``run.json``.
        overwrite: replace a folder that this wrote before.
        wait: for another run that writes `folder` to end, instead of refusing.
        advance: told of samples that are done.

    Raises:
        UsageError: `overwrite` would replace a folder of something else.
        InputError: no tar there.
        OutputError: the folder holds something else already, cannot be written, or another run writes it.
    """
    folder = Path(folder)
    with one_writer(folder, is_file=True, wait=wait):
        atomic.sweep(folder.parent)
        found = find(tars)
        inputs = {
            "inputs": [fingerprint(str(one), below) for one in ([tars] if isinstance(tars, str | Path) else tars)]
        }
        if not overwrite and (done := _finished(_record(folder, inputs))):
            return done
        _refuse_taken(folder, overwrite=overwrite)
        # pictures that came several times are written once
        check_space(folder.parent, size_on_disk(found) // 2, "choose another folder")
        return _unpack(found, inputs, folder, advance)


def _record(folder: Path, inputs: Mapping[str, Any]) -> run_file.Run:
    return run_file.Run(folder / run_file.RUN_FILE, command="unpack", options={}, inputs=inputs)


def _finished(run: run_file.Run) -> Unpacked | None:
    """What came of the same run before, where it was killed no sooner than all was there."""
    if not run.finished or any(run.differences()):
        return None
    with run.trusting():
        return Unpacked(**run.counts)


def _unpack(tars: Sequence[str], inputs: Mapping[str, Any], folder: Path, advance: Advance) -> Unpacked:
    with atomic.atomic_folder(folder) as aside:
        run, left_out = _record(aside, inputs), LeftOut()
        run.begin()
        items = (item for _, item in read_found(tars, left_out=left_out))
        unpacked = Unpacked(**unpack_samples(items, aside, advance), left_out=left_out.summary())
        run.finish(dataclasses.asdict(unpacked))
    return unpacked


def _refuse_taken(folder: Path, *, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not overwrite or not folder.is_dir():
        raise OutputError(f"{folder} is there already: choose another folder or add `overwrite`")
    if not (folder / CONVERSATIONS_FILE).is_file() and any(folder.iterdir()):
        raise UsageError("unpack", f"{folder}: `overwrite` replaces only what `unpack` wrote")
