"""Visual Genome's files as samples: its pictures, questions, regions, objects, attributes and relationships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mgtool.errors import ItemError, RecordError
from mgtool.media.reading import Find
from mgtool.records import Failure, Media, Sample, SampleId, Turn

LISTS = ("regions", "objects", "attributes", "relationships")
_FOLDERS = ("VG_100K", "VG_100K_2")


def is_picture(fields: Mapping[str, Any]) -> bool:
    """Whether a record is one of ``image_data.json``."""
    return isinstance(fields.get("url"), str) and {"image_id", "width", "height"} <= fields.keys()


def is_about(fields: Mapping[str, Any]) -> bool:
    """Whether a record lists regions, objects, attributes or relationships of a picture."""
    known = not fields.keys().isdisjoint(LISTS) and any(isinstance(fields.get(name), list) for name in LISTS)
    return known and ("image_id" in fields or (isinstance(fields.get("id"), int) and "regions" in fields))


def is_asked(fields: Mapping[str, Any]) -> bool:
    """Whether a record lists questions about a picture."""
    return isinstance(fields.get("qas"), list)


def pictures(fields: Mapping[str, Any], find: Find, where: str) -> Iterator[Sample | Failure]:
    """The picture of a record, everything else that it says as metadata."""
    number = fields.get("image_id", fields.get("id"))
    if not isinstance(number, int):
        raise RecordError(f"{where}: image_id: expected a number")
    rest = {name: value for name, value in fields.items() if name not in ("image_id", "url")}
    yield Sample(id=number, images=(_picture(number, fields.get("url"), find),), metadata=rest)


def questions(fields: Mapping[str, Any], find: Find, where: str) -> Iterator[Sample | Failure]:
    """Each question of a record as a sample, its answer among the metadata."""
    for index, asked in enumerate(fields["qas"]):
        place = f"{where}: qas[{index}]"
        if not isinstance(asked, dict) or not isinstance(asked.get("question"), str):
            yield Failure(id=place, stage="read", reason="bad_record", detail=f"{place}: no question")
            continue
        number = asked.get("image_id", fields.get("id"))
        own: SampleId = asked["qa_id"] if isinstance(asked.get("qa_id"), int) else place
        rest = {name: value for name, value in asked.items() if name not in ("qa_id", "question")}
        try:
            media = (_picture(number, None, find),)
        except ItemError as error:
            yield Failure.of(own, "read", error)
            continue
        yield Sample(id=own, images=media, turns=(Turn("human", asked["question"]),), metadata=rest)


def _picture(number: Any, url: Any, find: Find) -> Media:
    """By its URL's last two parts, or else in whichever of the published folders it lies."""
    if isinstance(url, str):
        return find("/".join(urlsplit(url).path.strip("/").split("/")[-2:]))
    places = [find(name) for name in (*(f"{folder}/{number}.jpg" for folder in _FOLDERS), f"{number}.jpg")]
    local = (one for one in places if "://" not in one.uri and Path(one.uri).is_file())
    return next(local, places[0])
