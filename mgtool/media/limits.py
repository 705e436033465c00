"""What is read at most."""

from __future__ import annotations

MAX_PICTURE_BYTES = 1 << 30
"""Largest file of a picture that is read."""

MAX_VIDEO_BYTES = 1 << 32
"""Largest file of a video that is read."""

MAX_PIXELS = 178_956_970
"""Largest picture that is decoded, in pixels (Pillow's own limit for a decompression bomb)."""
