"""Every kind of transformers detector, tiny and random, loaded by path, against the model's own processor."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_transformers as tiny
import torch
from PIL import Image

from mgtool import detectors
from mgtool.errors import CheckpointError, UsageError

IMAGES = Path(__file__).parent.parent / "images"
CLOSED = {"detr": tiny.detr, "rt_detr": tiny.rt_detr, "d_fine": tiny.d_fine, "yolos": tiny.yolos}
OPEN = {
    "owlvit": lambda folder: tiny.owl("owlvit", folder),
    "owlv2": lambda folder: tiny.owl("owlv2", folder),
    "grounding-dino": tiny.grounding_dino,
}
WORDS = ("cat", "red cup", "dog")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hf")
    return {kind: build(root / kind) for kind, build in (CLOSED | OPEN).items()}


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    opened = [Image.open(IMAGES / name).convert("RGB") for name in ("china.jpg", "coffee.jpg")]
    return [*opened, opened[0].rotate(90, expand=True), opened[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]


def _words(kind: str) -> tuple[str, ...] | None:
    return WORDS if kind in OPEN else None


def same(one, other) -> None:
    assert one.labels == other.labels
    torch.testing.assert_close(torch.tensor(one.scores), torch.tensor(other.scores), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(one.boxes), torch.tensor(other.boxes), atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("kind", CLOSED | OPEN)
def test_a_batch_equals_singles(folders, pictures, kind: str) -> None:
    detector = detectors.load(f"hf:{folders[kind]}", threshold=0.0, device="cpu", vocabulary=_words(kind))
    together = detector.detect(pictures, None)
    assert all(found.boxes and list(found.scores) == sorted(found.scores, reverse=True) for found in together)
    for picture, found in zip(pictures, together, strict=True):
        same(found, detector.detect([picture], None)[0])


@pytest.mark.parametrize("kind", CLOSED)
def test_closed_sets_give_what_the_processor_gives(folders, pictures, kind: str) -> None:
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    processor = AutoImageProcessor.from_pretrained(folders[kind])
    model = AutoModelForObjectDetection.from_pretrained(folders[kind]).eval()
    inputs = processor(pictures[0], return_tensors="pt")
    if kind == "yolos":
        inputs.pop("pixel_mask", None)
    with torch.no_grad():
        outputs = model(**inputs)
    sizes = [pictures[0].size[::-1]]
    (every,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes)
    threshold = float(every["scores"].median())
    (expected,) = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=sizes)
    (found,) = detectors.load(f"hf:{folders[kind]}", threshold=threshold, device="cpu").detect(pictures[:1], None)
    order = expected["scores"].argsort(descending=True, stable=True)
    assert 0 < len(order) < len(every["scores"])
    assert found.labels == tuple(model.config.id2label[index] for index in expected["labels"][order].tolist())
    torch.testing.assert_close(torch.tensor(found.boxes), expected["boxes"][order], atol=1e-3, rtol=1e-5)


def test_a_closed_set_refuses_words_before_it_reads_weights(folders, tmp_path) -> None:
    kind = next(iter(CLOSED))
    (tmp_path / "config.json").write_bytes((folders[kind] / "config.json").read_bytes())
    with pytest.raises(UsageError, match=r"`vocabulary`: `detector` hf:.* looks for no words; `keep` chooses labels"):
        detectors.load(f"hf:{tmp_path}", device="cpu", vocabulary=WORDS)


@pytest.mark.parametrize("kind", OPEN)
def test_words_in_free_text_give_what_the_processor_gives(folders, pictures, kind: str) -> None:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    processor = AutoProcessor.from_pretrained(folders[kind])
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folders[kind]).eval()
    picture, grounding = pictures[0], kind == "grounding-dino"
    text = "cat. red cup. dog." if grounding else [[f"a photo of {word}" for word in WORDS]]
    inputs = processor(text=text, images=picture, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    sizes = torch.tensor([picture.size[::-1]])
    given = {"input_ids": inputs["input_ids"]} if grounding else {}
    (expected,) = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=sizes, **given)
    (found,) = detectors.load(f"hf:{folders[kind]}", threshold=0.0, device="cpu").detect([picture], [WORDS])
    order = expected["scores"].argsort(descending=True, stable=True)
    torch.testing.assert_close(torch.tensor(found.boxes), expected["boxes"][order], atol=1e-3, rtol=1e-5)
    assert set(found.labels) <= set(WORDS)
    if not grounding:
        assert found.labels == tuple(WORDS[index] for index in expected["labels"][order].tolist())


@pytest.mark.parametrize("kind", OPEN)
def test_pictures_without_words_have_no_boxes(folders, pictures, kind: str) -> None:
    detector = detectors.load(f"hf:{folders[kind]}", threshold=0.0, device="cpu")
    with_words, without = detector.detect(pictures[:2], [WORDS, ()])
    assert with_words.boxes
    assert without.boxes == ()
    with pytest.raises(UsageError, match="give `vocabulary` or `tagger`"):
        detector.detect(pictures[:1], None)


def test_more_words_than_grounding_dino_reads_at_once(folders, pictures) -> None:
    detector = detectors.load(f"hf:{folders['grounding-dino']}", threshold=0.0, device="cpu")
    words = ("zebra", "giraffe", "teapot", "window", "st. bernard", "kettle")
    assert len(list(detector.word_parts(words))) > 1
    (found,) = detector.detect(pictures[:1], [words])
    parts = [detector.detect(pictures[:1], [part])[0] for part in detector.word_parts(words)]
    assert sorted(found.scores) == pytest.approx(sorted(score for part in parts for score in part.scores))
    assert set(found.labels) <= set(words)


@pytest.mark.parametrize("kind", CLOSED | OPEN)
def test_heads_are_float32_where_the_network_is_not(folders, pictures, kind: str) -> None:
    exact, narrow = (
        detectors.load(f"hf:{folders[kind]}", threshold=0.0, device="cpu", vocabulary=_words(kind), dtype=dtype)
        for dtype in (None, "bfloat16")
    )
    (expected,), (found,) = (detector.detect(pictures[:1], None) for detector in (exact, narrow))
    scores = torch.tensor(found.scores)
    assert not torch.equal(scores.bfloat16().float(), scores)
    assert found.scores != expected.scores
    assert exact.identity != narrow.identity
    if kind in ("detr", "yolos", "owlvit", "owlv2"):  # the others choose their queries by scores, here random ones
        for box, score in zip(found.boxes, found.scores, strict=True):
            near = [abs(s - score) for b, s in zip(expected.boxes, expected.scores, strict=True) if _close(b, box)]
            assert min(near, default=1) < 0.01


def _close(one, other) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 5


def test_identity_names_weights_and_threshold(folders) -> None:
    one, other = (detectors.load(f"hf:{folders['yolos']}", threshold=t, device="cpu").identity for t in (0.1, 0.2))
    assert one != other
    assert one != detectors.load(f"hf:{folders['detr']}", threshold=0.1, device="cpu").identity


def test_mistakes_are_one_line(folders, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json there"):
        detectors.load(f"hf:{tmp_path}", device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="bert is no object detector that mgtool runs"):
        detectors.load(f"hf:{tmp_path}", device="cpu")
    shutil.copytree(folders["yolos"], tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut"):
        detectors.load(f"hf:{tmp_path / 'cut'}", device="cpu")
    (tmp_path / "config.json").write_text((folders["detr"] / "config.json").read_text())
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        detectors.load(f"hf:{tmp_path}", device="cpu")
