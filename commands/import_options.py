"""The options of `mgtool import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Preset = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="A published size, whose parts are downloaded: mg-llava-phi3-3.8b, mg-llava-vicuna-7b, "
        "mg-llava-vicuna-13b, mg-llava-llama3-8b, mg-llava-yi1.5-34b.",
    ),
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="MG-LLaVA weights: a .pth file, or a folder of DeepSpeed shards.")
]
Llm = Annotated[Path | None, typer.Option("--llm", help="Language model's folder: configuration and tokenizer.")]
Clip = Annotated[Path | None, typer.Option("--clip", help="Low-resolution tower's folder: CLIP or SigLIP.")]
Convnext = Annotated[Path | None, typer.Option("--convnext", help="High-resolution tower's folder, OpenCLIP's layout.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Template = Annotated[
    str,
    typer.Option(
        "--template",
        help="Prompt template: vicuna, llama3_chat, phi3_chat, yi_chat, chatml, auto (the language model's own), or a "
        "JSON file.",
    ),
]
Fusion = Annotated[
    str | None, typer.Option("--fusion", help="Refuse a checkpoint of another fusion variant than this.")
]
MaxShardSize = Annotated[float, typer.Option("--max-shard-size", min=0.001, help="Gigabytes of a file of weights.")]
