"""The options of `mgtool pack`, and how their texts are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mgtool.errors import UsageError
from mgtool.packing import options
from mgtool.packing.options import Size, Source
from mgtool.tars import verify_options

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]I?)?(B)?")
_SHARE = re.compile(r"([^=]+)=([0-9]{0,15}\.?[0-9]{1,20})")


def _size(given: Any) -> Size:
    """A number of samples, or of bytes.

    >>> _size("1000"), _size("1.5kB"), _size("2 MiB")
    (Size(samples=1000, bytes=0), Size(samples=0, bytes=1500), Size(samples=0, bytes=2097152))
    """
    if isinstance(given, Size):
        return given
    match = _SIZE.fullmatch(str(given).strip().upper())
    number = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if match is None or number < 1:
        raise UsageError("shard_size", f"{str(given)[:30]}: give a number of samples (1000) or of bytes (500MB, 1GB)")
    return Size(bytes=number) if match[2] or match[3] else Size(samples=number)


def _split(given: Any) -> Mapping[str, float]:
    """Shares by name.

    >>> _split("train=0.98,val=0.02")
    {'train': 0.98, 'val': 0.02}
    """
    matches = [_SHARE.fullmatch(one.strip()) for one in str(given).split(",")]
    shares = {match[1]: float(match[2]) for match in matches if match is not None}
    if len(shares) != len(matches):
        raise UsageError("split", f"{given}: give names and shares that add up to 1, for instance train=0.98,val=0.02")
    return shares


def _source(given: Any) -> Source:
    """An input with its own pictures and boxes.

    >>> _source("more.json,images=photos")
    Source(input='more.json', images='photos', boxes=None)
    """
    if isinstance(given, Source):
        return given
    name, *rest = str(given).split(",")
    fields = dict(one.partition("=")[::2] for one in rest)
    if not name or not set(fields) <= {"images", "boxes"} or not all(fields.values()):
        raise UsageError("add", f"{given}: give INPUT, then ,images=DIR and ,boxes=PATH where it has its own")
    return Source(name, fields.get("images"), fields.get("boxes"))


_SHARDS, _PICTURES, _CHOOSING, _PACKED = "Shards", "Pictures", "Choosing samples", "Tars that are there"

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="What to pack; `-` is stdin.")]
Out = Annotated[
    str, typer.Option("--out", metavar="DIR|-", help="Folder of tars, or one tar on stdout.", show_default=False)
]
Images = Annotated[str | None, typer.Option("--images", metavar="DIR", help="Where relative picture names start.")]
Boxes = Annotated[str | None, typer.Option("--boxes", metavar="PATH", help="Boxes as they lie: COCO, YOLO, VOC, ...")]
Add = Annotated[
    list[Source] | None,
    typer.Option(
        "--add",
        parser=_source,
        metavar="INPUT[,images=DIR][,boxes=PATH]",
        help="One more input with its own pictures and boxes; may be given again.",
    ),
]
MissingBoxes = Annotated[
    options.MissingBoxes,
    typer.Option(
        "--missing-boxes",
        parser=str,
        metavar="fail|empty|skip",
        help="A picture that --boxes does not know: fail, empty or skip.",
    ),
]
ShardSize = Annotated[
    Size,
    typer.Option(
        "--shard-size",
        parser=_size,
        metavar="N|BYTES",
        help="Samples of one tar, or about its bytes: 500MB, 1GB.",
    ),
]
Shuffle = Annotated[
    int | None, typer.Option("--shuffle", metavar="SEED", help="Mix the samples.", rich_help_panel=_SHARDS)
]
Split = Annotated[
    Mapping[str, float] | None,
    typer.Option(
        "--split",
        parser=_split,
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
    options.Check,
    typer.Option(
        "--check",
        parser=str,
        metavar="structure|decode",
        help="How broken pictures are found: structure (nothing is decoded) or decode; by --verify, too.",
        rich_help_panel=_PICTURES,
    ),
]
MaxPixels = Annotated[
    int,
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
Exif = Annotated[
    options.Exif,
    typer.Option(
        "--exif",
        parser=str,
        metavar="keep|apply",
        help="Pictures to be shown turned: keep bytes and boxes as stored, or turn both and drop the tag.",
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
Explain = Annotated[
    bool, typer.Option("--explain", help="Only say what each INPUT is taken for, and why.", rich_help_panel=_CHOOSING)
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Check the tars INPUT, whoever wrote them.", rich_help_panel=_PACKED),
]
Readers = Annotated[
    verify_options.Readers,
    typer.Option(
        "--readers",
        parser=str,
        metavar="sample|all|none",
        help="What --verify lets other programs read: the first samples of some tars, everything, or nothing.",
        rich_help_panel=_PACKED,
    ),
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
