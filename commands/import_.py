"""`mgtool import`: the published parts of a model -> one folder that `mgtool infer` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgtool.commands import console
from mgtool.commands.options import Config, DryRun, Json, Overwrite, Quiet


def import_(
    checkpoint: Annotated[
        Path, typer.Option("--checkpoint", help="MG-LLaVA weights: a .pth file, or a folder of DeepSpeed shards.")
    ],
    llm: Annotated[Path, typer.Option("--llm", help="Language model's folder: configuration and tokenizer.")],
    clip: Annotated[Path, typer.Option("--clip", help="Low-resolution tower's folder: CLIP or SigLIP.")],
    convnext: Annotated[Path, typer.Option("--convnext", help="High-resolution tower's folder, OpenCLIP's layout.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    template: Annotated[
        str, typer.Option("--template", help="Prompt template: vicuna, llama3_chat, phi3_chat, or a JSON file.")
    ] = "vicuna",
    fusion: Annotated[
        str | None, typer.Option("--fusion", help="Refuse a checkpoint of another fusion variant than this.")
    ] = None,
    max_shard_size: Annotated[
        float, typer.Option("--max-shard-size", min=0.001, help="Gigabytes of a file of weights.")
    ] = 5.0,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn a published checkpoint and its parts into one model folder (safetensors)."""
    from mgtool.importing.published import Parts, import_model, plan_import

    parts = Parts(checkpoint, llm, clip, convnext, template, fusion)
    shard_bytes = int(max_shard_size * 1e9)
    if dry_run:
        plan = plan_import(parts, max_shard_bytes=shard_bytes)
        console.summarize(
            {"out": str(out), **plan.summary()}, title="mgtool import would write", as_json=as_json, quiet=False
        )
        return
    with console.progress("bytes", quiet=quiet) as advance:
        counts = import_model(parts, out, overwrite=overwrite, max_shard_bytes=shard_bytes, advance=advance)
    console.summarize({"out": str(out), **counts}, title="mgtool import", as_json=as_json, quiet=quiet)
