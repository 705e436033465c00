"""The published parts of a model -> one folder that `from_pretrained` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mgtool.errors import OutputError, ResumeError
from mgtool.files.atomic import atomic_folder, sweep
from mgtool.files.lock import one_writer
from mgtool.files.space import check_space
from mgtool.importing.downloads import fetched
from mgtool.importing.options import PARTS, ImportOptions, ImportParts
from mgtool.importing.output import keep_foreign, write_model
from mgtool.importing.plan import ImportPlan, ModelCounts, plan_import
from mgtool.inputs.fingerprints import fingerprint
from mgtool.records import Advance
from mgtool.report.html import summary_table
from mgtool.runs import run_file
from mgtool.runs.run_file import RUN_FILE, Run


@dataclass(frozen=True)
class Imported:
    """A model folder.

    Attributes:
        out: the folder.
        counts: what it holds; the same is in its ``run.json``.
        notes: what does not fit between its parts, a line each.
        had_finished: whether the folder held the same import before.
    """

    out: Path
    counts: ModelCounts
    notes: tuple[str, ...] = ()
    had_finished: bool = field(default=False, compare=False)

    def _repr_html_(self) -> str:
        return summary_table({"out": str(self.out), **dataclasses.asdict(self.counts)})


def plan(options: ImportOptions) -> ImportPlan:
    """What `import_model` would write, of local parts, without reading a weight; raises as it does."""
    return plan_import(options)


def import_model(
    options: ImportOptions,
    out: str | Path,
    *,
    overwrite: bool = False,
    wait: bool = False,
    advance: Advance = lambda n: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Imported:
    """Write a model's folder: whole or not at all.

    Args:
        options: what to import.
        out: the folder; one that holds the same import is left as it is.
        overwrite: replace the import that is there; other files in its folder stay.
        wait: for another run that writes to `out` to end, instead of refusing.
        advance: told of bytes that were downloaded or written.
        tell: told in lines what a preset downloads, with its size, before it does; what is there is not fetched again.

    Raises:
        InputError: a part is not there, or the hub cannot be asked for it.
        CheckpointError: weights or configurations do not fit each other.
        UsageError: an unknown template.
        ResumeError: `out` holds another import and may not be replaced.
        OutputError: `out` holds anything else, cannot be written, or another run writes it.
    """
    out = Path(out)
    _refuse_foreign(out, options)
    parts = fetched(options, tell, advance)
    planned = plan_import(parts)
    with one_writer(out, is_file=True, wait=wait):
        _refuse_foreign(out, parts)
        before = _run(parts, out)
        if had_finished := before.finished and not overwrite:
            before.check()
        else:
            _replace(out, planned, parts, _written_by(before), advance)
    return Imported(out, planned.counts, planned.notes, had_finished)


def _replace(out: Path, planned: ImportPlan, parts: ImportParts, written: set[str], advance: Advance) -> None:
    """Write the folder in place of the import that wrote some of what is there."""
    sweep(out.parent)
    check_space(out.parent, planned.counts.bytes, "choose another `out`")
    with atomic_folder(out) as folder:
        _fill(planned, _run(parts, folder), folder, advance)
        keep_foreign(out, written, folder)


def _written_by(run: Run) -> set[str]:
    """Names of the files of an earlier import."""
    model = run.before.get("model") or {}
    return {RUN_FILE, *model.get("files", ()), *model.get("written", ())}


def _refuse_foreign(out: Path, options: ImportOptions | ImportParts) -> None:
    """Only an import or an empty folder is ever replaced, and never a part of the new one."""
    for name in PARTS:
        part = getattr(options, name)
        if out.exists() and part is not None and part.exists() and part.samefile(out):
            raise OutputError(f"{out} is `{name}` of this import: choose another `out`")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    run = out / RUN_FILE
    if not _is_import(run):
        raise OutputError(f"{out} is there and holds no import: choose another `out`")


def _is_import(record: Path) -> bool:
    try:
        return run_file.read(record).get("command") == "import"
    except ResumeError:  # somebody else's
        return False


def _run(options: ImportParts, folder: Path) -> Run:
    template = options.template
    return Run(
        folder / RUN_FILE,
        command="import",
        options={
            "template": fingerprint(template) if Path(template).is_file() else template,
            "fusion": options.fusion,
            "max_shard_size": options.max_shard_size,
        },
        inputs={name: fingerprint(str(getattr(options, name)), whole=True) for name in PARTS},
        computes=("timm", "safetensors"),
    )


def _fill(planned: ImportPlan, run: Run, folder: Path, advance: Advance) -> None:
    run.begin()
    hashes = write_model(planned, folder, advance)
    written = sorted(path.name for path in folder.iterdir())
    run.finish(dataclasses.asdict(planned.counts), model={"files": hashes, "written": written})
