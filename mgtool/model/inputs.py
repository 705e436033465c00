"""What callers of a processor give for a picture, and the batch that they get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_utils import load_image

from mgtool.media import images, reading, videos
from mgtool.media.names import is_video_name
from mgtool.records import Detections, Media

_CHANNELS = (1, 3, 4)


class PlacedPicture(NamedTuple):
    """A picture and its boxes in the model frame.

    Attributes:
        pixels: (3, S, S) float32, RGB, normalised.
        boxes: (n, 4) float32 xyxy, n >= 1.
        labels: names of the boxes; empty where one box (0, 0, 0, 0) stands in for none.
        kept: places of the boxes among those of the detector.
    """

    pixels: torch.Tensor
    boxes: torch.Tensor
    labels: tuple[str, ...]
    kept: tuple[int, ...] = ()


class Batch(BatchFeature):
    """A batch whose boxes stay what they are: half precision has no number for every pixel of the model frame."""

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """As of transformers, but boxes change their device alone."""
        boxes = self.data.get("boxes")
        super().to(*args, **kwargs)
        if isinstance(boxes, torch.Tensor):
            self["boxes"] = boxes.to(self["boxes"].device, non_blocking=bool(kwargs.get("non_blocking")))
        return self


def as_picture(given: Any) -> Image.Image:
    """An RGB picture of what users of transformers give: PIL, a path, a URL, an array or a tensor.

    Raises:
        ItemError: a file that is not there, or no whole picture.
        ValueError: an array that is no picture.
    """
    if isinstance(given, str) and given.startswith(("http://", "https://", "data:image/")):
        return load_image(given)
    if isinstance(given, str | Path):
        return images.decode(reading.read_bytes(Media(name=str(given), uri=str(given))))
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    return _of_array(given) if isinstance(given, np.ndarray) else given


def _of_array(array: Any) -> Image.Image:
    """Of (H, W, channels), (channels, H, W) or (H, W); 8 bits, or numbers from 0 to 1."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[-1] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[-1] not in _CHANNELS:
        raise ValueError(f"an array of {array.shape} is no picture: expected (H, W, 3) or (3, H, W)")
    if np.issubdtype(array.dtype, np.floating):
        array = (array * 255).round() if array.max(initial=0) <= 1 else array.round()
    levels = np.ascontiguousarray(array.clip(0, 255).astype(np.uint8))
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).convert("RGB")


def flatten(nested: Any) -> list[Any]:
    """Pictures or detections out of nested lists; a stack of pictures, (N, H, W, 3), is N of them."""
    if nested is None:
        return []
    if isinstance(nested, (list, tuple)) and not isinstance(nested, Detections):
        return [leaf for entry in nested for leaf in (flatten(entry) if entry is not None else [None])]
    return list(nested) if getattr(nested, "ndim", 0) == 4 else [nested]


def as_films(given: Any, frames: int | None = None) -> list[list[Any]]:
    """The frames of each video, whatever holds them.

    Args:
        given: a video or nested lists of videos; one is a path, an array or tensor (F, H, W, 3) or (F, 3, H, W), or a
            list of frames.
        frames: to take of each, evenly; None for all that are given, and for the published number of a file's.

    Raises:
        ItemError: a file that is not there, or no whole video.
    """
    return [_frames(film, frames) for film in _films(given)]


def _films(given: Any) -> Iterator[Any]:
    if given is None:
        return
    if _is_film(given):
        yield given
        return
    for part in given:
        yield from _films(part)


def _is_film(given: Any) -> bool:
    if isinstance(given, str | Path):
        return True
    if hasattr(given, "ndim"):
        return bool(given.ndim == 4)
    return bool(given) and all(map(_is_frame, given))


def _is_frame(given: Any) -> bool:
    if isinstance(given, str | Path):
        return not is_video_name(str(given))
    return isinstance(given, Image.Image) or 2 <= getattr(given, "ndim", 0) <= 3


def _frames(film: Any, count: int | None) -> list[Any]:
    if isinstance(film, str | Path):
        data = reading.read_bytes(Media(name=str(film), uri=str(film)))
        return [frame.picture for frame in videos.decode_frames(data, count or videos.FRAMES)]
    found = list(film)
    return found if count is None else [found[at] for at in videos.frame_indices(len(found), count)]


def normalized_levels(mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """(3, 256) float32: what each 8-bit level of each channel is after normalising; a picture is looked up in it."""
    levels = (np.arange(256) / 255).astype(np.float32)
    return (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
