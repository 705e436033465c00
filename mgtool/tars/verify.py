"""A linter of WebDataset tars, whoever wrote them: what is wrong with which sample."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from mgtool.errors import InputError, ItemError
from mgtool.files import hashing
from mgtool.media import images
from mgtool.records import Advance, Detections, Failure, Media, parse
from mgtool.runs import workers as processes
from mgtool.tars import comparison
from mgtool.tars.index import WIDS_INDEX_FILE
from mgtool.tars.members import Member, read_members
from mgtool.tars.other_readers import READERS
from mgtool.tars.paths import open_url
from mgtool.tars.repeated_keys import KeyHashes, repeated
from mgtool.tars.samples import PackedPicture, PackedSample, RawSample, group, sample, split_name
from mgtool.tars.verify_options import PictureCheck, Readers

Check = Literal[
    "tar",  # missing, empty, cut, no tar
    "sidecar",  # the shard is not the one that its JSON describes
    "index",  # the wids index describes another shard
    "name",  # a member's name that leaves its folder
    "member",  # a link, device or pipe
    "key",  # a key that occurs twice, or a part twice in one sample
    "parts",  # other parts than the first sample has
    "json",  # no JSON, or other fields or types (null is one) than in the first sample
    "record",  # a sample that cannot be read
    "hash",  # a picture that is not the one that its record describes
    "picture",  # a picture or video that cannot be decoded
    "boxes",  # boxes outside their picture
    "reader",  # a program that cannot read the tars, or reads something else
]
MARGIN = 1.0
"""Pixels that a box may stand out of its picture: detectors round."""

_RUN_TOGETHER = "{} are one sample for every reader: a key ends at the first dot of a name"

MOST_FINDINGS = 1000
"""Findings of one kind that are kept of one tar."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong; `key` is empty where it is not with one sample."""

    check: Check
    tar: str = ""
    key: str = ""
    detail: str


class TarReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one tar holds.

    Attributes:
        samples: their number.
        keys: of the samples in order, as `KeyHashes` has them.
        first: the first key.
        parts: of the first sample.
        types: of the fields of its first JSON, by path.
        findings: within this tar.
    """

    tar: str
    samples: int
    keys: bytes
    first: str
    parts: tuple[str, ...]
    types: dict[str, str]
    findings: tuple[Finding, ...]


def check_tars(
    urls: Sequence[str],
    *,
    check: PictureCheck = "structure",
    readers: Readers = "sample",
    workers: int = 1,
    advance: Advance = lambda n: None,
) -> tuple[int, list[Finding], dict[str, str]]:
    """Read every member of some tars, and let every installed reader read them.

    Args:
        urls: the tars.
        check: how pictures are looked at.
        readers: what readers read.
        workers: processes.
        advance: told of every tar that was read.

    Returns:
        The number of samples, what is wrong, and for each reader ``agrees``, ``differs``, ``not installed`` or
        ``not run``.
    """
    reports = list(_counted(_reports(urls, check, workers), advance))
    findings = [finding for report in reports for finding in report.findings]
    findings += _across(urls, reports)
    is_safe = not any(finding.check in ("tar", "name", "member") for finding in findings)
    read = _read_elsewhere(urls, readers, advance) if is_safe and not any("://" in url for url in urls) else {}
    outcome = {name: "not run" if reader.installed else "not installed" for name, reader in READERS.items()}
    outcome |= {name: "differs" if detail else "agrees" for name, detail in read.items()}
    findings += [Finding(check="reader", detail=f"{name}: {detail}") for name, detail in read.items() if detail]
    return sum(report.samples for report in reports), findings, outcome


def _read_elsewhere(urls: Sequence[str], readers: Readers, advance: Advance) -> dict[str, str]:
    if readers == "none":
        return {}
    with comparison.sample_of(urls) if readers == "sample" else contextlib.nullcontext(urls) as chosen:
        return dict(comparison.differences(chosen, READERS, advance))


def _counted(reports: Iterable[TarReport], advance: Advance) -> Iterator[TarReport]:
    for report in reports:
        advance(1)
        yield report


def _reports(urls: Sequence[str], check: PictureCheck, workers: int) -> Iterator[TarReport]:
    task = functools.partial(check_tar, check=check)
    if workers == 1 or len(urls) == 1:
        yield from map(task, urls)
        return
    with processes.pool(min(workers, len(urls)), processes.loaded(__name__), "reads tars") as pool:
        yield from pool.map(task, urls)


def check_tar(url: str, *, check: PictureCheck = "structure") -> TarReport:
    """Everything that can be said of one tar alone."""
    checker = _Checker(posixpath.basename(url), check)
    try:
        descriptions = [] if "://" in url else list(_descriptions(Path(url)))
        with open_url(url) as file:
            hashed = _Hashed(file, is_needed=bool(descriptions))
            members = read_members(hashed, behind=checker.behind)  # type: ignore[arg-type]
            for raw in group(checker.watch(members)):
                checker.sample(raw)
            hashed.drain()
        checker.end()
        checker.described(descriptions, hashed)
    except ItemError as error:
        checker.add("tar", "", str(error))
    except FileNotFoundError:
        checker.add("tar", "", "no such file")
    except (OSError, InputError) as error:
        checker.add("tar", "", str(error))
    return checker.report()


class _Checker:
    """Collects what is wrong in one tar."""

    def __init__(self, tar: str, check: PictureCheck) -> None:
        self.tar, self.check = tar, check
        self.findings: list[Finding] = []
        self.keys = KeyHashes()
        self.parts: tuple[str, ...] = ()
        self.types: dict[str, str] = {}
        self._counts = Counter[str]()
        self._joined = Counter[tuple[str, ...]]()
        self._joined_keys: dict[tuple[str, ...], str] = {}

    def add(self, check: Check, key: str, detail: str) -> None:
        self._counts[check] += 1
        if self._counts[check] <= MOST_FINDINGS:
            self.findings.append(Finding(check=check, tar=self.tar, key=key, detail=detail))

    def report(self) -> TarReport:
        for check, count in self._counts.items():
            if count > MOST_FINDINGS:
                self.findings.append(
                    Finding(check=check, tar=self.tar, detail=f"and {count - MOST_FINDINGS:,} more")  # type: ignore[arg-type]
                )
        return TarReport(
            tar=self.tar,
            samples=len(self.keys),
            keys=self.keys.to_bytes(),
            first=self.keys.first,
            parts=self.parts,
            types=self.types,
            findings=tuple(self.findings),
        )

    def watch(self, members: Iterable[Member]) -> Iterator[Member]:
        """Look at names and kinds on the way."""
        before, parts = "", set[str]()
        for member in members:
            key, part = split_name(member.name)
            if posixpath.isabs(member.name) or ".." in member.name.split("/") or "\\" in member.name:
                self.add("name", key, f"{member.name!r} leaves its folder")
            if member.kind not in ("file", "folder"):
                self.add("member", key, f"{member.name!r} is a {member.kind}")
            elif key == before and part in parts and member.kind == "file":
                self.add("key", key, f"the part {part} twice")
            parts = {*parts, part} if key == before else {part}
            before = key
            yield member

    def behind(self, count: int) -> None:
        """Something stands behind the end of the tar."""
        self.add("tar", "", f"{count:,} bytes behind its end, as of tars joined by `cat`: no reader reaches them")

    def end(self) -> None:
        """What only shows once all samples are known: names with a dot, that readers take for one sample."""
        for parts, count in self._joined.items():
            if count == 1 and (len(self.keys) == 1 or _has_numbers(parts)):
                self.add("key", self._joined_keys[parts], _RUN_TOGETHER.format(", ".join(parts[:4])))

    def sample(self, raw: RawSample) -> None:
        """Everything about one sample."""
        self.keys.add(raw.key)
        self._parts(raw)
        if _may_be_several(parts := tuple(sorted(raw.parts))):
            self._joined[parts] += 1
            self._joined_keys.setdefault(parts, raw.key)
        record = sample(raw)
        if isinstance(record, Failure):
            self.add("record", raw.key, f"{record.reason}: {record.detail}")
            return
        about = self._about(raw)
        for number, media in enumerate(record.images):
            known = about.images[number] if about is not None and number < len(about.images) else None
            self._picture(raw.key, media, known)
        if record.video is not None:
            self._video(raw.key, record.video)

    def _parts(self, raw: RawSample) -> None:
        parts = tuple(sorted(raw.parts))
        self.parts = self.parts or parts
        if parts != self.parts:
            self.add("parts", raw.key, f"{', '.join(parts)}; the first sample has {', '.join(self.parts)}")
        for part in parts:
            if part.rpartition(".")[2] == "json" and raw.parts[part]:
                self._json(raw.key, part, raw.parts[part])

    def _about(self, raw: RawSample) -> PackedSample | None:
        try:
            return parse(raw.parts.get("json", b""), PackedSample, where=raw.key)
        except InputError:
            return None  # of another writer

    def _json(self, key: str, part: str, data: bytes) -> None:
        try:
            value = parse(data, Any, where=f"{key}.{part}")
        except InputError as error:
            self.add("json", key, str(error))
            return
        types = {f"{part}{path}": kind for path, kind in _types(value)}
        first = {path: kind for path, kind in self.types.items() if path.startswith(part)}
        if not first:
            self.types |= types
        if first and types != first:
            self.add("json", key, _difference(types, first))

    def _picture(self, key: str, media: Media, known: PackedPicture | None) -> None:
        data = media.data or b""
        is_original = known is not None and not known.converted_from
        is_known = is_original and hashing.sha256(data) == known.sha256  # type: ignore[union-attr]
        try:
            # bytes that were looked at when they were packed need not be decoded again
            is_whole = self.check == "structure" and is_known
            width, height = images.check(data)[:2] if is_whole else images.decode(data).size
        except ItemError as error:
            self.add("picture", key, f"{media.name}: {error}")
            return
        if is_original and not is_known:
            self.add("hash", key, f"{media.name}: the picture's SHA-256 is not the one in its JSON")
        if known is not None and (known.width, known.height) != (width, height):
            size = f"{known.width} x {known.height} in the JSON, the picture has {width} x {height}"
            self.add("hash", key, f"{media.name}: {size}")
        for detections in media.detections or ():
            self._boxes(key, media.name, detections, width, height)

    def _boxes(self, key: str, name: str, detections: Detections, width: int, height: int) -> None:
        for number, (left, top, right, bottom) in enumerate(detections.boxes):
            is_inside = left >= -MARGIN and top >= -MARGIN and right <= width + MARGIN and bottom <= height + MARGIN
            if not is_inside or right < left or bottom < top:
                box = f"({left:g}, {top:g}, {right:g}, {bottom:g})"
                self.add("boxes", key, f"{name}: box {number} {box} is not within {width} x {height}")
                return

    def _video(self, key: str, media: Media) -> None:
        from mgtool.media import videos

        try:
            videos.decode_frames(media.data or b"", 1)
        except ItemError as error:
            self.add("picture", key, f"{media.name}: {error}")

    def described(self, descriptions: Iterable[tuple[Check, str, Mapping[str, Any]]], file: _Hashed) -> None:
        """Compare with the shard's own JSON and with the wids index, where they lie beside it."""
        for check, name, entry in descriptions:
            wrong = [
                f"{field} {entry[field]}, the tar has {value}"
                for field, value in file.facts(len(self.keys)).items()
                if isinstance(entry.get(field), type(value)) and entry[field] != value
            ]
            if wrong:
                self.add(check, "", f"{name}: {wrong[0]}")


