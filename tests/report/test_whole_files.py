"""Links to whole pictures: to nothing that a browser would run, whatever a stranger has called it."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from mgtool.media.names import MEDIA_SUFFIXES
from mgtool.report import scores_folder

SCRIPT = resources.files("mgtool.report").joinpath("templates", "gallery.js").read_text(encoding="utf-8")


def test_which_names_are_linked() -> None:
    (form,) = re.findall(r"const MEDIA = /(.+)/i;", SCRIPT)
    linked = re.compile(form, re.IGNORECASE)
    assert all(linked.search(f"a b{suffix.upper()}") and linked.search(f"x/y{suffix}") for suffix in MEDIA_SUFFIXES)
    for name in ("a.html", "a.svg", "a.png.html", "a.xhtml", "a", "png", "a.js", "a.png ", "a.pdf", "a.png%00.html"):
        assert not linked.search(name), name


def test_what_is_copied(tmp_path: Path) -> None:
    page = b"<script>alert(1)</script>"
    names = ["a.png", "b.HTML", "c.svg", "d.png.html", "../e.png", "/f.png", "g/h.jpg", "i"]
    scores_folder._copy(tmp_path, names, lambda name: page)
    copied = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert copied == ["a.png", "g/h.jpg"]
