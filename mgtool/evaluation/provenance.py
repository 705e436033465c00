"""What a score is of: the model, how it was asked, and by what it was scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mgtool.errors import RecordError
from mgtool.records import parse
from mgtool.runs.run_file import RUN_FILE
from mgtool.scoring.prediction_file import Prediction, models_in

_ASKED = ("task", "prompt", "system", "choices", "yes_no")
_DECODED = ("max_new_tokens", "dtype", "quantize", "truncate")
_MOST_MODELS = 20
_LONGEST_PROMPT = 80


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What a score is of; empty where neither the answers nor the record of their run say it.

    Attributes:
        models: names of the models that answered, or of the detector.
        model_path: where the model was.
        model_sha256: of its configuration and weights.
        answers: the answers' file or folder.
        ground_truth: the official files.
        split: of the benchmark.
        prompt: how the questions were put; without a record the first prompt.
        decoding: how the answers were decoded.
        judge: the model that judged the answers, where one did.
        mgtool: the version that scored.
        date: of the evaluation's start, UTC.
    """

    models: list[str] = []
    model_path: str = ""
    model_sha256: str = ""
    answers: str = ""
    ground_truth: list[str] = []
    split: str = ""
    prompt: str = ""
    decoding: dict[str, Any] = {}
    judge: str = ""
    mgtool: str = ""
    date: str = ""

    @property
    def line(self) -> str:
        """All that is known, as a table's caption has room for it."""
        names = ", ".join(self.models) or "model unknown"
        sha = f" ({self.model_sha256[:12]})" if self.model_sha256 else ""
        told = {"split": self.split, "prompt": _shortened(self.prompt), "decoding": self._decoding}
        known = "".join(f"; {name} {text}" for name, text in {**told, "judge": self.judge}.items() if text)
        return f"{names}{sha}; {self.answers}; mgtool {self.mgtool}, {self.date}{known}"

    @property
    def _decoding(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.decoding.items())

    @property
    def facts(self) -> dict[str, str]:
        """What is known, for reading."""
        names = ", ".join(self.models)
        sha = f"{names} (sha256 {self.model_sha256[:16]})" if self.model_sha256 else names
        known = {
            "model": sha.strip() or "not named in the answers",
            "answers": self.answers,
            "ground truth": ", ".join(self.ground_truth),
            "split": self.split or "all",
            "prompt": self.prompt,
            "decoding": self._decoding,
            "judge": self.judge,
            "scored by": f"mgtool {self.mgtool}, {self.date}",
        }
        return {name: text for name, text in known.items() if text}


def _shortened(text: str) -> str:
    """A text on one line, cut where it is long.

    >>> _shortened("as in:  a\\n b")
    'as in: a b'
    """
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_PROMPT else f"{line[: _LONGEST_PROMPT - 3]}..."


def provenance(
    source: str,
    predictions: Sequence[Prediction],
    *,
    ground_truth: Iterable[Path],
    split: str,
    judge: str = "",
    versions: Mapping[str, str],
    date: str,
) -> Provenance:
    """What the answers and the record of their run say.

    Args:
        source: the answers' file or folder, ``-`` for stdin.
        predictions: the answers.
        ground_truth: the official files.
        split: the one that was asked for.
        judge: the model that judged, where one did.
        versions: of what scores.
        date: of the evaluation.
    """
    record = _record(source)
    model, options = record.get("model") or {}, record.get("options") or {}
    path = str(model.get("path") or "")
    return Provenance(
        models=_models(predictions, record.get("detector"), path),
        model_path=path,
        model_sha256=str(model.get("sha256") or ""),
        answers=Path(source).name or source,
        ground_truth=[path.name for path in ground_truth],
        split=split,
        prompt=_prompt(options, predictions),
        decoding={name: options[name] for name in _DECODED if options.get(name)} | _mapping(options.get("decoding")),
        judge=judge,
        mgtool=versions.get("mgtool", ""),
        date=date,
    )


def _models(predictions: Sequence[Prediction], detector: Any, path: str) -> list[str]:
    """Names of what answered: those in the answers, or the detector's, or that of the model's folder."""
    names = models_in(predictions, _MOST_MODELS)
    return names or ([detector] if isinstance(detector, str) else []) or ([Path(path).name] if path else [])


def _prompt(options: Mapping[str, Any], predictions: Iterable[Prediction]) -> str:
    """What was asked with, as far as the run says; else an example."""
    asked = ", ".join(f"{name} {options[name]}" for name in _ASKED if options.get(name))
    example = next((p.prompt for p in predictions if p.prompt), "")
    return asked or (f"as in: {example}" if example else "")


def _record(source: str) -> dict[str, Any]:
    """The record of the run that wrote the answers; empty where none lies beside them."""
    path = Path(source)
    if path.is_dir():
        candidates = [path / RUN_FILE]
    else:
        candidates = [path.with_name(f"{path.stem}.{RUN_FILE}"), path.with_name(RUN_FILE)]
    for place in candidates if source != "-" else ():
        if not place.is_file():
            continue
        try:
            record = parse(place.read_bytes(), dict[str, Any], where=str(place))
        except (RecordError, OSError):
            continue
        out = _mapping(record.get("options")).get("out")
        if record.get("command") in ("infer", "detect") and (out in (None, path.name)):
            return {**record, "options": _mapping(record.get("options")), "model": _mapping(record.get("model"))}
    return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
