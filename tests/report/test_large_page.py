"""A page of many items: chunks beside it, loaded as they are looked at, from a file system."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from mgtool.report import scores_folder

MANY = 2_100


@pytest.fixture
def chunked(page, tmp_path):
    """The report of 2,100 items."""
    scores_folder.write(tmp_path, page(MANY))
    return tmp_path


def values(path) -> tuple[str, Any]:
    """What a chunk calls with."""
    call = path.read_text(encoding="utf-8").strip()
    assert call.startswith("mgtoolChunk(")
    name, text = json.loads(f"[{call.removeprefix('mgtoolChunk(').removesuffix(')')}]")
    return name, json.loads(text)


def test_every_item_is_in_one_of_the_chunks(chunked) -> None:
    names = sorted(path.name for path in (chunked / "report").iterdir())
    assert names == ["items-0.js", "items-1.js", "pictures-0.js"]
    found = [values(chunked / "report" / f"items-{number}.js") for number in range(2)]
    assert [name for name, _ in found] == ["items-0", "items-1"]
    assert [item["id"] for _, items in found for item in items] == [str(n) for n in range(MANY)]
    assert {item["picture"] for _, items in found for item in items} == {0, 1}
    assert [bool(picture["uri"]) for picture in values(chunked / "report/pictures-0.js")[1]] == [True, True]
    page = (chunked / "report.html").read_text()
    assert "'strict-dynamic'" in page
    assert len(page) < 300_000
    for path in (chunked / "report").iterdir():
        assert "<script" not in path.read_text()  # whatever the data says


def test_few_items_stay_in_one_file_and_take_an_old_folder_away(page, chunked) -> None:
    scores_folder.write(chunked, page(40))
    assert [path.name for path in chunked.iterdir()] == ["report.html"]
    assert "'strict-dynamic'" not in (chunked / "report.html").read_text()


def test_full_pictures_are_copied_and_linked(page, tmp_path) -> None:
    scores_folder.write(tmp_path, page(40), full_pictures=True)
    copied = tmp_path / "report/pictures"
    assert sorted(path.name for path in copied.iterdir()) == ["tall.png", "wide.png"]
    assert (copied / "wide.png").read_bytes().startswith(b"\x89PNG")
    assert '"files":"report/pictures"' in (tmp_path / "report.html").read_text()


def peak(work) -> int:
    """Bytes that a piece of work takes at most, beside what was there."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_items(page, tmp_path) -> None:
    small, large = page(2_100, compare=False), page(6_300, compare=False)
    scores_folder.write(tmp_path / "first", small)  # what is loaded once
    one = peak(lambda: scores_folder.write(tmp_path / "small", small))
    three = peak(lambda: scores_folder.write(tmp_path / "large", large))
    assert three < 1.3 * one


@pytest.fixture
def opened(browser, chunked) -> Iterator[Any]:
    """The page in a browser, from the file system; fails if the browser reports an error."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.goto((chunked / "report.html").as_uri() + "#gallery")
    yield tab
    assert errors == []
    tab.close()


@pytest.mark.browser
def test_a_browser_shows_all_items_and_their_pictures(opened) -> None:
    opened.wait_for_function("document.getElementById('shown').textContent === '2,100 of 2,100'")
    opened.wait_for_selector(".item img")
    assert opened.locator(".item").count() < 100
    assert opened.inner_text("[data-result=all]") == "all 2,100"
    opened.fill("#search", "thing 2042")
    assert opened.inner_text("#shown") == "1 of 2,100"
    opened.click(".item")
    opened.wait_for_selector("#detail img")
    assert "2042" in opened.inner_text("#facts")
