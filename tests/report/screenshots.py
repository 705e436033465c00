"""Screenshots of `mgtool eval`'s report of the example photographs, for the README.

Runs the real commands and a real headless Chromium: `python tests/report/screenshots.py examples/photos/report`.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
WIDTH, HEIGHT, COLOURS = 1080, 700, 256


def main() -> None:
    """Detect, score, photograph the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    out = parser.parse_args().out
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("needs chromium on the PATH")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = scored(Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
        tab.goto(report.as_uri())
        save(tab, out / "summary.png")
        tab.goto(report.as_uri() + "#gallery")
        tab.wait_for_selector(".item")
        tab.evaluate("document.getElementById('gallery').scrollIntoView()")
        save(tab, out / "items.png")
        tab.locator(".item", has_text="coffee.jpg").click()
        tab.wait_for_selector("dialog[open] .stage img")
        save(tab, out / "item.png")
        browser.close()


def scored(folder: Path) -> Path:
    """The report of the shipped detector on the example photographs."""
    images, boxes, scores = PHOTOS / "images", folder / "boxes", folder / "scores"
    mgtool("detect", images, "--out", boxes)
    truth = ("--ground-truth", PHOTOS / "instances.json")
    mgtool("eval", boxes, "--benchmark", "coco-detection", *truth, "--images", images, "--out", scores)
    return scores / "report.html"


def mgtool(*arguments: object) -> None:
    """Run a command; its output is not needed."""
    command = [sys.executable, "-m", "mgtool.commands.main", *map(str, arguments), "-q"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def save(tab: Any, path: Path) -> None:
    """What is in view, with few colours so that the file is small."""
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