def _may_be_several(parts: Sequence[str]) -> bool:
    """Whether a sample's parts look like those of several: each has a dot, and an ending comes more than once."""
    endings = [part.rpartition(".") for part in parts]
    return all(stem for stem, _, _ in endings) and len({ending for _, _, ending in endings}) < len(parts)


def _has_numbers(parts: Sequence[str]) -> bool:
    return all(part.rpartition(".")[0].isdecimal() for part in parts)


def _descriptions(path: Path) -> Iterator[tuple[Check, str, Mapping[str, Any]]]:
    sidecar, index = path.with_suffix(".json"), path.with_name(WIDS_INDEX_FILE)
    if sidecar.is_file():
        yield "sidecar", sidecar.name, parse(sidecar.read_bytes(), dict[str, Any], where=str(sidecar))
    if index.is_file():
        whole = parse(index.read_bytes(), dict[str, Any], where=str(index))
        listed = {posixpath.basename(entry["url"]): entry for entry in whole.get("shardlist", [])}
        if path.name in listed:
            yield "index", index.name, listed[path.name]


class _Hashed:
    """A file that is hashed while it is read, where its hashes are needed."""

    def __init__(self, file: IO[bytes], *, is_needed: bool) -> None:
        self._file, self._size, self._is_needed = file, 0, is_needed
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._size += len(data)
        if self._is_needed:
            self._sha256.update(data)
            self._md5.update(data)
        return data

    def drain(self) -> None:
        """Read on to the end."""
        while self.read(1 << 20):
            pass

    def facts(self, samples: int) -> dict[str, Any]:
        """What sidecars and indexes call what was read."""
        hashes = {"sha256": self._sha256.hexdigest(), "md5": self._md5.hexdigest(), "md5sum": self._md5.hexdigest()}
        return {"samples": samples, "nsamples": samples, "bytes": self._size, "filesize": self._size, **hashes}


def _types(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each field's path with its type, as readers that infer types see it."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _types(entry, f"{path}.{key}")
    elif isinstance(value, list):
        yield from ((kind, name) for entry in value[:1] for kind, name in _types(entry, f"{path}[]"))
        yield path, "list" if value else "empty list"
    else:
        yield path, {str: "text", bool: "truth value", int: "integer", float: "number"}.get(type(value), "null")


def _difference(types: Mapping[str, str], first: Mapping[str, str]) -> str:
    for path in [*types, *first]:
        if types.get(path) != first.get(path):
            return f"{path} is {types.get(path, 'missing')}; in the first sample {first.get(path, 'missing')}"
    return "other fields than the first sample"


def _across(urls: Sequence[str], reports: Sequence[TarReport]) -> Iterator[Finding]:
    """What only shows between tars: keys that occur twice, shards that differ from the first."""
    for tar, key, first in repeated(urls, [report.keys for report in reports]):
        detail = f"the key is in {reports[first].tar} already"
        yield Finding(check="key", tar=reports[tar].tar, key=key, detail=detail)
    filled = [report for report in reports if report.samples]
    for report in filled:
        if report.parts != filled[0].parts:
            parts = f"{', '.join(report.parts)}; the first tar has {', '.join(filled[0].parts)}"
            yield Finding(check="parts", tar=report.tar, key=report.first, detail=parts)
        elif report.types != filled[0].types:
            detail = _difference(report.types, filled[0].types).replace("first sample", "first tar")
            yield Finding(check="json", tar=report.tar, key=report.first, detail=detail)
