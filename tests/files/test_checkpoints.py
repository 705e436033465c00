"""Checkpoints that torch's own reader crashes on, or takes hours for, and what libraries raise of broken files."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from mgtool.errors import CheckpointError, UsageError
from mgtool.files.checkpoints import check, check_folder, explained
from mgtool.importing import weights


def _saved(*, new: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3), "b": torch.ones(2)}, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


@pytest.mark.parametrize("new", [True, False])
def test_whole_checkpoints(new: bool, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(_saved(new=new))
    check_folder(tmp_path)
    assert set(weights.file_entries(tmp_path / "x.pth")) == {"a", "b"}


def test_a_long_name_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(_saved(new=False).replace(b"_rebuild_tensor_v2", b"_rebuild" + b"a" * 70_000))
    with pytest.raises(CheckpointError, match="a name of 70,0"):
        weights.file_entries(tmp_path / "x.pth")


def _changed(data: bytes, member: str, content: bytes, **packed: int) -> bytes:
    """An archive one of whose members is another one."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            is_it = info.filename.endswith(member)
            new.writestr(info.filename, content if is_it else old.read(info), **(packed if is_it else {}))
    return file.getvalue()


@pytest.mark.parametrize("alignment", [b"0", b"", b"-1", b"x", b"9" * 30])
def test_what_torch_divides_by(alignment: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(_changed(_saved(new=True), ".storage_alignment", alignment))
    with pytest.raises(CheckpointError, match="an alignment that is no number"):
        weights.file_entries(tmp_path / "x.pth")


def test_a_pickle_that_unpacks_to_more_than_its_file(tmp_path: Path) -> None:
    bomb = pickle.dumps("a" * 10_000_000)
    data = _changed(_saved(new=True), "data.pkl", bomb, compress_type=zipfile.ZIP_DEFLATED)
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"of data\.pkl in a file of"):
        check(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "error", [TypeError("odd"), Exception("odd"), type("PanicException", (BaseException,), {})("odd")]
)
def test_whatever_a_library_raises(error: BaseException) -> None:
    with pytest.raises(CheckpointError, match="x cannot be read: odd"), explained("x cannot be read"):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), UsageError("out", "no")])
def test_what_says_something_else(error: BaseException) -> None:
    with pytest.raises(type(error)), explained("x cannot be read"):
        raise error


def test_a_text_that_is_larger_than_memory(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"\x80\x05\x96" + (1 << 60).to_bytes(8, "little") + b"x.")
    with pytest.raises(CheckpointError, match="is not a whole checkpoint"):
        check(tmp_path / "x.pth")
