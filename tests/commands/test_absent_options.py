"""An option of many machines that a command does not have is refused in a line that says what to do."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("import", "--out", "m", "--engine", "ray"), "import runs on one machine, as fast as its disk: import once"),
        (("eval", "a.jsonl", "--ray-address", "auto"), "eval runs on one machine"),
        (("train", "tars", "--rank", "0"), "train is spread by torchrun"),
        (("pack", "photos", "--world-size", "2"), "pack has no ranks: --engine ray packs on many machines"),
        (("table", "t.toml", "--out", "t", "--num-actors", "2"), "table has it in its TOML"),
        (("import", "--out", "m", "--engin", "ray"), "`mgtool import -h` explains"),
    ],
)
def test_it_is_said_what_to_do(words: tuple[str, ...], told: str, mgtool) -> None:
    code, out, said = mgtool(*words)
    assert (code, out, said.count("\n")) == (2, "", 1), said
    assert f"No such option: {words[-2]}" in said
    assert told in said
