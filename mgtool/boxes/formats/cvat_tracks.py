"""CVAT for video: an element a track, whose shapes say on which frame they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from mgtool.boxes.formats.xml_elements import elements, text_of
from mgtool.errors import InputError

_FRAME_NAME = "frame_{:06d}"
"""As CVAT names a video's frames where it gives them out."""
_MOST_FRAMES = 1 << 24
_STEP = "step="


class Frames(NamedTuple):
    """The frames of a task, by their numbers in the video, and their size in pixels; 0 where that is not said."""

    numbers: range
    width: str = ""
    height: str = ""


def frames_of(path: Path) -> Frames:
    """The frames of the one video that a file is of.

    Raises:
        InputError: tracks over pictures, whose names are not in the file, or of several videos.
    """
    tasks = [*elements(path, "task")] or [*elements(path, "job")]
    if len(tasks) > 1:
        raise InputError(f"{path}: CVAT's tracks of {len(tasks)} tasks, whose frames have the same names: export each")
    if not tasks or text_of(tasks[0], "mode") != "interpolation":
        why = "CVAT's tracks of a video or over pictures, without the names of these"
        raise InputError(f"{path}: {why}; export as `CVAT for images` or as COCO")
    size = next(elements(path, "original_size"), Element("original_size"))
    return Frames(_numbers(tasks[0]), text_of(size, "width"), text_of(size, "height"))


def _numbers(task: Element) -> range:
    """The frames that were looked at, with or without objects; none where the file does not say."""
    chosen = text_of(task, "frame_filter").removeprefix(_STEP)
    begin, end = text_of(task, "start_frame"), text_of(task, "stop_frame")
    if not (begin.isdecimal() and end.isdecimal() and (chosen or "1").isdecimal()):
        return range(0)
    step = int(chosen or 1)
    return range(int(begin), int(end) + 1, step) if step and int(end) < _MOST_FRAMES else range(0)


def shapes(path: Path) -> Iterator[tuple[int, str, Element]]:
    """Number of the frame, label and element of each shape; where an object is out of sight, there is none."""
    for track in elements(path, "track"):
        for shape in track:
            number = shape.get("frame", "")
            if number.isdecimal() and int(number) < _MOST_FRAMES and shape.get("outside") != "1":
                yield int(number), track.get("label", ""), shape


def name_of(number: int) -> str:
    """The name of a frame, without ending."""
    return _FRAME_NAME.format(number)


def files_of(name: str) -> list[str]:
    """How the frame's file may be called beside the annotations."""
    return [f"{name}.{ending}" for ending in ("PNG", "png", "jpg", "jpeg")]
