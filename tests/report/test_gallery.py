"""Looking through items: by buttons, keys, touch, link and paper, and by people who do not see the page."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import box_pages
import pytest

from mgtool.report.scores_page import render

pytestmark = pytest.mark.browser


@pytest.fixture
def pages(page, tmp_path: Path) -> dict[str, str]:
    """The addresses of both kinds of page."""
    (tmp_path / "scores.html").write_bytes(render(page()))
    (tmp_path / "boxes.html").write_bytes(box_pages.page(60))
    return {name: (tmp_path / f"{name}.html").as_uri() for name in ("scores", "boxes")}


@pytest.fixture
def tab(browser) -> Iterator[Any]:
    """A tab of 1280 x 900 that may not report an error."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield tab
    assert errors == []
    tab.close()


@functools.cache
def _axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="needs the package axe-playwright-python")
    return (resources.files(package.__name__) / "axe.min.js").read_text("utf-8")


def _findings(tab: Any) -> list[str]:
    tab.evaluate(_axe())
    found = tab.evaluate("axe.run().then(result => result.violations)")
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("kind", ["scores", "boxes"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(kind: str, scheme: str, tab, pages) -> None:
    tab.emulate_media(color_scheme=scheme)
    tab.goto(pages[kind] + "#gallery")
    tab.wait_for_selector(".item img")
    assert _findings(tab) == []
    tab.locator(".item").nth(3).click()
    assert _findings(tab) == []


@pytest.mark.parametrize("kind", ["scores", "boxes"])
def test_buttons_keys_and_touch_go_on(kind: str, tab, pages) -> None:
    tab.goto(pages[kind] + "#gallery")
    tab.locator(".item").first.click()
    assert tab.is_disabled("#previous")
    first = tab.inner_text("#facts h3")
    tab.click("#next")
    assert tab.inner_text("#place").startswith("2 of ")
    second = tab.inner_text("#facts h3")
    assert second != first
    tab.click("#previous")
    assert tab.inner_text("#facts h3") == first
    room = tab.locator("#stage").bounding_box()
    y = room["y"] + room["height"] / 2
    tab.mouse.move(room["x"] + room["width"] - 20, y)
    tab.mouse.down()
    tab.mouse.move(room["x"] + 20, y, steps=4)
    tab.mouse.up()
    assert tab.inner_text("#facts h3") == second
    tab.keyboard.press("End")
    assert tab.is_disabled("#next")


def test_the_picture_is_enlarged_and_fits_again(tab, pages) -> None:
    tab.goto(pages["scores"] + "#gallery")
    tab.locator(".item").nth(3).click()
    width = "document.querySelector('#stage img').getBoundingClientRect().width"
    before = tab.evaluate(width)
    tab.keyboard.press("+")
    assert tab.evaluate(width) == pytest.approx(1.5 * before)
    tab.click("#zoom")
    assert tab.evaluate(width) == pytest.approx(before)
    stage = tab.locator("#stage").bounding_box()
    tab.mouse.move(stage["x"] + 50, stage["y"] + 50)
    tab.mouse.wheel(0, -400)
    assert tab.evaluate(width) > 2 * before
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#zoom") == "100 %"


def test_boxes_are_switched_by_label(tab, pages) -> None:
    tab.goto(pages["boxes"] + "#gallery")
    tab.select_option("#label", label="dog")
    tab.select_option("#label", "")
    tab.fill("#search", "0040")
    tab.locator(".item:not([hidden])").first.click()
    assert tab.locator("#stage rect.found").count() == 2
    tab.click(".chip >> text=dog")
    assert tab.locator("#stage rect.found").count() == 1
    assert tab.locator("#stage text").text_content() == "cat 0.90"
    tab.click("#next") if tab.is_enabled("#next") else None
    tab.click(".chip >> text=dog")
    assert tab.locator("#stage rect.found").count() == 2


def test_labels_of_one_corner_stand_below_each_other(tab, pages) -> None:
    tab.goto(pages["scores"] + "#gallery")
    tab.locator(".item").nth(2).click()
    heights = tab.evaluate("[...document.querySelectorAll('#stage text')].map(node => Number(node.getAttribute('y')))")
    assert len(heights) == 15
    assert len({round(y) for y in heights[:8]}) == 8


@pytest.mark.parametrize("kind", ["scores", "boxes"])
def test_a_link_shows_the_same(kind: str, tab, pages) -> None:
    tab.goto(pages[kind] + "#gallery")
    if kind == "scores":
        tab.click("[data-result=wrong]")
        tab.select_option("select[data-field=split]", "popular")
        tab.select_option("select[data-field=order]", "id")
    else:
        tab.select_option("#label", label="dog")
        tab.select_option("#sort", "name")
    tab.fill("#search", "3")
    tab.locator(".item:not([hidden])").first.click()
    tab.click("#next")
    told, shown, address = tab.inner_text("#facts h3"), tab.inner_text("#shown"), tab.url
    tab.goto("about:blank")
    tab.goto(address)
    assert (tab.inner_text("#facts h3"), tab.inner_text("#shown")) == (told, shown)
    tab.keyboard.press("Escape")
    tab.reload()
    assert tab.locator("dialog[open]").count() == 0
    assert tab.inner_text("#shown") == shown
    assert tab.input_value("#search") == "3"


def test_two_runs_stand_side_by_side(tab, pages) -> None:
    tab.goto(pages["scores"])
    rows = tab.locator("table.changed tbody tr")
    assert rows.count() == 8
    rows.first.locator("a").click()
    tab.wait_for_selector(".sides > div")
    assert tab.locator(".sides > div").count() == 2
    assert "first run" in tab.inner_text(".sides").lower()
    tab.keyboard.press("Escape")
    tab.select_option("select[data-field=order]", "changed")
    assert tab.locator(".item").first.locator(".badge.flip").count() == 1


def test_reading_order_holds_after_scrolling_back(tab, browser, page, tmp_path: Path) -> None:
    (tmp_path / "many.html").write_bytes(render(page(400)))
    tab.goto((tmp_path / "many.html").as_uri() + "#gallery")
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.wait_for_selector("[data-place='399']")
    tab.evaluate("scrollBy(0, -3000)")
    tab.wait_for_selector("[data-place='350']")
    places = tab.evaluate("[...document.querySelectorAll('.item')].map(node => Number(node.dataset.place))")
    assert places == sorted(places)


def test_on_paper_items_and_numbers_stand(tab, pages) -> None:
    tab.goto(pages["scores"])
    assert tab.pdf().startswith(b"%PDF")
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator(".item").count() == 40
    assert tab.locator(".item").last.is_visible()
    assert not tab.locator(".tools").is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")


@pytest.mark.parametrize("kind", ["scores", "boxes"])
def test_a_telephone_shows_it_all(kind: str, tab, pages) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(pages[kind] + "#gallery")
    for link in tab.locator(".top nav a").all():
        place = link.bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= 390
    tab.locator(".item").first.click()
    for name in ("previous", "next", "close"):
        assert tab.locator(f"#{name}").is_visible()


def test_ten_thousand_items_are_there_almost_as_soon_as_a_hundred(browser, page, tmp_path: Path) -> None:
    seconds: dict[int, list[float]] = {100: [], 10_000: []}
    for count in seconds:
        (tmp_path / f"{count}.html").write_bytes(render(page(count, compare=False)))
    for _ in range(3):
        for count, taken in seconds.items():
            tab = browser.new_page()
            began = time.perf_counter()
            tab.goto((tmp_path / f"{count}.html").as_uri() + "#gallery", wait_until="commit")
            tab.wait_for_selector(".item img")
            taken.append(time.perf_counter() - began)
            tab.close()
    assert min(seconds[10_000]) <= 3 * min(seconds[100]), seconds
