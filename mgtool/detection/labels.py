"""Labels that are asked for and that no box can have."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mgtool.boxes.thresholds import LabelThresholds
from mgtool.detection.known_boxes import KnownBoxes
from mgtool.detection.options import DetectOptions
from mgtool.detectors import vocabulary
from mgtool.detectors.base import Detector, Tagger
from mgtool.errors import UsageError, nearest


def refuse_unknown(
    options: DetectOptions, detector: Detector | None, tagger: Tagger | None, known: KnownBoxes | None
) -> None:
    """Refuse labels to keep or drop that neither the detector nor the boxes that are known have.

    Raises:
        UsageError: naming the first, with the one that is spelt most alike.
    """
    labels = _labels(detector, tagger)
    if labels is None:
        return
    for option, word, alike in _strange(options, {*labels, *(known.labels if known is not None else ())}):
        raise UsageError(option, f"{word}: no label of `detector` {options.detector}{alike}")


def note_unknown(options: DetectOptions, known: KnownBoxes) -> None:
    """Count labels to keep or drop that no box of a file has; its other pictures might have had them."""
    for option, word, alike in _strange(options, known.labels):
        known.note(f"labels of `{option}` that no box has", f"{word}{alike}")


def _labels(detector: Detector | None, tagger: Tagger | None) -> Collection[str] | None:
    """All that boxes can be called; None where this is not known."""
    own: Collection[str] | None = getattr(detector, "labels", None)
    return getattr(tagger, "tags", None) if own is None else own


def _strange(options: DetectOptions, labels: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Option, word and hint of each that is no label; a shipped list is taken for what it has in common with them."""
    names = set(map(str.casefold, labels))
    for option in ("keep", "drop"):
        spec = getattr(options, option)
        if spec and spec.lower() not in vocabulary.SHIPPED:
            for word in vocabulary.read(spec, option=option):
                if word.casefold() not in names:
                    yield option, word, nearest(word, labels)
    if isinstance(options.threshold, LabelThresholds):
        strange = (word for word in options.threshold.by_label if word not in names)
        yield from (("threshold", word, nearest(word, labels)) for word in strange)
