"""What is asked of the linter of tars."""

from __future__ import annotations

from typing import Literal

PictureCheck = Literal["structure", "decode"]
"""Whether a picture that is the one its JSON describes is looked at by its structure; all others are decoded."""
Readers = Literal["sample", "all", "none"]
"""What other programs read: the first samples of some tars, everything, or nothing."""

SAMPLE_TARS, SAMPLE_SAMPLES = 3, 64
"""How many tars of a set, and how many samples of each, stand for all of it."""
READERS_READ = {
    "sample": f"the first {SAMPLE_SAMPLES} samples of {SAMPLE_TARS} tars at most",
    "all": "everything",
    "none": "nothing",
}
"""What `Readers` mean, for people."""
