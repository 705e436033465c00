"""YOLO: a text file a picture with a line an object, the classes' names in a YAML or text file beside or above them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import msgspec

from mgtool.boxes.coordinates import Coordinates
from mgtool.boxes.formats import labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.errors import InputError
from mgtool.files.atomic import atomic_file, atomic_folder
from mgtool.files.folder_tree import named_below
from mgtool.files.regular import read_regular
from mgtool.media.names import PICTURE_EXTENSIONS
from mgtool.records import BoxRecord, Side, dumps, parse

ENDING = ".txt"
LABELS, IMAGES = "labels", "images"
DATA_FILE = "data.yaml"
PICTURES_FILE = "pictures.jsonl"
"""What labels do not say, and `write` does: a line a picture, with the scores of its lines."""
_YAML = (".yaml", ".yml")
_NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels")
_MOST_NAMES_BYTES = 1 << 20
_LEVELS_UP = 3
COORDINATES = Coordinates("cxcywh", is_normalised=True)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LINE = re.compile(rf"\d{{1,9}}(?:\.0*)?(?:\s+(?:{_NUMBER}|nan|[-+]?inf)){{4,}}\s*")


class _Written(msgspec.Struct, frozen=True):
    """A line of `PICTURES_FILE`."""

    labels: str
    image: str
    sha256: str
    width: Side
    height: Side
    scores: tuple[float, ...] = ()


def recognises(file: BoxFile) -> bool:
    """A data set's YAML, its folder, or one picture's labels."""
    if file.path.is_dir():
        return bool(in_folder(file.path))
    return file.ending in _YAML or (file.ending == ENDING and _are_labels(file.path))


def in_folder(folder: Path) -> list[Path]:
    """The folder, where it is of a data set or of labels."""
    is_one = any(_names_in(path) for path in folder.glob("*.y*ml")) or next(_labels_below(folder), None)
    return [folder] if is_one else []


def _labels_below(folder: Path) -> Iterator[Path]:
    """The files of labels of a folder, in order of their names; classes' names and lists of pictures are none."""
    return (path for path in named_below(folder, f"*{ENDING}") if _are_labels(path))


def is_read(path: Path) -> bool:
    """Whether a file below a data set's folder says something of its boxes: labels, or names of classes."""
    return path.suffix.lower() in (".yaml", ".yml") or path.name in _NAMES_FILES or _are_labels(path)


def _are_labels(path: Path) -> bool:
    """Whether a file's first line is an object's; an empty file, of a picture without any, counts in ``labels``."""
    if path.suffix != ENDING or path.name in _NAMES_FILES or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(1 << 16).decode("utf-8", "replace")
    return _LINE.fullmatch(first) is not None if first else LABELS in path.parent.parts


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a picture; those that lie beside the labels and have none are pictures without an object.

    Raises:
        InputError: a YAML without the names of classes.
    """
    if file.ending in _YAML and not _names_in(file.path, may_fail=True):
        raise InputError(f"{file.path}: no `names` of classes, as a YOLO data set has them")
    yield from _DataSet(file).entries()


class _DataSet:
    """Labels, and the pictures that lie in ``images`` where the labels lie in ``labels``, or beside them."""

    def __init__(self, file: BoxFile) -> None:
        self._left_out, self._kind = file.left_out, (file.coordinates or COORDINATES).kind
        given = file.path.parent if file.ending in _YAML else file.path
        self._root, self._labels, self._pictures = _places(given)
        self._names_of = functools.cache(_names_of)

    def entries(self) -> Iterator[BoxEntry]:
        if self._labels.is_file():
            yield self._entry(self._labels, self._pictures)
            return
        if (self._root / PICTURES_FILE).is_file() and self._labels == self._root:
            yield from self._written()
            return
        pictures = {labelled.stem_of(_swapped(self._name(path), IMAGES, LABELS)): path for path in self._beside()}
        for path in _labels_below(self._labels):
            yield self._entry(path, pictures.pop(self._name(path).removesuffix(ENDING), None))
        for path in pictures.values():
            if (found := labelled.seen(path, self._name(path))) is not None:
                yield labelled.entry(found, ())

    def _written(self) -> Iterator[BoxEntry]:
        """Of pictures that `write` listed."""
        with (self._root / PICTURES_FILE).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                about = parse(line, _Written, where=f"{self._root / PICTURES_FILE}:{number}")
                objects = list(self._objects(self._root / LABELS / labelled.plain_name(about.labels)))
                scores = about.scores if len(about.scores) == len(objects) else [one.score for one in objects]
                scored = [one._replace(score=score) for one, score in zip(objects, scores, strict=True)]
                yield labelled.entry(Picture(about.image, about.width, about.height, about.sha256), scored)

    def _beside(self) -> Iterator[Path]:
        listed = named_below(self._pictures, "*") if self._pictures.is_dir() else ()
        return (path for path in listed if path.suffix[1:].lower() in PICTURE_EXTENSIONS)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _entry(self, path: Path, beside: Path | None) -> BoxEntry:
        """Of one picture's labels."""
        picture = Picture(_swapped(self._name(path).removesuffix(ENDING), LABELS, IMAGES))
        if beside is not None:
            picture = labelled.seen(beside, self._name(beside)) or picture
        return labelled.entry(picture, self._objects(path))

    def _objects(self, path: Path) -> Iterator[Labelled]:
        """A line an object: its class, then a box (with a score behind it, or not) or the points of a polygon."""
        names = self._names_of(path.parent)
        for number, line in enumerate(_lines(path)):
            if not _LINE.fullmatch(line):
                self._left_out.add("lines of labels that are no boxes", f"{path}:{number + 1}")
                continue
            first, *values = map(float, line.split())
            score = values[4] if len(values) == 5 else 1.0
            if len(values) > 5:
                corners = labelled.around(list(zip(values[::2], values[1::2], strict=False)))
                values = list(Coordinates(self._kind).numbers(corners))
            x, y, width, height = values[:4]
            label = names.get(int(first), str(int(first)))
            yield Labelled(label, (x, y, width, height), score)


