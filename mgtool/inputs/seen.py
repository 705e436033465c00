"""What a reader finds in inputs: what each is taken for and why, records by layout, and what is not used."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from mgtool.records import LeftOut

KINDS = {
    "tar": "its name ends as a tar's does, or it begins as one",
    "folder of tars": "tars lie in it",
    "data set saved by Hugging Face `datasets`": "it has a state.json, or the like, beside .arrow files",
    "Hugging Face data set of Parquet files": "it has .parquet files that are numbered as that hub's, or nothing else",
    "image folder with metadata": "it has a metadata.jsonl, .csv or .parquet with `file_name`",
    "folder of pictures": "pictures or videos lie in it",
    "picture or video": "its ending or its first bytes are those of one",
    "VLMEvalKit benchmark": "it is a table with tabs, and has the columns `index` and `question`",
    "table of texts": "its first line names columns, one of them a picture, video, conversation or question",
    "Parquet table": "it begins with PAR1",
    "Arrow table": "it begins as an Arrow file or stream",
    "COCO file": "it is one JSON object with `images`",
    "JSON object": "it is one JSON object",
    "JSON list": "it begins with [",
    "JSON lines": "its lines are JSON objects",
    "list of paths": "it is a text and nothing of the others",
}  # fmt: skip
"""What an input can be, with how it is told; of several that fit, the first. Of records: `json_records.LAYOUTS`."""


OF_PATHS, OF_RECORDS, OF_ROWS = "list of paths", "JSON list", ("VLMEvalKit benchmark", "table of texts")
"""Kinds that can be read from a place in them on, beside JSON lines."""


class Recognised(NamedTuple):
    """What an input is taken for: one of `KINDS`, with the reason."""

    input: str
    kind: str
    why: str


class Seen:
    """Told by readers.

    Args:
        left_out: told of what is not used.
        wants_boxes: whether boxes that inputs hold are missed where nothing here can take them.

    Attributes:
        kinds: what each input, or each file in a folder of tables, is taken for.
        layouts: records by the name of their layout.
    """

    def __init__(self, left_out: LeftOut | None = None, *, wants_boxes: bool = True) -> None:
        self.left_out, self.wants_boxes = LeftOut() if left_out is None else left_out, wants_boxes
        self.kinds: list[Recognised] = []
        self.layouts = Counter[str]()

    def begins(self, where: str, offset: int, line: int) -> None:
        """A record begins in a file, at a byte and a line."""

    def refers(self, where: str, name: str, offset: int) -> None:
        """Rows of a file refer by a name to one that begins at a byte."""

    def take(self, given: str, kind: str) -> None:
        """An input is taken for one of `KINDS`."""
        self.kinds.append(Recognised(given, kind, KINDS[kind]))
