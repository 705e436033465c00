"""`--explain boxes`: what is told of a box is what leaving it out of the box file does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import mgtool
from mgtool.errors import UsageError
from mgtool.inference import explaining
from mgtool.inference.native_model import NativeModel
from mgtool.media.videos import decode_frames
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.records import Detections

PHOTOS = Path(__file__).parent.parent / "images"
BOXES = [[10, 20, 200, 220], [250, 30, 420, 300], [100, 240, 380, 400]]
LABELS, SCORES = ["cup", "spoon", "cup"], [0.9, 0.8, 0.4]
PICTURE = {"image": "coffee.jpg", "sha256": "", "width": 600, "height": 400}
QUESTION = "What stands on the table?"


def found(count):
    return {"boxes": BOXES[:count], "labels": LABELS[:count], "scores": SCORES[:count]}


def without(detections, left_out):
    """The same objects but one."""
    kept = [at for at in range(len(detections["boxes"])) if at != left_out]
    values = {name: tuple(entries[at] for at in kept) for name, entries in detections.items()}
    return Detections(tuple(map(tuple, values["boxes"])), values["scores"], values["labels"])


class Plain:
    """The model's own forward pass over a whole prompt and its answer."""

    def __init__(self, folder):
        self.model = MGLlavaForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = MGLlavaProcessor.from_pretrained(folder)

    @torch.no_grad()
    def logprob(self, question, pictures, answer, frame_counts=None):
        ids = self.processor.tokenize([(question, None)])
        batch = self.processor.collate([ids], [self.processor.place(*one) for one in pictures], frame_counts)
        visuals = self.model.see(*(batch[name] for name in ("pixel_values", "boxes", "box_counts", "frame_counts")))
        embeds = self.model.splice(batch["input_ids"], None, visuals).inputs_embeds
        tokens = torch.tensor([self.processor.tokenizer.convert_tokens_to_ids(answer)])
        whole = torch.cat([embeds, self.model.embed_text(tokens[:, :-1])], dim=1)
        logits = self.model.decode(inputs_embeds=whole).logits[:, -tokens.shape[1] :]
        return float(logits.log_softmax(-1).gather(-1, tokens[..., None]).double().sum())


@pytest.fixture(scope="module")
def plain(models):
    return Plain(models["vicuna"])


@pytest.fixture
def explained(models, write, tmp_path):
    """Answers with what their boxes did."""

    def run(records, boxes, **options):
        asked = {"images": str(PHOTOS), "device": "cpu", "max_new_tokens": 6, "explain": "boxes", "logprobs": True}
        given = mgtool.InferOptions(model=models["vicuna"], boxes=str(write("b.jsonl", boxes)), **(asked | options))
        return list(mgtool.answers([write("q.jsonl", records)], given))

    return run


def answer_of(answer):
    return [one["token"] for one in answer.metadata["logprobs"]]


@pytest.mark.parametrize("count", [3, 1, 0])
def test_a_box_did_what_leaving_it_out_of_the_box_file_undoes(explained, plain, count):
    detections = found(count)
    records = [{"question_id": at, "image": "coffee.jpg", "text": QUESTION + "!" * at} for at in range(2)]
    picture = Image.open(PHOTOS / "coffee.jpg").convert("RGB")
    for at, answer in enumerate(explained(records, [PICTURE | detections])):
        asked = f"<image>\n{QUESTION}" + "!" * at
        tokens, told = answer_of(answer), answer.metadata["explain"]
        whole = plain.logprob(asked, [(picture, without(detections, -1))], tokens)
        assert told["logprob"] == pytest.approx(whole, abs=1e-3)
        assert told["logprob"] == pytest.approx(sum(one["logprob"] for one in answer.metadata["logprobs"]), abs=1e-2)
        assert sorted(one["label"] for one in told["boxes"]) == sorted(detections["labels"])
        for one in told["boxes"]:
            left_out = detections["boxes"].index(one["box"])
            other = plain.logprob(asked, [(picture, without(detections, left_out))], tokens)
            assert one["change"] == pytest.approx(other - whole, abs=1e-3)
        sizes = [abs(one["change"]) for one in told["boxes"]]
        assert sizes == sorted(sizes, reverse=True)
        assert all(size > 1e-3 for size in sizes), "a box must matter for this to be a test"


