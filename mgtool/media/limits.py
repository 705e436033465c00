"""What is read at most."""

from __future__ import annotations

MAX_PIXELS = 178_956_970
"""Largest picture that is decoded, in pixels (Pillow's own limit for a decompression bomb)."""
