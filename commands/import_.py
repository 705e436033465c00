"""`mgtool import`: the published parts of a model -> one folder that `mgtool infer` takes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mgtool.commands import console
from mgtool.commands import import_options as options
from mgtool.commands.options import Config, DryRun, Json, Overwrite, Quiet, Wait
from mgtool.importing.options import ImportOptions

if TYPE_CHECKING:
    from mgtool.importing.plan import ImportPlan
    from mgtool.stages.import_model import Imported

_ASK = ("mgtool", "infer", "photos/", "--task", "caption", "--out", "answers.jsonl")
"""What a model can be tried with."""


def import_(
    checkpoint: options.Checkpoint,
    llm: options.Llm,
    clip: options.Clip,
    convnext: options.Convnext,
    out: options.Out,
    template: options.Template = ImportOptions.template,
    fusion: options.Fusion = ImportOptions.fusion,
    max_shard_size: options.MaxShardSize = ImportOptions.max_shard_size,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
) -> None:
    """Turn a published checkpoint and its parts into one model folder (safetensors)."""
    from mgtool.stages.import_model import import_model, plan

    found: Imported | ImportPlan
    asked = ImportOptions(
        checkpoint=checkpoint,
        llm=llm,
        clip=clip,
        convnext=convnext,
        template=template,
        fusion=fusion,
        max_shard_size=max_shard_size,
    )
    if dry_run:
        found, title, quiet = plan(asked), "mgtool import would write", False
    else:
        with console.progress("bytes", quiet=quiet) as advance:
            found = import_model(asked, out, overwrite=overwrite, wait=wait, advance=advance)
        title = "mgtool import"
    for note in found.notes:
        console.say(note)
    summary = {"out": str(out), **dataclasses.asdict(found.counts)}
    done, then = (None, "") if dry_run else (found.counts.bytes, console.command(*_ASK, "--model", out))
    console.summarize(summary, title=title, as_json=as_json, quiet=quiet, done=done, then=then)