@pytest.mark.parametrize("shares", [True, False])
def test_boxes_of_several_pictures(explained, plain, monkeypatch, shares):
    monkeypatch.setattr(explaining, "ROW_TOKENS", 1)
    monkeypatch.setattr(NativeModel, "shares_prefixes", lambda self: shares)
    names = ("coffee.jpg", "china.jpg")
    boxes = [PICTURE | found(2), PICTURE | found(3) | {"image": "china.jpg", "width": 640, "height": 427}]
    [answer] = explained([{"question_id": 0, "image": list(names), "text": f"<image>\n<image>\n{QUESTION}"}], boxes)
    shots = [Image.open(PHOTOS / name).convert("RGB") for name in names]
    asked, tokens = f"<image>\n<image>\n{QUESTION}", answer_of(answer)
    whole = plain.logprob(asked, [(shot, without(found(n), -1)) for shot, n in zip(shots, (2, 3), strict=True)], tokens)
    told = answer.metadata["explain"]["boxes"]
    assert [one["picture"] for one in told].count(1) == 3
    for one in told:
        pairs = []
        for number, (shot, count) in enumerate(zip(shots, (2, 3), strict=True)):
            left_out = BOXES.index(one["box"]) if number == one["picture"] else -1
            pairs.append((shot, without(found(count), left_out)))
        assert one["change"] == pytest.approx(plain.logprob(asked, pairs, tokens) - whole, abs=1e-3)


@pytest.mark.slow
def test_boxes_of_a_videos_frames(explained, plain, write_video, tmp_path):
    import numpy as np

    film = tmp_path / "film.mp4"
    film.write_bytes(write_video([np.full((48, 64, 3), 20 * shade, np.uint8) for shade in range(10)]))
    frames = decode_frames(film.read_bytes())
    per_frame = [{"boxes": [[1, 2, 30, 40], [5 + at, 5, 50, 44]], "labels": ["a", "b"], "scores": [0.9, 0.5]} for at in
                 range(len(frames))]  # fmt: skip
    entries = [{"index": frame.index, "time": 0.1, **one} for frame, one in zip(frames, per_frame, strict=True)]
    record = {"video": "film.mp4", "sha256": "", "width": 64, "height": 48, "frames": entries}
    [answer] = explained([{"question_id": 0, "video": "film.mp4", "text": QUESTION}], [record], images=str(tmp_path))
    tokens, told = answer_of(answer), answer.metadata["explain"]["boxes"]
    assert len(told) == 2 * len(frames)

    def logprob(frame=-1, left_out=-1):
        shots = [
            (one.picture, without(per_frame[at], left_out if at == frame else -1)) for at, one in enumerate(frames)
        ]
        return plain.logprob(f"<video>\n{QUESTION}", shots, tokens, [len(frames)])

    for one in told[:3] + told[-2:]:
        left_out = per_frame[one["frame"]]["boxes"].index(one["box"])
        assert one["change"] == pytest.approx(logprob(one["frame"], left_out) - logprob(), abs=1e-3)


def test_choices_are_explained_and_pictures_without_boxes_say_so(explained):
    records = [{"question_id": 0, "image": "coffee.jpg", "text": QUESTION}, {"question_id": 1, "text": "Who?"}]
    answers = explained(records, [PICTURE | found(2)], choices="Yes,No way", logprobs=False)
    for answer, count in zip(answers, (2, 0), strict=True):
        told = answer.metadata["explain"]
        assert told["logprob"] == pytest.approx(answer.metadata["choices"][answer.text], abs=1e-2)
        assert len(told["boxes"]) == count


def test_models_without_boxes_have_nothing_to_explain():
    with pytest.raises(UsageError, match="takes no boxes"):
        list(mgtool.answers(["-"], mgtool.InferOptions(model="hf:owner/name", explain="boxes")))
