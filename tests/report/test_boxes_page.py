"""The page of boxes: what it says, what it leaves out, and in a browser how it is looked through."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import box_pages
import msgspec
import pytest

from mgtool.boxes import statistics
from mgtool.media.reading import Place
from mgtool.records import BoxRecord, FrameDetections, Media, dumps
from mgtool.report import boxes_page

HOSTILE = box_pages.HOSTILE


def test_data_stays_data() -> None:
    html = box_pages.page(30).decode()
    assert "<img src=x" not in html
    assert html.count("<script>") == 1
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)[0])
    assert data["items"][-1]["name"] == HOSTILE
    assert [label for _, label in data["labels"]] == ["cat", "dog", HOSTILE]
    assert data["items"][29]["labels"] == [0, 1]
    assert "<b>2</b> missing" in html


def test_thousands_are_sampled_evenly() -> None:
    records = box_pages.records(2499)
    shown = boxes_page.sampled(records, len(records))
    assert len(shown) == boxes_page.MOST_PICTURES
    assert [record.image for record in shown[:4]] == ["0000.png", "0002.png", "0005.png", "0007.png"]
    assert boxes_page.sampled(records[:5], 5) == records[:5]


def test_a_video_shows_its_frames_and_a_lost_picture_its_boxes() -> None:
    frames = tuple(FrameDetections(n * 5, n / 2, ((0, 0, 9, 9),), (0.5,), ("cat",)) for n in range(3))
    video = BoxRecord(video="a.mp4", sha256="0" * 64, width=64, height=48, frames=frames)
    shown = boxes_page.with_thumbnails([video, box_pages.records(0)[0]], [Media(name="a.mp4", data=b"no video")])
    assert [one.name for one in shown] == [f"a.mp4, frame {5 * n} at {n / 2:.1f} s" for n in range(3)] + [HOSTILE]
    assert [one.uri for one in shown] == [""] * 4
    assert [len(one.found.boxes) for one in shown] == [1] * 4


def test_pictures_of_one_name_are_told_apart_by_their_bytes() -> None:
    data = [box_pages.png(400, 200), box_pages.png(200, 100)]
    digests = [hashlib.sha256(one).hexdigest() for one in data]
    records = [msgspec.structs.replace(box_pages.records(0)[0], image="a.png", sha256=digest) for digest in digests]
    media = [Media(name="a.png", data=one) for one in data]
    shown = boxes_page.with_thumbnails(records, media)
    assert shown == boxes_page.with_thumbnails(records, media[::-1])
    assert shown[0].uri != shown[1].uri
    by_id = msgspec.structs.replace(records[0], sha256="", width=0, height=0)
    assert boxes_page.with_thumbnails([by_id], media)[0].size == (400, 200)


def test_a_page_leads_to_the_files_that_are_here(tmp_path: Path) -> None:
    record = box_pages.records(0)[0]
    path = tmp_path / "my photos/50 %/é #1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(box_pages.png(400, 200))
    (tmp_path / "pages").mkdir()
    there = Media(name=record.image, uri=str(path))
    [item] = boxes_page.with_thumbnails([record], [there], tmp_path / "pages")
    assert item.file == "../my%20photos/50%20%25/%C3%A9%20%231.png"
    [item] = boxes_page.with_thumbnails([record], [Media(name=record.image, data=path.read_bytes())], tmp_path)
    assert (item.file, bool(item.uri)) == ("", True)


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Any]:
    """The page of 300 pictures and a hostile one; fails if the browser reports an error."""
    (tmp_path / "page.html").write_bytes(box_pages.page(300))
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    tab.goto((tmp_path / "page.html").as_uri() + "#gallery")
    tab.wait_for_selector(".item img")
    yield tab
    assert errors == []
    assert "broken in" not in tab.title().split("</script>")[0]
    tab.close()


@pytest.mark.browser
def test_filters(opened) -> None:
    def shown() -> str:
        return str(opened.inner_text("#shown"))

    assert shown() == "301 of 301"
    opened.select_option("#label", label="dog")
    assert shown() == "100 of 301"
    opened.wait_for_selector(".item:not([hidden]) rect.found")
    assert opened.locator(".item:not([hidden])").first.locator("rect.found").count() == 1
    opened.evaluate("document.getElementById('score').value = 0.5")
    opened.dispatch_event("#score", "input")
    assert shown() == "0 of 301"
    assert opened.is_visible("#none")
    opened.click("#reset")
    assert shown() == "301 of 301"
    opened.select_option("#bin", "0")
    assert shown() == "100 of 301"
    opened.select_option("#bin", "")
    opened.fill("#search", "0042")
    assert shown() == "1 of 301"


@pytest.mark.browser
def test_pictures_are_loaded_where_one_looks(opened) -> None:
    assert 0 < opened.locator(".item img").count() < 60
    last = opened.locator(".item").last
    assert last.locator("img").count() == 0
    last.scroll_into_view_if_needed()
    last.locator("img").wait_for()
    assert opened.locator(".item").first.locator("img").count() == 0


@pytest.mark.browser
def test_a_picture_is_there_in_full_size(browser, tmp_path) -> None:
    (tmp_path / "a b.png").write_bytes(box_pages.png(400, 200))
    record = msgspec.structs.replace(box_pages.records(0)[0], image="a b.png")
    (tmp_path / "boxes.jsonl").write_bytes(dumps(record) + b"\n")
    place = Place.of(str(tmp_path), allow_absolute=False, allow_remote=None)
    boxes = (str(tmp_path / "boxes.jsonl"),)
    boxes_page.write(tmp_path / "page.html", boxes, statistics.of_files(boxes), boxes_page.media_below(place))
    tab = browser.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    tab.locator(".item").first.click()
    with tab.expect_popup() as opening:
        tab.get_by_text("open the file in full size").click()
    assert opening.value.evaluate("[document.images[0].naturalWidth, document.images[0].naturalHeight]") == [400, 200]


@pytest.mark.browser
def test_a_picture_opens_with_its_boxes_where_they_belong(opened) -> None:
    opened.locator(".item").nth(1).click()
    assert opened.inner_text("#facts h3") == "0001.png"
    assert opened.locator("#facts li").all_inner_texts() == ["cat\n0.90"]
    stage = opened.locator("#stage").bounding_box()
    scale = min(stage["width"] / 400, stage["height"] / 200)
    left = stage["x"] + (stage["width"] - 400 * scale) / 2 + 100 * scale
    box = opened.locator("#stage rect.found").evaluate("node => node.getBoundingClientRect().toJSON()")
    assert (box["x"], box["width"]) == pytest.approx((left, 200 * scale), abs=4)
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#facts h3") == "0002.png"
    opened.keyboard.press("b")
    assert opened.locator("#stage rect").count() == 0
    opened.keyboard.press("Escape")
    assert opened.locator("dialog[open]").count() == 0
    opened.locator(".item").last.click()
    assert opened.locator("#facts li").first.inner_text().startswith("</script>")
    assert opened.evaluate("document.querySelectorAll('img[src=x]').length") == 0
