"""Nothing of a stranger's is unpickled, and nobody's credentials are written down or shown."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import mgtool
from mgtool.commands.console import printable
from mgtool.errors import ItemError, MgtoolError, UsageError
from mgtool.importing import weights
from mgtool.records import Failure
from mgtool.runs.run_file import Run
from mgtool.tars.box_parts import read_boxes

SOURCE = Path(mgtool.__file__).parent
UNPICKLING = {
    "packing/spool.py": "a file that the same run has written",
    "benchmarks/refcoco.py": "plain data: a pickle that names anything is refused",
}
"""What loads pickles, and of which kind."""
TRUSTING = {"detectors/mmdetection.py": "not trust"}
"""What loads checkpoints otherwise than by their weights alone, and where: what the user trusts."""
URL = "https://me:word@a.org/x.tar?part=1&token=hidden&X-Amz-Signature=hidden"


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path.relative_to(SOURCE).as_posix(), ast.unparse(node.func), node


def test_no_code_loads_a_pickle() -> None:
    for name, called, call in _calls():
        options = {option.arg: ast.unparse(option.value) for option in call.keywords}
        if called in ("pickle.load", "pickle.loads", "pickle.Unpickler") or called.endswith("Unpickler"):
            assert name in UNPICKLING, name
        if called == "torch.load":
            assert options.get("weights_only") in ("True", TRUSTING.get(name)), name
        assert options.get("allow_pickle", "False") == "False", name
        assert options.get("trust_remote_code", "False") == "False", name
        if _may_load_code(called):  # which transformers asks about on stdin where it is not told
            assert options.get("trust_remote_code") == "False", (name, called)
        assert called.partition(".")[0] not in ("joblib", "dill", "cloudpickle", "shelve", "marshal"), name


def _may_load_code(called: str) -> bool:
    """Whether the class that loads is chosen by what the folder says."""
    base, _, method = called.rpartition(".")
    if method not in ("from_pretrained", "from_config") or base == "super()":
        return False
    return base.startswith(("Auto", "_auto")) or not base[:1].isupper()


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return Path.touch, (self.target,)


def test_no_pickle_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    for new in (True, False):
        torch.save({"a": torch.zeros(1), "b": Payload(target)}, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
        with pytest.raises(MgtoolError):
            weights.file_entries(tmp_path / "x.pth")
    (tmp_path / "x.bin").write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(MgtoolError):
        weights.file_entries(tmp_path / "x.bin")
    np.save(tmp_path / "x.npy", np.array([[Payload(target)] * 4], dtype=object))
    with pytest.raises(ItemError, match="bad_boxes"):
        read_boxes((tmp_path / "x.npy").read_bytes(), "x")
    assert not target.exists()


def test_credentials_of_urls_are_neither_shown_nor_written(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.json", command="detect", options={"images": URL}, inputs={"inputs": [URL]})
    run.begin()
    error = ItemError("unreadable", f"{URL}: gone")
    told = [
        str(MgtoolError(f"{URL}: gone")), str(UsageError("images", URL)), UsageError("images", URL).detail, str(error),
        Failure.of("x", "read", error).detail, printable(f"next: --images {URL}"), (tmp_path / "run.json").read_text(),
    ]  # fmt: skip
    for text in told:
        assert "a.org/x.tar?part=1" in text
        assert "word" not in text
        assert "hidden" not in text
    assert pickle.loads(pickle.dumps(error)).detail == error.detail
