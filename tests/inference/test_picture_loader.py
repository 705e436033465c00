"""Pictures prepared by processes: the bytes of a run without them, whatever happens to them, no more than is due."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import count, islice

import nasty
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from mgtool.boxes.lookup import BoxSource
from mgtool.errors import ItemError
from mgtool.inference import grouping
from mgtool.inference.grouping import Planner
from mgtool.inference.picture_loader import MediaInput, PictureLoader
from mgtool.inference.prompts import Prompter
from mgtool.inference.read_ahead import READ_AHEAD
from mgtool.media.images import decode
from mgtool.model import MGLlavaProcessor
from mgtool.records import Detections, Media, Sample, Turn

BOXES = Detections(((10.0, 20.0, 200.0, 300.0),), (0.9,), ("thing",))


@pytest.fixture(scope="module")
def processor(models):
    return MGLlavaProcessor.from_pretrained(models["vicuna"])


def png(number: int, side: int = 64) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((side, side)).save(file, "PNG")
    return file.getvalue()


def test_any_number_gives_the_same_bytes(infer, tmp_path, write_video):
    folder = tmp_path / "pictures"
    reasons = nasty.make(folder)
    frames = [np.full((48, 64, 3), level, np.uint8) for level in range(30)]
    (folder / "grey.mp4").write_bytes(write_video(frames))
    for workers in (0, 2):
        options = ("--task", "caption", "--max-new-tokens", 3, "--workers", workers)
        code, answers, stderr = infer(folder, *options, out=f"{workers}/answers.jsonl")
        assert (code, stderr) == (3, "")
        assert "grey.mp4" in [answer["image"] for answer in answers]
    for name in ("answers.jsonl", "failures.jsonl"):
        assert (tmp_path / "2" / name).read_bytes() == (tmp_path / "0" / name).read_bytes()
    failures = map(json.loads, (tmp_path / "2" / "failures.jsonl").read_bytes().splitlines())
    assert {failure["id"]: failure["reason"] for failure in failures} == {k: v for k, v in reasons.items() if v}


def test_what_killed_processes_held_is_prepared_all_the_same(processor):
    files = [MediaInput(str(number), png(number, 800), (BOXES,)) for number in range(6)]
    with PictureLoader(processor, 2) as loader:
        assert len(loader.submit(files[0]).result()) == 1
        first = multiprocessing.active_children()
        assert first
        futures = [loader.submit(media) for media in files]
        for process in first:
            process.kill()
        found = [future.result() for future in futures]
        assert len(loader.submit(files[0]).result()) == 1
        assert {process.pid for process in multiprocessing.active_children()}.isdisjoint(p.pid for p in first)
        with pytest.raises(ItemError) as caught:
            loader.submit(MediaInput("bad", b"no picture", None)).result()
    assert caught.value.reason == "not_an_image"
    assert not multiprocessing.active_children()
    for media, [picture] in zip(files, found, strict=True):
        expected = processor.place(decode(media.data), BOXES)
        assert torch.equal(picture.pixels, expected.pixels)
        assert torch.equal(picture.boxes, expected.boxes)
        assert picture.labels == expected.labels


@pytest.mark.parametrize("workers", [0, 2])
def test_no_more_is_read_or_prepared_than_will_be_asked_for_soon(processor, monkeypatch, workers):
    taken, under_way, most, window = count(), set(), 0, 20
    submit = PictureLoader.submit

    def counted(loader, media):
        nonlocal most
        under_way.add(media.key)
        most = max(most, len(under_way))
        return submit(loader, media)

    def endless():
        for number in taken:
            media = Media(name=f"{number}.png", data=png(number))
            yield number, Sample(id=number, images=(media,), turns=(Turn("human", "What?"),))

    monkeypatch.setattr(PictureLoader, "submit", counted)
    monkeypatch.setattr(grouping, "WINDOW", window)
    planner = Planner(Prompter(), processor, BoxSource(), workers=workers)
    groups = planner.groups(endless())
    for expected, group in enumerate(islice(groups, 3 * window)):
        assert list(group.numbers) == [expected]
        under_way.discard(group.key[0])
    groups.close()
    assert most <= PictureLoader(processor, 0).ahead + 2 * workers + 1
    assert next(taken) <= 5 * window + READ_AHEAD + 2
    assert not multiprocessing.active_children()


def test_processes_load_no_torch():
    code = "import sys, mgtool.inference.picture_loader; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_a_stopped_run_leaves_no_process_and_goes_on(infer, models, tmp_path, sent, code):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.png").write_bytes(png(number))
    options = (folder, "--task", "caption", "--max-new-tokens", 12, "--batch-size", 2)
    out = tmp_path / "stopped" / "answers.jsonl"
    command = [sys.executable, "-m", "mgtool.commands.main", "infer", *options, "--model", models["vicuna"]]
    command += ["--out", out, "--device", "cpu", "-q", "--workers", 2]
    run = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True)
    partial = out.with_name("answers.jsonl.partial")
    while run.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.02)
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) >= 2
    (os.killpg if sent == signal.SIGINT else os.kill)(run.pid, sent)
    stderr = run.communicate(timeout=60)[1]
    assert run.returncode == code
    assert sent == signal.SIGKILL or stderr.count("\n") == 1
    assert psutil.wait_procs(family, timeout=30)[1] == []
    assert not out.exists()
    assert infer(*options, out="stopped/answers.jsonl")[0] == 0
    assert infer(*options, out="whole/answers.jsonl")[0] == 0
    assert out.read_bytes() == (tmp_path / "whole" / "answers.jsonl").read_bytes()
