"""How a data set is laid out in its tars: extension, pictures, splits, shards."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from mgtool.errors import ItemError
from mgtool.files.shard_names import UNSPLIT, shard_name

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}

OTHERWISE = "PNG"
"""Format of a data set whose first picture is of none that every reader decodes; it loses nothing."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What all samples of a data set have in common.

    Attributes:
        pictures: most pictures that one sample has.
        format: Pillow's name of the one picture format.
        video: ending of the one video part, or empty.
        boxes: whether samples carry boxes.
    """

    pictures: int = 0
    format: str = OTHERWISE
    video: str = ""
    boxes: bool = False


class Base(msgspec.Struct, frozen=True):
    """Where a run begins that adds to earlier ones: the first key, and the first shard of each split."""

    key: int = 0
    shards: dict[str, int] = {}


class Examined(NamedTuple):
    """What a worker found in a sample.

    Attributes:
        number: of the item.
        wanted: whether it is one of those asked for.
        pictures: `HASH_BYTES` of each picture and video.
        content: `HASH_BYTES` of these and the conversation.
        failure: why it cannot be used.
    """

    number: int
    wanted: bool
    pictures: bytes = b""
    content: bytes | None = None
    failure: ItemError | None = None


class CompleteShard(NamedTuple):
    """A complete shard of this or an earlier run.

    Attributes:
        split, shard: name it.
        since: nanoseconds of the system's clock at which it was begun.
        digests: `HASH_BYTES` for each of its items.
        contents: `HASH_BYTES` for each of its items where repeated ones are dropped, else nothing.
        pictures: `HASH_BYTES` for each of their pictures and videos, zeros where one could not be read.
    """

    split: str
    shard: int
    since: int
    digests: bytes
    contents: bytes
    pictures: tuple[bytes, ...]


class ShardJob(NamedTuple):
    """One shard that is to be made.

    Attributes:
        split, shard: name it.
        key: of its first item.
        numbers: of its items in the spool.
        digests, contents: as in `CompleteShard`.
        refused: items that turned out to be of no use while the plan was made.
    """

    split: str
    shard: int
    key: int
    numbers: list[int]
    digests: bytes
    contents: bytes
    refused: dict[int, ItemError]

    @property
    def tar(self) -> str:
        """Name of the tar."""
        return shard_name(self.split or UNSPLIT, self.shard, ".tar")
