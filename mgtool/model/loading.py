"""How weights meet the model: what is refused, what quantisation spares."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mgtool.errors import CheckpointError

UNQUANTIZED = ("low_tower", "high_tower", "fusion", "projector", "box_projector", "lm_head", "language_model.lm_head")
"""Modules that quantisation leaves alone: the towers are small, frozen and feed everything else."""

_SHOWN = 10


@contextlib.contextmanager
def no_load_report() -> Iterator[None]:
    """Keep transformers' table of misfits off stderr: they are refused in one line."""
    logger = logging.getLogger("transformers.modeling_utils")

    def is_wanted(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


def spare_from_quantization(config: Any) -> None:
    """Quantise the language model alone, and not its head, unless the user names what to spare."""
    for field in ("llm_int8_skip_modules", "modules_to_not_convert"):
        if hasattr(config, field) and getattr(config, field) is None:
            setattr(config, field, list(UNQUANTIZED))


def refuse_misfits(where: str, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[Any]) -> None:
    """Raise where weights and model do not fit each other exactly.

    Args:
        where: the weights' place, for the message.
        missing: keys that the model needs.
        unexpected: keys that the model has no place for.
        mismatched: keys of another shape, or tuples that begin with the key.

    Raises:
        CheckpointError: with the numbers and the first keys of each kind.
    """
    wrong = sorted(entry if isinstance(entry, str) else str(entry[0]) for entry in mismatched)
    kinds = {"missing": sorted(missing), "unexpected": sorted(unexpected), "of another shape": wrong}
    found = [f"{len(keys)} {kind} ({_shown(keys)})" for kind, keys in kinds.items() if keys]
    if found:
        raise CheckpointError(f"{where}: the weights do not fit the model: {'; '.join(found)}")


def _shown(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
