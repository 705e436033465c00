"""The page in a real browser: filters, search, keys, boxes where they belong, nothing that data could run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from mgtool.report.scores_page import render

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(browser, page, tmp_path) -> Iterator[Any]:
    """The report of 40 items, scrolled to them; fails if the browser reports an error."""
    (tmp_path / "report.html").write_bytes(render(page()))
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    tab.goto((tmp_path / "report.html").as_uri() + "#gallery")
    tab.wait_for_selector(".item")
    yield tab
    assert errors == []
    tab.close()


def shown(tab: Any) -> str:
    return str(tab.inner_text("#shown"))


def test_filters(opened) -> None:
    assert shown(opened) == "40 of 40"
    opened.click("[data-result=wrong]")
    assert shown(opened) == "19 of 40"  # odd items, but the hostile one, which reads as yes
    assert opened.locator(".item .badge.right").count() == 0
    opened.select_option("select[data-field=split]", "popular")
    assert shown(opened) == "10 of 40"
    opened.select_option("select[data-field=boxes]", "11-20")
    assert shown(opened) == "0 of 40"
    assert opened.is_visible("#none")
    opened.click("#reset")
    assert shown(opened) == "40 of 40"


def test_what_is_in_view_is_painted_with_its_pictures(browser, page, tmp_path) -> None:
    (tmp_path / "report.html").write_bytes(render(page()))
    for _ in range(6):  # pictures decoded aside were missing from some of the first frames
        tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        tab.goto((tmp_path / "report.html").as_uri())
        tab.evaluate("document.getElementById('gallery').scrollIntoView()")
        shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
        frames = [tab.locator(f".item[data-place='{place}'] .frame").bounding_box() for place in range(4)]
        middles = [shot.getpixel((int(f["x"] + f["width"] / 2), int(f["y"] + f["height"] / 2))) for f in frames]
        tab.close()
        for place, (red, green, blue) in enumerate(middles):
            assert (green > red) if place % 2 else (red > green + blue), f"item {place} shows {middles[place]}"


def test_flipped(opened) -> None:
    opened.click("[data-result=flipped]")
    # of the even items the multiples of 3 were wrong before (0, 6, ..., 36), and the hostile one
    assert shown(opened) == "8 of 40"
    assert opened.locator(".badge.flip").first.inner_text() == "0 → 1"


def test_search_and_keys(opened) -> None:
    opened.keyboard.press("/")
    opened.keyboard.type("thing 17")
    assert shown(opened) == "1 of 40"
    opened.keyboard.press("Escape")
    assert shown(opened) == "40 of 40"
    opened.keyboard.press("w")
    assert shown(opened) == "19 of 40"
    opened.keyboard.press("a")
    opened.locator(".item").nth(3).click()
    assert opened.inner_text("#facts h3") == "Is there a thing 3?"
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#facts h3") == "Is there a thing 4?"
    opened.keyboard.press("Escape")
    assert opened.locator("dialog[open]").count() == 0


def test_boxes_lie_where_they_should(opened) -> None:
    # the picture is 400 x 200 and the box 100..300, 50..150: half as wide and high, in its middle
    opened.locator(".item").nth(3).click()
    stage = opened.locator("#stage").bounding_box()
    scale = min(stage["width"] / 400, stage["height"] / 200)
    left = stage["x"] + (stage["width"] - 400 * scale) / 2 + 100 * scale
    top = stage["y"] + (stage["height"] - 200 * scale) / 2 + 50 * scale
    box = opened.locator("#stage rect.found").evaluate("node => node.getBoundingClientRect().toJSON()")
    assert (box["x"], box["y"]) == pytest.approx((left, top), abs=3)
    assert (box["width"], box["height"]) == pytest.approx((200 * scale, 100 * scale), abs=4)
    picture = opened.locator("#stage img").evaluate("node => [node.naturalWidth, node.naturalHeight]")
    assert picture[0] / picture[1] == pytest.approx(2, rel=0.02)
    opened.keyboard.press("b")
    assert opened.locator("#stage rect").count() == 0


def test_data_stays_text(opened) -> None:
    opened.locator(".item").nth(1).click()
    assert opened.inner_text("#facts h3").startswith("</script><script>")
    assert "broken in" not in opened.title().split("</script>")[0]
    assert opened.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert opened.locator("#stage text").first.text_content().startswith("</script>")


def test_dark_and_light(opened) -> None:
    def paper() -> str:
        return str(opened.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = paper()
    opened.click("#theme")
    assert paper() != light
    opened.click("#theme")
    assert paper() == light


def test_ten_thousand_items_keep_the_page_small(browser, page, tmp_path) -> None:
    (tmp_path / "big.html").write_bytes(render(page(10_000)))
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    tab.goto((tmp_path / "big.html").as_uri() + "#gallery")
    tab.wait_for_selector(".item")
    assert tab.locator(".item").count() < 100
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.wait_for_selector("[data-place='9999']")
    assert tab.locator(".item").count() < 100
    tab.fill("#search", "thing 4242")
    assert tab.inner_text("#shown") == "1 of 10,000"
    tab.close()
