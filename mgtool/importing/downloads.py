"""What a preset is downloaded from: files chosen by their names, told with their sizes, then fetched; it goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mgtool.errors import InputError
from mgtool.files.space import check_space
from mgtool.importing import published
from mgtool.importing.options import PARTS, ImportOptions, ImportParts
from mgtool.importing.presets import Preset, preset
from mgtool.inputs import hub
from mgtool.records import Advance
from mgtool.runs import progress

_GIGABYTE = 1e9
_SETTINGS = (".json", ".model", ".txt", ".jinja")
_CHECKPOINTS = (".pth", ".pt", ".bin", ".safetensors")
_OTHER_STAGES = ("pretrain", "lora", "video")
"""What names of weights have in them that are no finished picture model."""
_STEMS = {"llm": ("model", "pytorch_model"), "clip": ("model", "pytorch_model"), "convnext": ("open_clip_model",)}
_MORE_STEMS = {"convnext": ("open_clip_pytorch_model",)}


@dataclass(frozen=True)
class Download:
    """Files of one part.

    Attributes:
        part: ``checkpoint``, ``llm``, ``clip`` or ``convnext``.
        name, revision: of the repository on the hub, and its commit.
        files: their sizes in bytes by name.
        kept: bytes of those that are in the hub's cache already.
    """

    part: str
    name: str
    revision: str
    files: Mapping[str, int]
    kept: int

    @property
    def bytes(self) -> int:
        """What is still to be downloaded."""
        return sum(self.files.values()) - self.kept

    def __str__(self) -> str:
        weights = max(self.files, key=lambda file: self.files[file])
        size = f"{sum(self.files.values()) / _GIGABYTE:.2f} GB in {len(self.files)} files"
        kept = f", {self.kept / _GIGABYTE:.2f} GB of it is there" if self.kept else ""
        return f"{self.part}: {self.name}@{self.revision[:12]}: {size}, the largest {weights}{kept}"


def planned(options: ImportOptions) -> list[Download]:
    """What the parts that are not given as local paths are downloaded from; only lists are asked for.

    Raises:
        UsageError: no such preset.
        InputError: the hub cannot be asked, or has no file that is meant.
    """
    asked = preset(options.preset)
    missing = [part for part in PARTS if _local(options, part) is None]
    return [_planned(part, asked, options) for part in missing]


def fetched(
    options: ImportOptions,
    tell: Callable[[str], None] = lambda text: None,
    advance: Advance = lambda count: None,
) -> ImportParts:
    """The parts of an import as local paths, downloaded where they are not there.

    Args:
        options: with a preset or without.
        tell: told in a line each what will be downloaded, before it is.
        advance: told of bytes that are downloaded.

    Raises:
        UsageError: parts that are neither given nor of a preset.
        InputError: the hub cannot be asked, or has no file that is meant.
        OutputError: the disk of the hub's cache has no room for them.
    """
    if not options.preset:
        return options.parts()
    downloads = planned(options)
    for line in summary(downloads):
        tell(line)
    places = {part: path for part in PARTS if (path := _local(options, part)) is not None}
    _fetch_all(downloads, places, advance)
    if _local(options, "llm") is None and not published.holds_language_model(places["checkpoint"]):
        weights = _listed("llm", preset(options.preset).llm, with_weights=True)
        tell(f"{weights}; the checkpoint has no language model")
        _fetch_all([weights], places, advance)
    template = options.template or preset(options.preset).template
    return options.parts(**places, template=template)


def summary(downloads: Sequence[Download]) -> list[str]:
    """What is downloaded, in lines, with the sum at the end."""
    total = sum(one.bytes for one in downloads) / _GIGABYTE
    return [*map(str, downloads), f"{total:.2f} GB to download"] if downloads else []


def _local(options: ImportOptions, part: str) -> Path | None:
    """A part's local path; None for one of the hub, as the file's name there is."""
    given: Path | None = getattr(options, part)
    return given if given is not None and (part != "checkpoint" or given.exists()) else None


def _planned(part: str, asked: Preset, options: ImportOptions) -> Download:
    name = getattr(asked, part)
    if part != "checkpoint":
        return _listed(part, name, with_weights=part != "llm")
    listing = hub.listing(name, option="preset")
    wanted = None if options.checkpoint is None else options.checkpoint.as_posix()
    return _download(part, name, listing, checkpoint_of(listing.files, asked.words, wanted, name))


def _listed(part: str, name: str, *, with_weights: bool) -> Download:
    """The settings of a part, and its weights where they are wanted, in one form of them."""
    listing = hub.listing(name, option="preset")
    settings = [file for file in listing.files if "/" not in file and file.endswith(_SETTINGS) and not _is_index(file)]
    weights = weights_of(listing.files, (*_STEMS[part], *_MORE_STEMS.get(part, ()))) if with_weights else []
    if with_weights and not weights:
        raise InputError(f"`preset` {name}: no file of weights on the hub that `import` reads: give `{part}`")
    return _download(part, name, listing, [*settings, *weights])


def _download(part: str, name: str, listing: hub.Listing, files: Sequence[str]) -> Download:
    chosen = {file: listing.files[file] for file in files}
    kept = sum(size for file, size in chosen.items() if file in listing.kept)
    return Download(part, name, listing.revision, chosen, kept)


def _fetch_all(downloads: Sequence[Download], places: dict[str, Path], advance: Advance) -> None:
    """Add where each part is once it is there."""
    total = sum(one.bytes for one in downloads)
    check_space(hub.cache_folder(), total, "set HF_HOME to a folder on a larger disk")
    progress.started(advance, total)
    for one in downloads:
        progress.doing(advance, one.name if one.bytes else "bytes")
        places[one.part] = _fetch(one, advance)
    progress.doing(advance, "bytes")


def _fetch(one: Download, advance: Advance) -> Path:
    """The part's folder in the hub's cache, or the file of weights there."""
    folder = hub.fetched(one.name, one.revision, one.files, option="preset", advance=advance)
    if one.part != "checkpoint":
        return folder
    return (
        folder / next(iter(one.files)) if len(one.files) == 1 else folder / PurePosixPath(next(iter(one.files))).parent
    )


def weights_of(files: Mapping[str, int], stems: Sequence[str]) -> list[str]:
    """One form of the weights of a repository: safetensors before others, with the index where it is in shards."""
    for suffix in (".safetensors", ".bin"):
        for stem in stems:
            shard = re.compile(rf"{re.escape(stem)}(-\d+-of-\d+)?{re.escape(suffix)}(\.index\.json)?")
            if found := [file for file in files if shard.fullmatch(file)]:
                return found
    return []


def checkpoint_of(files: Mapping[str, int], words: Sequence[str], wanted: str | None, name: str) -> list[str]:
    """The file of weights whose name has all words in it, or the one that is wanted.

    >>> checkpoint_of({"Vicuna-7B/sft.pth": 1, "vicuna_7b_pretrain.pth": 1}, ("vicuna", "7b"), None, "o/n")
    ['Vicuna-7B/sft.pth']

    Raises:
        InputError: none or several, with what there is.
    """
    weights = [file for file in files if file.endswith(_CHECKPOINTS)]
    if wanted is not None:
        found = [file for file in weights if file == wanted]
    else:
        fitting = [file for file in weights if all(word in _plain(file) for word in words)]
        finished = [file for file in fitting if not any(word in _plain(file) for word in _OTHER_STAGES)]
        found = finished or fitting
    if len(found) > 1 and all("_states" in file for file in found):  # of DeepSpeed's ranks
        parents = {PurePosixPath(file).parent for file in found}
        if len(parents) == 1 and parents != {PurePosixPath(".")}:
            return found
    if len(found) != 1:
        listed = ", ".join(found or weights) or "none"
        what = f"has no {wanted}" if wanted is not None else f"{len(found) or 'no'} names of weights fit"
        raise InputError(f"`preset` {name}: {what}: give `checkpoint`: a local path, or one of these: {listed}")
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_index(name: str) -> bool:
    return name.endswith(".index.json")
