"""The options of `mgtool pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_SHARDS, _PICTURES, _CHOOSING, _PACKED = "Shards", "Pictures", "Choosing samples", "Tars that are there"

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="What to pack; `-` is stdin.")]
Out = Annotated[
    str, typer.Option("--out", metavar="DIR|-", help="Folder of tars, or one tar on stdout.", show_default=False)
]
Images = Annotated[str | None, typer.Option("--images", metavar="DIR", help="Where relative picture names start.")]
Boxes = Annotated[str | None, typer.Option("--boxes", metavar="PATH", help="Boxes in any form that detect writes.")]
Add = Annotated[
    list[str] | None,
    typer.Option(
        "--add",
        metavar="INPUT[,images=DIR][,boxes=PATH]",
        help="One more input with its own pictures and boxes; may be given again.",
    ),
]
MissingBoxes = Annotated[
    str, typer.Option("--missing-boxes", help="A picture that --boxes does not know: fail, empty or skip.")
]
ShardSize = Annotated[
    str,
    typer.Option("--shard-size", metavar="N|BYTES", help="Samples of one tar, or about its bytes: 500MB, 1GB."),
]
Shuffle = Annotated[
    int | None, typer.Option("--shuffle", metavar="SEED", help="Mix the samples.", rich_help_panel=_SHARDS)
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME=SHARE,...",
        help="train=0.98,val=0.02: by the pictures' hashes, no picture in two splits.",
        rich_help_panel=_SHARDS,
    ),
]
Append = Annotated[
    bool,
    typer.Option("--append", help="Add what is new to a finished run, in new tars.", rich_help_panel=_SHARDS),
]
Check = Annotated[
    str,
    typer.Option(
        "--check",
        help="How broken pictures are found: structure (nothing is decoded) or decode.",
        rich_help_panel=_PICTURES,
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1, help="Larger pictures are failures.", rich_help_panel=_PICTURES),
]
Resize = Annotated[
    int,
    typer.Option(
        "--resize",
        metavar="SIDE",
        min=0,
        help="Make larger pictures smaller, to this longest side, and their boxes with them.",
        rich_help_panel=_PICTURES,
    ),
]
Reencode = Annotated[
    str,
    typer.Option(
        "--reencode",
        metavar="jpeg:95|webp:90|png",
        help="Encode all pictures anew; else their bytes stay.",
        rich_help_panel=_PICTURES,
    ),
]
Dedupe = Annotated[
    bool,
    typer.Option(
        "--dedupe",
        help="Leave out samples whose pictures and conversation came before.",
        rich_help_panel=_CHOOSING,
    ),
]
MinBoxes = Annotated[
    int, typer.Option("--min-boxes", min=0, help="Leave out samples with fewer.", rich_help_panel=_CHOOSING)
]
Where = Annotated[
    str,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Leave out samples that do not meet it: `width >= 336 and boxes > 0`.",
        rich_help_panel=_CHOOSING,
    ),
]
Energon = Annotated[
    bool, typer.Option("--energon", help="Let energon's own tool index the tars, too.", rich_help_panel=_SHARDS)
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Check the tars INPUT, whoever wrote them.", rich_help_panel=_PACKED),
]
Unpack = Annotated[
    Path | None,
    typer.Option(
        "--unpack",
        metavar="DIR",
        help="Write what can be packed again out of the tars INPUT.",
        rich_help_panel=_PACKED,
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes; 0: one a core.")]
