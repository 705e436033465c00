"""How numbered shards are called, and which splits their names speak of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

UNSPLIT = "shard"
"""What tars without splits are called."""


def shard_name(prefix: str, index: int, suffix: str) -> str:
    """The name of a shard.

    >>> shard_name("boxes", 7, ".jsonl")
    'boxes-000007.jsonl'
    """
    return f"{prefix}-{index:06d}{suffix}"


def tar_splits(tars: Iterable[str]) -> list[tuple[str, str]]:
    """The splits that tars are of by their names, each with what these begin with; without splits all are for training.

    >>> tar_splits(["train-000000.tar", "train-000001.tar", "val-000000.tar"])
    [('train', 'train'), ('val', 'val')]
    >>> tar_splits([shard_name(UNSPLIT, 0, ".tar")])
    [('train', 'shard')]
    """
    names = dict.fromkeys(tar.partition("-")[0] for tar in tars)
    return [("train" if name == UNSPLIT else name, name) for name in names]


def list_shards(folder: Path, prefix: str, suffix: str) -> list[Path]:
    """The shards of a folder in their order."""
    pattern = re.compile(re.escape(prefix) + r"-\d{6,}" + re.escape(suffix))
    return sorted(path for path in folder.glob(f"{prefix}-*{suffix}") if pattern.fullmatch(path.name))
