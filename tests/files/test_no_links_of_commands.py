"""Links in place of any file that a command leaves in its output: nothing that they name is written, cut or made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_inputs import write_small_inputs
from tiny_models import KIT, parts_in

import mgtool
from mgtool.errors import MgtoolError, OutputError
from mgtool.inference.answer_cache import AnswerCache
from mgtool.tars import other_readers

TINY = Path(mgtool.__file__).parent / "model" / "tiny"
CONTENT = b'{"position": 0}\n{"position": 1'
HIDDEN = {
    "pack": [".mgtool.lock", "train-000000.tar", "failures.jsonl"],
    "eval": [".mgtool.lock", "failures.jsonl", "report", "judge.jsonl"],
    "infer": ["a.jsonl.partial", ".a.jsonl.failures", ".a.jsonl.lock", "a.failures.jsonl", "failures.jsonl"],
    "train": [".train.failures.jsonl", ".model.writing", "checkpoints", "failures.jsonl"],
    "unpack": [".mgtool.lock"],
    "import": [".mgtool.lock"],
    "table": ["01-m", "01-m/custom", "01-m/custom/scores", "01-m/custom/scores/run.json"],
}
"""What stands in an output while a run is not at its end, or only sometimes."""

Run = Callable[[Path], object]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Each command, into a folder, over small inputs."""
    given = tmp_path_factory.mktemp("given")
    write_small_inputs(given)
    photos = str(given / "photos")
    tars = given / "tars"
    source = mgtool.Source(str(given / "c.json"), images=photos)
    mgtool.pack([source], tars, mgtool.PackOptions(workers=1))
    asked = mgtool.InferOptions(model=TINY, images=photos, max_new_tokens=1, workers=0)
    learns = mgtool.TrainOptions(model=TINY, max_steps=1, device="cpu")
    scores = mgtool.EvalOptions("custom", ground_truth=[given / "truth.jsonl"])
    return {
        "pack": lambda out: mgtool.pack([source], out, mgtool.PackOptions(workers=1)),
        "unpack": lambda out: mgtool.unpack(str(tars), out, overwrite=True),
        "import": lambda out: mgtool.import_model(parts_in(KIT, template="vicuna"), out),
        "infer": lambda out: mgtool.infer([str(given / "q.jsonl")], out / "a.jsonl", asked),
        "eval": lambda out: mgtool.evaluate(str(given / "answers.jsonl"), scores, out),
        "train": lambda out: mgtool.train([str(tars)], out, learns),
        "table": lambda out: mgtool.table(given / "t.toml", out),
    }


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("*")}


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.slow] if name == "train" else []) for name in HIDDEN]
)
def test_a_link_in_place_of_any_file(command: str, runs: dict[str, Run], tmp_path: Path) -> None:
    runs[command](tmp_path / "whole")
    for name in sorted(_names(tmp_path / "whole") | set(HIDDEN[command])):
        is_folder = (tmp_path / "whole" / name).is_dir() or "." not in name.lstrip(".")
        _try(runs[command], tmp_path / "there" / name, name, is_folder=is_folder, is_there=True)
        _try(runs[command], tmp_path / "absent" / name, name, is_folder=is_folder, is_there=False)


def _try(run: Run, place: Path, name: str, *, is_folder: bool, is_there: bool) -> None:
    precious, out = place / "precious", place / "out"
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    if is_there:
        precious.mkdir() if is_folder else precious.write_bytes(CONTENT)
    (out / name).symlink_to(precious)
    with contextlib.suppress(MgtoolError):
        run(out)
    if is_there and is_folder:
        assert list(precious.iterdir()) == []
    else:
        assert (precious.read_bytes() if precious.exists() else b"") == (CONTENT if is_there else b"")


@pytest.mark.parametrize("end", ["", "-journal", "-wal", "-shm"])
def test_the_cache_of_answers(end: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"answers.sqlite{end}").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="a link, which is not followed"):
        AnswerCache(tmp_path / "cache", {}, by_id=False)
    assert not (tmp_path / "precious").exists()
    (tmp_path / "own").symlink_to(tmp_path / "large disk")
    (tmp_path / "large disk").mkdir()
    AnswerCache(tmp_path / "own", {}, by_id=False).close()
    assert (tmp_path / "large disk" / "answers.sqlite").is_file()


def test_what_other_programs_are_asked_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_readers, "require_energon", lambda: None)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / other_readers.ENERGON_FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="a link"):
        other_readers.prepare_energon(tmp_path)


def test_copies_of_what_a_store_holds(tmp_path: Path) -> None:
    from mgtool.files.store import Store
    from mgtool.runs.remote_output import _hollow

    pytest.importorskip("obstore")
    from obstore.store import MemoryStore

    store: Any = Store.__new__(Store)
    store.url, store._has_answered, store._store = "s3://b", True, MemoryStore()
    store.put("x", b"new")
    (tmp_path / "precious").write_bytes(CONTENT)
    (tmp_path / "x").symlink_to(tmp_path / "precious")
    with pytest.raises(MgtoolError, match="a link"):
        store.fetch("x", tmp_path / "x")
    with pytest.raises(OSError, match="a link"):
        _hollow(tmp_path / "x", 5)
    assert (tmp_path / "precious").read_bytes() == CONTENT
