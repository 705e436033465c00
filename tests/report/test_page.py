"""The page as a file: whole, safe, bounded."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mgtool.evaluation.explanations import effects
from mgtool.report import scores_page
from mgtool.report.scores_page import chosen, plot, render, shown_value
from mgtool.scoring.benchmark import Item
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.statistics import Metric


class Elements(HTMLParser):
    """Names and attributes of all elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def data(html: str, start: str) -> object:
    match = re.search(re.escape(start) + r">(.*?)</script>", html, re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def test_only_our_own_script_and_no_network(page) -> None:
    html = render(page()).decode()
    elements = Elements(html).found
    assert [attrs.get("type") for tag, attrs in elements if tag == "script"] == ["application/json"] * 2 + [None]
    assert not [
        attrs for tag, attrs in elements if "src" in attrs or ("href" in attrs and not attrs["href"].startswith("#"))
    ]
    assert not re.search(r"https?://(?!www\.w3\.org)", html)
    policy = next(attrs["content"] for tag, attrs in elements if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")


def test_items_boxes_and_flips(page) -> None:
    html = render(page()).decode()
    gallery = data(html, '<script type="application/json" id="data"')
    assert len(gallery["items"]) == 40
    assert gallery["items"][1]["question"].startswith("</script>")
    assert gallery["items"][1]["bin"] == "1-10"
    assert gallery["items"][6]["flip"] == [0.0, 1.0, "No"]
    assert gallery["filters"] == {"split": ["popular", "random"]}
    block = data(html, '<script type="application/json" class="pictures"')
    sizes = {item["image"]: block[item["picture"]]["size"] for item in gallery["items"]}
    assert sizes == {"wide.png": [400, 200], "tall.png": [100, 300]}
    assert block[gallery["items"][1]["picture"]]["boxes"][0][:5] == [100, 50, 300, 150, 0.9]


def test_same_input_same_bytes(page) -> None:
    assert render(page()) == render(page())


def test_pictures_that_cannot_be_read(page) -> None:
    for read in (lambda name: None, lambda name: b"no picture", lambda name: b""):
        html = render(page(read=read)).decode()
        block = data(html, '<script type="application/json" class="pictures"')
        assert {entry["uri"] for entry in block} == {""}


def test_the_gallery_is_bounded(page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_page, "MOST_ITEMS", 20)
    whole = page(90)
    kept = chosen(whole.scores, whole.comparison)
    flipped = {flip.question_id for flip in whole.comparison.flips}
    assert len(kept) == 20
    assert flipped & {score.question_id for score in kept}
    assert "70 more items are in scores.jsonl" in render(whole).decode()
    assert [score.question_id for score in chosen(whole.scores, None)] == sorted(
        score.question_id for score in chosen(whole.scores, None)
    )


def test_plots_stay_inside_their_track() -> None:
    rows = plot("x", {"a": Metric(value=99.0, interval=(90.0, 120.0), n=3), "b": Metric(value=None)}).rows
    assert [row["label"] for row in rows] == ["a"]
    assert rows[0]["left"] + rows[0]["width"] <= 100


def test_values_for_people() -> None:
    assert shown_value(["yes"] * 7 + ["no"]) == "yes ×7, no"
    assert shown_value({"labels": []}) == "no objects"
    assert shown_value({"labels": ["cat"]}) == "1 object: cat"
    assert shown_value(0.5) == "0.5"


def test_boxes_are_coloured_by_what_they_did(page) -> None:
    told = {"logprob": -1.0, "boxes": []}
    for change, label in ((0.25, "cup"), (-1.5, "</script>")):
        told["boxes"].append({"box": [100, 50, 300, 150], "label": label, "change": change})
    told["boxes"].append({"box": [0, 0, 9, 9], "label": "dog", "change": -9.0, "picture": 1})
    noted = [told, {"boxes": [{"box": [1], "label": 3}]}, None, "yes"]
    pairs = [(Item(id=n), Prediction(id=n, text="", fields={"explain": one})) for n, one in enumerate(noted)]
    html = render(replace(page(), effects=effects([*pairs, (Item(id=9), None)]))).decode()
    items = data(html, '<script type="application/json" id="data"')["items"]
    assert items[0]["effects"] == [[100, 50, 300, 150, -1.5, "</script>"], [100, 50, 300, 150, 0.25, "cup"]]
    assert not any("effects" in item for item in items[1:])
