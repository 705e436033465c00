"""Questions about videos: eight frames, each with its own boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import new_tokens

from mgtool.inference.prompts import Prompter
from mgtool.media.videos import decode_frames, frame_indices
from mgtool.records import Detections, Media, Sample, Turn

BOX = {"scores": [0.9], "labels": ["person"]}


@pytest.fixture(scope="module")
def video(tmp_path_factory, write_video) -> Path:
    """Thirty frames in which a bright square moves."""
    frames = []
    for place in range(30):
        frame = np.full((48, 64, 3), 40, np.uint8)
        frame[10:30, place : place + 20] = 220
        frames.append(frame)
    path = tmp_path_factory.mktemp("videos") / "moving.mp4"
    path.write_bytes(write_video(frames))
    return path


@pytest.mark.parametrize("boxes", ["off", "file"])
def test_a_video_is_asked_by_its_frames(infer, write, models, video, boxes):
    from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

    found = [{"index": index, "time": index / 10, "boxes": [[index, 10, index + 20, 30]], **BOX} for index in
             frame_indices(30, 8)]  # fmt: skip
    record = {"video": "moving.mp4", "sha256": "", "width": 64, "height": 48, "frames": found}
    given = "off" if boxes == "off" else write("boxes.jsonl", [record])
    texts = ["What moves?", "What moves, and where to?"]
    turns = [[{"from": "human", "value": f"<video>\n{text}"}, {"from": "gpt", "value": "?"}] for text in texts]
    records = [{"id": at, "video": "moving.mp4", "conversations": turn} for at, turn in enumerate(turns)]
    options = ("--images", video.parent, "--boxes", given, "--max-new-tokens", 6)
    code, answers, _ = infer(write("v.jsonl", records), *options)
    assert (code, [answer["image"] for answer in answers]) == (0, ["moving.mp4"] * 2)

    model = MGLlavaForConditionalGeneration.from_pretrained(models["vicuna"]).eval()
    processor = MGLlavaProcessor.from_pretrained(models["vicuna"])
    pictures = [frame.picture for frame in decode_frames(video.read_bytes(), 8)]
    objects = [
        Detections(tuple(map(tuple, frame["boxes"])), (0.9,), ("person",)) if boxes == "file" else None
        for frame in found
    ]
    for text, answer in zip(texts, answers, strict=True):
        prompt = processor.render([(f"<video>\n{text}", None)])
        batch = processor(text=prompt, videos=[pictures], detections=objects)
        with torch.inference_mode():
            ids = new_tokens(model, batch, **processor.generation_kwargs() | {"max_new_tokens": 6})[0]
        assert answer["text"] == processor.decode(ids)


def test_videos_that_cannot_be_shown_are_records(infer, write, video, tmp_path):
    (video.parent / "broken.mp4").write_bytes(video.read_bytes()[:400])
    other = {"video": "moving.mp4", "sha256": "", "width": 64, "height": 48,
             "frames": [{"index": 0, "time": 0.0, "boxes": [], "scores": [], "labels": []}]}  # fmt: skip
    turns = [{"from": "human", "value": "<video>\nWhat?"}]
    names = ["broken.mp4", "moving.mp4", "gone.mp4"]
    records = [{"id": name, "video": name, "conversations": turns} for name in names]
    options = ("--images", video.parent, "--max-new-tokens", 2)
    code, answers, _ = infer(write("v.jsonl", records), *options, "--boxes", write("boxes.jsonl", [other]))
    assert (code, answers) == (3, [])
    failures = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_bytes().splitlines()]
    assert [failure["reason"] for failure in failures] == ["corrupt", "bad_boxes", "missing"]


@pytest.mark.parametrize("text", ["What?", "<video>\nWhat?", "<image>\nWhat?"])
def test_a_video_stands_once_in_its_conversation(text):
    sample = Sample(id=1, video=Media(name="a.mp4"), turns=(Turn("human", text),))
    assert Prompter().converse(sample).turns == [("<video>\nWhat?", None)]
