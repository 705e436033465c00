"""A small evaluation as a page."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from PIL import Image

from mgtool import benchmarks
from mgtool.evaluation import comparison, pipeline
from mgtool.evaluation.slices import sliced
from mgtool.records import BoxRecord
from mgtool.report.scores_page import ScoresPage
from mgtool.scoring import predictions
from mgtool.scoring.benchmark import Item

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; what needs it is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


HOSTILE = "</script><script>document.title = 'broken in'</script><img src=x onerror=\"document.title='broken in'\">"


def picture(width: int, height: int, colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


PICTURES = {"wide.png": picture(400, 200, "teal"), "tall.png": picture(100, 300, "maroon")}
BOXES = {
    "wide.png": BoxRecord(
        sha256="",
        width=400,
        height=200,
        image="wide.png",
        boxes=((100, 50, 300, 150),),
        scores=(0.9,),
        labels=(HOSTILE,),
    ),
    "tall.png": BoxRecord(
        sha256="",
        width=100,
        height=300,
        image="tall.png",
        boxes=((0, 0, 9, 9),) * 15,
        scores=(0.5,) * 15,
        labels=("a",) * 15,
    ),
}


@pytest.fixture
def page() -> Callable[..., ScoresPage]:
    """A POPE page: even items are right, every third flipped, item 1 is hostile."""

    def make(count: int = 40, *, read: Any = PICTURES.get, compare: bool = True) -> ScoresPage:
        bench = benchmarks.get("pope")
        items = [
            Item(
                id=n,
                question=HOSTILE if n == 1 else f"Is there a thing {n}?",
                target="yes",
                image="wide.png" if n % 2 else "tall.png",
                group=str(n),
                fields={"split": "random" if n < count // 2 else "popular"},
            )
            for n in range(count)
        ]

        def run(words: list[str]) -> Any:
            lines = [predictions.Prediction(id=n, text=word) for n, word in enumerate(words)]
            return pipeline.score(bench, items, predictions.Answers(lines, []), variant="official")

        this = run([HOSTILE if n == 1 else "No" if n % 2 else "Yes" for n in range(count)])
        other = run(["No" if n % 2 or n % 3 == 0 else "Yes" for n in range(count)])
        first, second = pipeline.common(other.scores, this.scores)
        numbers = bench.metrics(first, "official"), bench.metrics(second, "official")
        return ScoresPage(
            title=f"A title with {HOSTILE}",
            name=this.result.name,
            subtitle=HOSTILE,
            headline="f1",
            metrics=this.result.metrics,
            breakdown=this.result.breakdown,
            slices=sliced(this.scores, ["split"], BOXES),
            counts=msgspec.structs.asdict(this.result.counts),
            notes=[HOSTILE],
            scores=this.scores,
            boxes=BOXES,
            comparison=comparison.compare(first, second, numbers, ["split"]) if compare else None,
            read=read,
        )

    return make
