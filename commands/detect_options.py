"""The options of `mgtool detect`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mgtool.boxes.thresholds import LabelThresholds
from mgtool.errors import UsageError

_FIND, _FILTERS, _RUN = "What is found", "Which boxes are kept", "Output and run"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...", help="Pictures, videos, folders, lists, LLaVA files, TSVs, COCO JSON, tars; `-` is stdin."
    ),
]
Out = Annotated[
    str | None, typer.Option("--out", metavar="DIR|-", help="Folder to write; `-` streams box lines on stdout.")
]
Images = Annotated[str | None, typer.Option("--images", metavar="DIR", help="Folder that names start from.")]

DetectorSpec = Annotated[
    str,
    typer.Option(
        "--detector",
        metavar="SPEC",
        help="nanodet, tiny, mmdet:[CONFIG:]CHECKPOINT, owlv2:PATH, hf:PATH, boxes:PATH, or none for tags only.",
        rich_help_panel=_FIND,
    ),
]
TaggerSpec = Annotated[
    str,
    typer.Option("--tagger", metavar="SPEC", help="ram++:CHECKPOINT: words picture by picture.", rich_help_panel=_FIND),
]
TagList = Annotated[
    str | None,
    typer.Option("--tag-list", metavar="FILE", help="The tagger's tags, one a line.", rich_help_panel=_FIND),
]
TagThresholds = Annotated[
    str | None,
    typer.Option("--tag-thresholds", metavar="FILE", help="The tags' thresholds, one a line.", rich_help_panel=_FIND),
]
Vocabulary = Annotated[
    str,
    typer.Option(
        "--vocabulary",
        metavar="V",
        help="coco, lvis, objects365, openimages, a text file or a comma list.",
        rich_help_panel=_FIND,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="mg-llava: RAM++ and OWLv2 as the published boxes were made.",
        rich_help_panel=_FIND,
    ),
]
Boxes = Annotated[
    str | None,
    typer.Option(
        "--boxes",
        metavar="PATH",
        help="Box file whose pictures, by hash, are not looked at again.",
        rich_help_panel=_FIND,
    ),
]
TrustCheckpoint = Annotated[
    bool,
    typer.Option(
        "--trust-checkpoint", help="Run code that a checkpoint brings: pickles, its config.", rich_help_panel=_FIND
    ),
]
TrustConfig = Annotated[
    bool,
    typer.Option(
        "--trust-config",
        help="Run the Python of an MMDetection config that does not ship with it.",
        rich_help_panel=_FIND,
    ),
]

Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        parser=lambda text: LabelThresholds.parse(str(text)),
        metavar="T|LABEL=T,...",
        help="Lowest score, for all labels or by label: person=0.3,cup=0.5. The detector's own by default.",
        rich_help_panel=_FILTERS,
    ),
]
Iou = Annotated[
    float | None,
    typer.Option("--iou", metavar="IOU", help="Overlap for the detector's own suppression.", rich_help_panel=_FIND),
]
Slice = Annotated[
    int,
    typer.Option(
        "--slice",
        min=0,
        metavar="PIXELS",
        help="Look at squares of this side, too: small objects in large pictures.",
        rich_help_panel=_FIND,
    ),
]
Overlap = Annotated[
    float,
    typer.Option("--overlap", metavar="PART", help="Of the squares, in parts of their side.", rich_help_panel=_FIND),
]
Scales = Annotated[
    str,
    typer.Option("--scales", metavar="S,...", help="Look at pictures in these sizes: 0.5,1,2.", rich_help_panel=_FIND),
]
MaxSize = Annotated[
    int,
    typer.Option(
        "--max-size", min=0, metavar="PIXELS", help="Look at pictures at this longest side.", rich_help_panel=_FIND
    ),
]
Merge = Annotated[
    str,
    typer.Option(
        "--merge",
        metavar="HOW",
        help="What several looks have of one object: greedy or nms, with :ios or :iou and an overlap behind it.",
        rich_help_panel=_FIND,
    ),
]
Keep = Annotated[
    str, typer.Option("--keep", metavar="V", help="Labels to keep; given as --vocabulary.", rich_help_panel=_FILTERS)
]
Drop = Annotated[
    str, typer.Option("--drop", metavar="V", help="Labels to drop; given as --vocabulary.", rich_help_panel=_FILTERS)
]
MinSize = Annotated[
    float,
    typer.Option("--min-size", metavar="N", help="Pixels of a box's shorter side, at least.", rich_help_panel=_FILTERS),
]
Nms = Annotated[
    float | None,
    typer.Option(
        "--nms",
        metavar="IOU",
        help="Drop what overlaps a better box of its label by more.",
        rich_help_panel=_FILTERS,
    ),
]
ClassAgnostic = Annotated[
    bool,
    typer.Option("--class-agnostic", help="--nms and --merge across labels.", rich_help_panel=_FILTERS),
]
MaxBoxes = Annotated[
    int | None,
    typer.Option("--max-boxes", metavar="N", help="The best N of a picture.", rich_help_panel=_FILTERS),
]
Round = Annotated[bool, typer.Option("--round", help="Whole pixels, towards zero.", rich_help_panel=_FILTERS)]

Frames = Annotated[
    int,
    typer.Option("--frames", min=1, metavar="N", help="Frames of a video, evenly.", rich_help_panel=_RUN),
]


def _batch_size(text: str) -> int | None:
    """A given size; None where it is to be found."""
    if str(text) == "auto":
        return None
    if not re.fullmatch(r"0*[1-9][0-9]{0,17}", str(text)):
        raise UsageError("batch_size", f"{text}: give a number from 1 on, or auto")
    return int(text)


BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N|auto",
        parser=_batch_size,
        show_default=False,
        help="Pictures at once; auto, the default, finds what is fastest and fits.",
        rich_help_panel=_RUN,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="D",
        help="auto, cpu, cuda, cuda:1; cuda:0,cuda:1 is a process each.",
        rich_help_panel=_RUN,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="T",
        help="float32, bfloat16, float16, or auto: narrow where that is fast (default: float32 on a CPU, else auto).",
        rich_help_panel=_RUN,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        metavar="N",
        help="Decoding processes; 0 for none. One a core by default.",
        rich_help_panel=_RUN,
    ),
]
Format = Annotated[
    str,
    typer.Option("--format", metavar="F", help="jsonl, coco, yolo, voc, mg-llava, parquet.", rich_help_panel=_RUN),
]
ShardSize = Annotated[
    int,
    typer.Option("--shard-size", min=1, metavar="N", help="Pictures of a JSON lines shard.", rich_help_panel=_RUN),
]
Visualize = Annotated[
    int, typer.Option("--visualize", min=0, metavar="N", help="Draw the first N pictures.", rich_help_panel=_RUN)
]
Report = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Page of pictures with their boxes, to write at the end.",
        rich_help_panel=_RUN,
    ),
]
Stats = Annotated[
    bool,
    typer.Option("--stats", help="Sum up the box files INPUT instead; nothing is looked at.", rich_help_panel=_RUN),
]
