"""`mgtool import`: the published parts of a model -> one folder that `mgtool infer` takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from mgtool.commands import console, summaries
from mgtool.commands import import_options as options
from mgtool.commands.options import Config, DryRun, Json, Overwrite, Quiet, Tmp, Wait
from mgtool.importing.options import ImportOptions

if TYPE_CHECKING:
    from mgtool.importing.plan import ImportPlan
    from mgtool.stages.import_model import Imported

_ASK = ("mgtool", "infer", "photos/", "--task", "caption", "--out", "answers.jsonl")
"""What a model can be tried with."""


def import_(
    out: options.Out,
    preset: options.Preset = ImportOptions.preset,
    checkpoint: options.Checkpoint = ImportOptions.checkpoint,
    llm: options.Llm = ImportOptions.llm,
    clip: options.Clip = ImportOptions.clip,
    convnext: options.Convnext = ImportOptions.convnext,
    template: options.Template = ImportOptions.template,
    fusion: options.Fusion = ImportOptions.fusion,
    max_shard_size: options.MaxShardSize = ImportOptions.max_shard_size,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    tmp: Tmp = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
) -> None:
    """Turn a published checkpoint and its parts into one model folder (safetensors); a preset downloads them."""
    asked = ImportOptions(
        preset=preset,
        checkpoint=checkpoint,
        llm=llm,
        clip=clip,
        convnext=convnext,
        template=template,
        fusion=fusion,
        max_shard_size=max_shard_size,
    )
    if dry_run and preset:
        _show_downloads(asked, as_json=as_json)
        return
    _import(asked, out, overwrite=overwrite, wait=wait, dry_run=dry_run, as_json=as_json, quiet=quiet)


def _import(
    asked: ImportOptions, out: Path, *, overwrite: bool, wait: bool, dry_run: bool, as_json: bool, quiet: bool
) -> None:
    from mgtool.stages.import_model import import_model, plan

    found: Imported | ImportPlan
    if dry_run:
        found, title, quiet = plan(asked), "mgtool import would write", False
    else:
        tell = (lambda text: None) if quiet else console.say
        with console.progress("bytes", quiet=quiet) as advance:
            found = import_model(asked, out, overwrite=overwrite, wait=wait, advance=advance, tell=tell)
        title = "mgtool import"
    for note in found.notes:
        console.say(note)
    summary = {"out": str(out), **dataclasses.asdict(found.counts)}
    had_finished = getattr(found, "had_finished", False)  # of a plan, nothing had
    then = "" if dry_run else summaries.command(*_ASK, "--model", out)
    done = None if dry_run or had_finished else found.counts.bytes
    summaries.summarize(summary, title=title, as_json=as_json, quiet=quiet, done=done, then=then)
    summaries.show_nothing_left(out, had_finished, quiet=quiet)


def _show_downloads(asked: ImportOptions, *, as_json: bool) -> None:
    """What a preset would download; the hub is asked for lists of files alone."""
    from mgtool.importing.downloads import planned, summary

    downloads = planned(asked)
    for line in () if as_json else summary(downloads):
        console.say(line)
    found = {one.part: {"hub": one.name, "revision": one.revision, "files": dict(one.files)} for one in downloads}
    total = {"bytes": sum(one.bytes for one in downloads)}
    summaries.summarize(
        {**found, **total} if as_json else total, title="mgtool import", as_json=as_json, quiet=not as_json
    )
