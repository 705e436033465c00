"""OWLv2 against transformers' own processor and post-processing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import tiny_transformers as tiny
import torch
from PIL import Image
from transformers import Owlv2ForObjectDetection, Owlv2Processor

from mgtool import detectors
from mgtool.boxes.filters import Filters
from mgtool.detectors.owlv2 import Owlv2Detector
from mgtool.errors import CheckpointError, UsageError

IMAGES = Path(__file__).parent.parent / "images"
WORDS = ["Cat", "traffic light", "cup", "dog"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.owl("owlv2", tmp_path_factory.mktemp("owlv2"))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    opened = [
        Image.open(IMAGES / name).convert("RGB") for name in ("china.jpg", "coffee.jpg", "astronaut_portrait.jpg")
    ]
    return [*opened, opened[0].crop((0, 0, 90, 200))]


def published(folder: Path, picture: Image.Image, words: list[str], threshold: float) -> list[tuple]:
    """The published procedure, word for word, best first."""
    processor, model = Owlv2Processor.from_pretrained(folder), Owlv2ForObjectDetection.from_pretrained(folder)
    queries = [[f"a photo of {word.lower()}" for word in words]]
    inputs = processor(text=queries, images=picture, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (found,) = processor.post_process_grounded_object_detection(
        outputs, threshold=threshold, target_sizes=torch.tensor([picture.size[::-1]]), text_labels=[words]
    )
    rows = zip(found["scores"].tolist(), found["boxes"].tolist(), found["text_labels"], strict=True)
    return sorted(rows, key=lambda row: -row[0])


def middle(folder: Path, picture: Image.Image, words: list[str]) -> float:
    """A threshold that some patches pass and others do not."""
    scores = [score for score, _, _ in published(folder, picture, words, 0.0)]
    half = len(scores) // 2
    return (scores[half] + scores[half - 1]) / 2


def test_boxes_are_the_published_ones(folder: Path, pictures) -> None:
    for picture in pictures:
        threshold = middle(folder, picture, WORDS)
        expected = published(folder, picture, WORDS, threshold)
        (found,) = Owlv2Detector(folder, threshold=threshold).detect([picture], [WORDS])
        assert 0 < len(found.boxes) < 16
        assert list(found.labels) == [label for _, _, label in expected]
        torch.testing.assert_close(torch.tensor(found.scores), torch.tensor([score for score, _, _ in expected]))
        torch.testing.assert_close(
            torch.tensor(found.boxes), torch.tensor([box for _, box, _ in expected]), atol=1e-3, rtol=1e-5
        )


def test_a_batch_with_other_words_for_each_picture_equals_singles(folder: Path, pictures) -> None:
    detector = Owlv2Detector(folder, threshold=0.0)
    words = [WORDS, ["cup"], [], WORDS[1:]]
    batch = detector.detect(pictures, words)
    assert batch[2].boxes == ()
    assert all(batch[index].boxes for index in (0, 1, 3))
    for picture, asked, together in zip(pictures, words, batch, strict=True):
        (alone,) = detector.detect([picture], [asked])
        assert together.labels == alone.labels
        torch.testing.assert_close(torch.tensor(together.boxes), torch.tensor(alone.boxes), atol=1e-3, rtol=1e-5)


def test_whole_pixels_are_the_published_ones(folder: Path, pictures) -> None:
    (found,) = Owlv2Detector(folder, threshold=0.0).detect(pictures[:1], [WORDS])
    expected = [[int(side) for side in box] for _, box, _ in published(folder, pictures[0], WORDS, 0.0)]
    assert [list(box) for box in Filters(round=True)(found).boxes] == expected
    assert any(side < 0 for box in found.boxes for side in box)


def test_each_query_is_embedded_once_and_kept_on_disk(folder: Path, pictures, tmp_path: Path, monkeypatch) -> None:
    detector = detectors.load(f"owlv2:{folder}", vocabulary=("cup", "Cat"), device="cpu", threshold=0.0)
    asked: list[str] = []
    plain = Owlv2Detector._encode

    def counted(self, queries):
        asked.extend(queries)
        return plain(self, queries)

    monkeypatch.setattr(Owlv2Detector, "_encode", counted)
    first = detectors.load(f"owlv2:{folder}", vocabulary=("cup", "Cat"), device="cpu", threshold=0.0)
    boxes = first.detect(pictures, None)
    first.detect(pictures[:1], [["cat", "dog"]])
    assert asked == ["a photo of cup", "a photo of cat", "a photo of dog"]
    assert detector.detect(pictures, None) == boxes
    assert len(asked) == 3
    with sqlite3.connect(tmp_path / "cache" / "mgtool" / "text_embeddings.sqlite") as file:
        assert file.execute("SELECT COUNT(*) FROM embeddings").fetchone() == (3,)
    file.close()


def test_a_narrow_format_moves_boxes_little_and_shares_the_words(folder: Path, pictures) -> None:
    exact, narrow = (Owlv2Detector(folder, threshold=0.0, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert exact.identity != narrow.identity
    assert torch.equal(exact.embeddings(["cup"]), narrow.embeddings(["cup"]))
    for before, after in zip(exact.see(pictures[:1]), narrow.see(pictures[:1]), strict=True):
        assert after.dtype == torch.float32
        assert not torch.equal(before, after)
        torch.testing.assert_close(before, after, atol=0.05, rtol=0.05)


def test_other_weights_do_not_share_embeddings(folder: Path, tmp_path: Path) -> None:
    other = tiny.owl("owlv2", tmp_path / "other")
    model = Owlv2ForObjectDetection.from_pretrained(other)
    with torch.no_grad():
        model.owlv2.text_projection.weight.neg_()
    model.save_pretrained(other)
    ours, theirs = Owlv2Detector(folder), Owlv2Detector(other)
    assert ours.identity != theirs.identity
    assert torch.allclose(ours.embeddings(["cat"]), -theirs.embeddings(["cat"]))


def test_a_cache_that_cannot_be_used_is_said_and_costs_nothing_else(folder: Path, tmp_path: Path, caplog) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_text("not a data base, by far " * 100)
    with caplog.at_level("WARNING"):
        vectors = Owlv2Detector(folder, cache=broken).embeddings(["cat"])
    assert "not kept on disk" in caplog.text
    assert torch.equal(vectors, Owlv2Detector(folder).embeddings(["cat"]))


def test_long_words_are_cut_to_what_the_model_takes(folder: Path, pictures) -> None:
    (found,) = Owlv2Detector(folder, threshold=0.0).detect(pictures[:1], [["w" * 500]])
    assert set(found.labels) == {"w" * 500}


def test_mistakes_are_one_line(folder: Path, pictures, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give `vocabulary` or `tagger`"):
        Owlv2Detector(folder).detect(pictures, None)
    with pytest.raises(CheckpointError, match=r"no config\.json there"):
        Owlv2Detector(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="holds yolos, not owlv2; try hf:"):
        Owlv2Detector(tiny.yolos(tmp_path / "yolos"))
