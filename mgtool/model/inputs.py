"""What callers of a processor give for a picture, and the batch that they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_utils import load_image

from mgtool.media import images, reading
from mgtool.records import Media

_CHANNELS = (1, 3, 4)


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
