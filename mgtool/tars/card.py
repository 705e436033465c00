"""What lies beside the tars of a folder for people and for other programs: the index of samples and the README."""

from __future__ import annotations

import json
import posixpath
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mgtool.files.atomic import write_bytes
from mgtool.files.shard_names import tar_splits
from mgtool.media.names import VIDEO_EXTENSIONS
from mgtool.records import Failure
from mgtool.tars import samples
from mgtool.tars.box_parts import PackedBoxes
from mgtool.tars.index import WIDS_INDEX_FILE, SampleEntry, scan, totals, write_index
from mgtool.tars.index_file import INDEX_FILE
from mgtool.tars.other_readers import READERS
from mgtool.tars.paths import open_url

CARD_FILE = "README.md"
FILES = (INDEX_FILE, CARD_FILE)
"""What `describe` writes."""

_TITLE = "# Packed samples"
"""A README without it is somebody else's and stays."""

_DTYPES = {str: "string", bool: "bool", int: "int64", float: "float64"}
_LONGEST_TEXT = 300
_NAMES = {"webdataset": "webdataset", "datasets": "Hugging Face datasets", "wids": "wids", "ray": "Ray Data"}
_MEMBERS = f"""
Each sample is `KEY.jpg` (or the one other ending of this data set; `KEY.1.jpg`, ... for more pictures),
`KEY.json` (id, names, sizes and SHA-256 of the pictures, conversation, metadata), and, with boxes,
`KEY.boxes.npy` (float32, n x 4, xyxy in pixels of the picture) beside `KEY.boxes.json` (scores, labels).
Lists in the JSON are never empty, so that readers can tell their types: `pictures`, `turns` and `frames`
say how many entries are real. Sizes and boxes are of the pixels as stored: a reader that applies a picture's EXIF
orientation (Hugging Face `datasets` does) gives it turned where `orientation` in the JSON is not 1, and its boxes do
not fit; `.decode(False)` gives its bytes.
`{INDEX_FILE}` says where each sample lies, `{WIDS_INDEX_FILE}` is for wids.
"""
_OWN = """\
import mgtool
rows = mgtool.open_tars(".")    # in order
index = mgtool.TarIndex.of(".") # at random: index[0], index.sample(id), len(index)"""


def describe(folder: Path, urls: Sequence[str], entries: Iterable[SampleEntry] | None = None) -> None:
    """Write the index and the data card of a folder's tars, where they do not fit already.

    Args:
        folder: where they go.
        urls: its tars in order.
        entries: of all their samples, where they are known; else the tars are read over.

    Raises:
        InputError: a tar that cannot be read.
        OutputError: what cannot be written.
    """
    if not urls:
        return
    index = write_index(folder, urls, entries)
    card = _card(totals(index), urls).encode()
    path = folder / CARD_FILE
    before = path.read_bytes() if path.is_file() else _TITLE.encode()
    if before != card and _TITLE.encode() in before:
        write_bytes(path, card)


def _card(found: Mapping[str, int], urls: Sequence[str]) -> str:
    size = sum(Path(url).stat().st_size for url in urls)
    names = {**_NAMES, "energon": "energon"}
    blocks = [("mgtool", _OWN), *((names[name], reader.lines) for name, reader in READERS.items())]
    return "\n".join(
        [
            "---",
            f"configs: {json.dumps([{'config_name': 'default', 'data_files': _data_files(urls)}])}",
            f"dataset_info: {json.dumps({'features': _features(urls[0])})}",
            "---",
            _TITLE,
            "",
            *_counts_table({"tars": len(urls), "bytes": size, **found}),
            _MEMBERS,
            "## A sample",
            "",
            f"```json\n{json.dumps(_first_sample(urls[0]), indent=1, ensure_ascii=False)}\n```",
            "",
            "## Loading, in this folder",
            "",
            *(f"### {name}\n\n```python\n{lines}\n```\n" for name, lines in blocks),
        ]
    )


def _counts_table(counts: Mapping[str, int]) -> list[str]:
    rows = (f"| {name.replace('_', ' ')} | {count:,} |" for name, count in counts.items())
    return ["| what | how many |", "|---|---:|", *rows]


def _data_files(urls: Sequence[str]) -> list[dict[str, str]]:
    """The splits by the names of their tars, as Hugging Face datasets reads them."""
    splits = tar_splits(posixpath.basename(url) for url in urls)
    return [{"split": split, "path": f"{name}-*.tar"} for split, name in splits]


def _features(url: str) -> list[dict[str, Any]]:
    """The types of members: Hugging Face datasets guesses them wrongly where the first five samples have no boxes."""
    with open_url(url) as file:
        parts = sorted(next(iter(samples.read_parts(file))).parts)
    known = {"json": _type(samples.PackedSample), "boxes.json": _type(PackedBoxes)}
    known["boxes.npy"] = {"list": {"list": "float32"}}
    media = {part: {"dtype": "video" if part in VIDEO_EXTENSIONS else "image"} for part in parts}
    strings = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
    return [{"name": part, **known.get(part, media[part])} for part in parts] + strings


def _type(kind: Any) -> dict[str, Any]:
    """A record's type in the words of a data card.

    >>> _type(tuple[float, ...])
    {'list': 'float64'}
    """
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return {"struct": [{"name": field.encode_name, **_type(field.type)} for field in fields]}
    inner = typing.get_args(kind)
    if type(None) in inner:
        return _type(inner[0])
    if not inner:
        return {"dtype": _DTYPES[kind]}
    [value] = _type(inner[0]).values()
    return {"list": value}


def _first_sample(url: str) -> dict[str, Any]:
    """The first sample of a tar without its pictures' bytes."""
    sample = next(samples.read_samples([url]))
    if isinstance(sample, Failure):
        return {"unreadable": sample.detail}
    media = [*sample.images, *([sample.video] if sample.video is not None else [])]
    return {
        "key": next(scan(url)).key,
        "id": sample.id,
        "media": [
            {"name": one.name, "bytes": len(one.data or b""), "boxes": sum(len(d.boxes) for d in one.detections or ())}
            for one in media
        ],
        "conversation": [{"from": turn.speaker, "value": turn.value[:_LONGEST_TEXT]} for turn in sample.turns],
        "metadata": json.dumps(sample.metadata, ensure_ascii=False, default=str)[:_LONGEST_TEXT],
    }
