"""A URL to write to is refused in one line before anything is read, and leaves no folder of its scheme's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgtool.errors import UsageError
from mgtool.files.local import refuse_url

PHOTO = Path(__file__).parents[2] / "examples/photos/images/cat.jpg"


@pytest.mark.parametrize("given", ["boxes", "a/b:c/d", "./x", "/s3/x", "a:", "C:/x", Path("x/s3:/b")])
def test_a_path_is_none(given: str | Path) -> None:
    refuse_url("out", given)


@pytest.mark.parametrize("url", ["s3://bucket/boxes", "gs://b/c.jsonl", "https://a.org/x", "hf://datasets/a/b"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_named_as_it_was_given(url: str, kind: type) -> None:
    with pytest.raises(UsageError, match=f"`out` {url}: .*not to a URL") as refused:
        refuse_url("out", kind(url))
    assert refused.value.option == "out"


def test_a_file_url_is_told_its_path() -> None:
    with pytest.raises(UsageError, match=r"`out` file:///a/b: .* leave the scheme out: /a/b"):
        refuse_url("out", Path("file:///a/b"))


@pytest.mark.parametrize("out", ["https://bucket/here", "file:///nowhere/here", "hf://bucket/a.jsonl"])
@pytest.mark.parametrize(
    "command",
    [
        ("detect", PHOTO, "--workers", 0),
        ("detect", PHOTO, "--workers", 0, "--dry-run"),
        ("infer", PHOTO, "--task", "caption", "--model", "tiny"),
        ("infer", PHOTO, "--task", "caption", "--model", "tiny", "--dry-run"),
        ("pack", PHOTO, "--workers", 1),
        ("pack", PHOTO, "--workers", 1, "--dry-run"),
        ("eval", PHOTO, "--benchmark", "pope", "--ground-truth", PHOTO),
    ],
)
def test_no_command_writes_to_a_url(
    command: tuple[object, ...], out: str, mgtool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = mgtool(*command, "--out", out, "-q")
    assert (code, stdout, stderr.count("\n"), f"--out {out}" in stderr) == (2, "", 1, True), stderr
    assert not any(tmp_path.iterdir())


def test_nor_a_page(mgtool, tmp_path: Path) -> None:
    code, _, stderr = mgtool("detect", PHOTO, "--workers", 0, "--out", tmp_path / "o", "--report", "s3://b/r.html")
    assert (code, "--report s3://b/r.html" in stderr) == (2, True)
    assert not (tmp_path / "o").exists()