def _places(given: Path) -> tuple[Path, Path, Path]:
    """The folder that names start from, the labels below it, and where their pictures would be."""
    parts = given.parts
    places = [place for place, part in enumerate(parts) if part == LABELS]
    if not places:
        return (given.parent, given, _picture_of(given)) if given.is_file() else (given, given, given)
    root, rest = Path(*parts[: places[-1]]), Path(*parts[places[-1] + 1 :])
    beside = root / IMAGES / rest
    return root, given, _picture_of(beside) if given.is_file() else beside


def _picture_of(labels: Path) -> Path:
    """The picture called as a file of labels, in the folder that this names."""
    names = (labels.with_suffix(f".{extension}") for extension in sorted(PICTURE_EXTENSIONS))
    return next((path for path in names if path.is_file()), labels)


def _swapped(name: str, folder: str, other: str) -> str:
    """A name with the last folder of one name called by the other."""
    parts = name.split("/")
    places = [place for place, part in enumerate(parts[:-1]) if part == folder]
    return "/".join([*parts[: places[-1]], other, *parts[places[-1] + 1 :]]) if places else name


def _lines(path: Path) -> list[str]:
    text = read_regular(path, labelled.MOST_BYTES).decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _names_of(folder: Path) -> Mapping[int, str]:
    """The classes' names of the nearest file of them, beside the labels or some folders above."""
    for place in (folder, *islice(folder.absolute().parents, _LEVELS_UP)):
        for path in sorted(place.glob("*.y*ml")):
            if names := _names_in(path):
                return names
        for path in (place / name for name in _NAMES_FILES):
            if path.is_file():
                return dict(enumerate(_lines(path)))
    return {}


def _names_in(path: Path, *, may_fail: bool = False) -> Mapping[int, str]:
    """Names by class that a YAML file gives as a list or by number; none where it is another one.

    Raises:
        InputError: a file that cannot be read, where it `may_fail`.
    """
    import yaml

    try:
        found = yaml.safe_load(read_regular(path, _MOST_NAMES_BYTES))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        if may_fail:
            raise InputError(f"{path}: not readable as YAML: {str(error).splitlines()[0]}") from error
        return {}
    names = found.get("names") if isinstance(found, Mapping) else None
    if isinstance(names, Mapping):
        return {int(key): str(name) for key, name in names.items() if str(key).isdecimal()}
    return dict(enumerate(map(str, names))) if isinstance(names, list) else {}


def write(folder: Path, records: Records, pairs: Pairs) -> None:
    """Labels of five columns, which every reader takes, the YAML, and what labels do not say in a file beside them."""
    classes = {name: number for number, name in enumerate(sorted({n for r in records() for n in r.labels or ()}))}
    used = set[str]()
    with atomic_folder(folder / LABELS) as labels, atomic_file(folder / PICTURES_FILE) as listed:
        for record in records():
            name = labelled.written_name(record.image, ENDING, used)
            (labels / name).parent.mkdir(parents=True, exist_ok=True)
            lines = (_line(record, row, classes) for row in range(len(record.boxes or ())))
            (labels / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            size = (record.width, record.height)
            listed.write(dumps(_Written(name, record.image, record.sha256, *size, record.scores or ())) + b"\n")
    import yaml

    with atomic_file(folder / DATA_FILE) as file:
        names = {number: name for name, number in classes.items()}
        file.write(yaml.safe_dump({"path": ".", "names": names}, allow_unicode=True, sort_keys=False).encode())


def _line(record: BoxRecord, row: int, classes: Mapping[str, int]) -> str:
    found = record.detections
    numbers = COORDINATES.numbers(found.boxes[row], record.width, record.height)
    return " ".join([str(classes[found.labels[row]]), *map(repr, numbers)])


FORMAT = BoxFormat(
    recognises=recognises,
    in_folder=in_folder,
    read=read,
    files=(DATA_FILE, PICTURES_FILE),
    folders=(LABELS,),
    write=write,
    coordinates=COORDINATES,
    by_name=True,
    has_videos=False,
)
