"""Members of tars: the same as Python's own tarfile reads, and never more than an error from broken ones."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgtool.errors import InputError, ItemError
from mgtool.tars.members import MAX_MEMBER_BYTES, read_members
from mgtool.tars.paths import expand, find

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=150)
MEMBERS = st.lists(st.tuples(NAMES, st.binary(max_size=1200)), max_size=5)


def make(members: list[tuple[str, bytes]], form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(f"d/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(deadline=None, max_examples=60)
@given(members=MEMBERS)
def test_members_are_those_of_tarfile(form: int, members: list[tuple[str, bytes]]) -> None:
    data = make(members, form)
    ours = [(member.name, member.data) for member in read_members(io.BytesIO(data))]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert ours == [(info.name, tar.extractfile(info).read()) for info in tar]


def test_offsets_let_a_member_be_read_alone() -> None:
    data = make([("a", b"x" * 700), ("n" * 140, b"y"), ("c", b"")], tarfile.GNU_FORMAT)
    for member in read_members(io.BytesIO(data)):
        alone = data[member.offset : member.end] + bytes(1024)
        (again,) = read_members(io.BytesIO(alone), offset=member.offset)
        assert again == member


def test_skipped_members_are_there_without_their_bytes() -> None:
    data = make([("a.jpg", b"x" * 700), ("a.json", b"{}")], tarfile.USTAR_FORMAT)
    whole = list(read_members(io.BytesIO(data)))
    skipping = list(read_members(io.BytesIO(data), skip=lambda name: name.endswith(".jpg")))
    assert skipping == [whole[0]._replace(data=b""), whole[1]]
    with pytest.raises(ItemError, match="truncated"):
        list(read_members(io.BytesIO(data[:1000]), skip=lambda name: True))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_cut_anywhere_is_truncated(form: int) -> None:
    data = make([("a", b"x" * 700), ("n" * 90, b"y" * 512)], form).rstrip(b"\0")
    for length in range(512, len(data), 128):
        with pytest.raises(ItemError) as caught:
            list(read_members(io.BytesIO(data[:length])))
        assert caught.value.reason == "truncated"


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, 4095), value=st.integers(0, 255))
def test_any_wrong_byte_costs_an_error_at_most(at: int, value: int) -> None:
    data = bytearray(make([("a", b"x" * 700), ("n" * 140, b"y")], tarfile.GNU_FORMAT)[:4096])
    data[at] = value
    try:
        members = list(read_members(io.BytesIO(bytes(data))))
    except ItemError:
        return
    assert sum(len(member.data) for member in members) <= len(data)


def test_links_and_devices_are_told_and_hold_nothing() -> None:
    kinds = {
        tarfile.SYMTYPE: "symbolic link",
        tarfile.LNKTYPE: "hard link",
        tarfile.CHRTYPE: "device",
        tarfile.FIFOTYPE: "pipe",
        tarfile.DIRTYPE: "folder",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind in kinds:
            info = tarfile.TarInfo("../x")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    found = list(read_members(io.BytesIO(buffer.getvalue())))
    assert [(member.kind, member.data) for member in found] == [(kind, b"") for kind in kinds.values()]


def test_a_false_size_reserves_no_memory() -> None:
    info = tarfile.TarInfo("huge.jpg")
    for size, reason in ((MAX_MEMBER_BYTES, "truncated"), (MAX_MEMBER_BYTES + 1, "unreadable")):
        info.size = size
        with pytest.raises(ItemError) as caught:
            list(read_members(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + b"few bytes")))
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("form", "length"), [(tarfile.USTAR_FORMAT, 1), (tarfile.GNU_FORMAT, 1), (tarfile.GNU_FORMAT, 120)]
)
def test_names_of_no_encoding_are_those_of_folders(form: int, length: int) -> None:
    """As `mgtool.inputs.sources` writes the names of files, so that boxes of a folder fit its tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("caf\xe9" * length))
    [member] = read_members(io.BytesIO(buffer.getvalue()))
    assert member.name == "caf\\udce9" * length


def test_a_pipe_is_read_to_its_end() -> None:
    stream = io.BytesIO(make([("a", b"x")], tarfile.USTAR_FORMAT) + bytes(100_000))
    list(read_members(stream))
    assert stream.read() == b""


def test_where_tars_are(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "notes.txt", ".a.tar.writing", "deep/c.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find(tmp_path) == [str(tmp_path / "a.tar"), str(tmp_path / "b.tar")]
    assert find(str(tmp_path / "deep")) == [str(tmp_path / "deep" / "c.tar")]
    assert find([tmp_path / "b.tar", f"file://{tmp_path}/deep"]) == [
        str(tmp_path / "b.tar"),
        f"file://{tmp_path}/deep/c.tar",
    ]
    assert find("x-{0..1}.tar") == ["x-0.tar", "x-1.tar"] == expand("x-{0..1}.tar")
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "notes.txt", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="no tar"):
            find(nothing)
