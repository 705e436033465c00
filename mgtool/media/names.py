"""File name endings of pictures and videos."""

from __future__ import annotations

import posixpath

PICTURE_EXTENSIONS = frozenset(
    {
        "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "bmp", "dib", "gif", "tif", "tiff",
        "ppm", "pgm", "pbm", "pnm", "jp2", "avif", "heic", "heif",
    }
)  # fmt: skip
VIDEO_EXTENSIONS = frozenset({"mp4", "avi", "mkv", "mov", "webm", "m4v", "mpg", "mpeg", "wmv", "flv"})
MEDIA_SUFFIXES = frozenset(f".{extension}" for extension in PICTURE_EXTENSIONS | VIDEO_EXTENSIONS)
"""What names of files end in, in lower case, that count as pictures and videos in a folder."""


def is_video_name(name: str) -> bool:
    """Whether a file's name ends as a video's does.

    >>> is_video_name("clips/a.MP4"), is_video_name("a.mp4.jpg"), is_video_name("mp4")
    (True, False, False)
    """
    return posixpath.splitext(name)[1][1:].lower() in VIDEO_EXTENSIONS
