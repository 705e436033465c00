"""Captions: equal to pycocoevalcap, honest without Java."""

from __future__ import annotations

import json
import subprocess

import pytest

from mgtool import benchmarks
from mgtool.errors import InputError
from mgtool.evaluation.pipeline import NO_TARGETS
from mgtool.scoring import java_metrics
from mgtool.scoring.ground_truth import Truth

pytest.importorskip("pycocoevalcap")
needs_java = pytest.mark.skipif(not java_metrics.available(), reason="needs a Java runtime on the PATH")

REFERENCES = {
    1: ["A man riding a wave on top of a surfboard.", "A surfer's wave, at sea!", "Somebody surfs"],
    2: ["Two dogs run.", "dogs running in the grass", "A pair of (brown) dogs."],
    42: ["A café table.", "An empty table - with two chairs; outside", "chairs"],
}
CAPTIONS = {1: "a man is riding a wave", 2: "two dogs running in the park", 42: "A café with chairs."}


def truth(bench):
    annotations = [{"image_id": n, "caption": text} for n, texts in REFERENCES.items() for text in texts]
    images = [{"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg"} for n in REFERENCES]
    return bench.write("captions_val2014.json", {"images": images, "annotations": annotations})


def official() -> dict[str, float]:
    """pycocoevalcap's own numbers, from its own tokenizer."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    gts = tokenizer.tokenize({n: [{"caption": text} for text in texts] for n, texts in REFERENCES.items()})
    res = tokenizer.tokenize({n: [{"caption": text}] for n, text in CAPTIONS.items()})
    bleu = Bleu(4).compute_score(gts, res, verbose=0)[0]
    numbers = {f"BLEU-{size}": bleu[size - 1] for size in range(1, 5)}
    others = {"CIDEr": Cider(), "METEOR": Meteor(), "ROUGE-L": Rouge()}
    return {**numbers, **{name: scorer.compute_score(gts, res)[0] for name, scorer in others.items()}}


@needs_java
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_equal_to_pycocoevalcap(bench) -> None:
    run = bench.score("coco-caption", [truth(bench)], CAPTIONS)
    metrics = {name: metric.value for name, metric in run.result.metrics.items()}
    expected = {name: 100 * score for name, score in official().items()}
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert metrics["SPICE"] is None  # its models are not part of the package: never 0
    assert any(note.startswith("left out: SPICE") for note in run.result.notes)
    assert any("references of the 3 pictures" in note for note in run.result.notes)


@needs_java
def test_bleu_of_a_single_picture_is_of_the_closest_length(bench) -> None:
    """pycocoevalcap's `bleu.py` asks for `closest` always; its scorer alone would take the mean length here."""
    from pycocoevalcap.bleu.bleu import Bleu

    references = ["a cat sits on the mat", "there is a long caption which says that a cat sits on the mat here"]
    images = [{"id": 1, "file_name": "1.jpg"}]
    annotations = [{"image_id": 1, "caption": text} for text in references]
    truth = bench.write("captions_val2014.json", {"images": images, "annotations": annotations})
    run = bench.score("coco-caption", [truth], {1: "a cat sits on the"})
    expected = Bleu(4).compute_score({1: references}, {1: ["a cat sits on the"]}, verbose=0)[0]
    numbers = [run.result.metrics[f"BLEU-{size}"].value for size in range(1, 5)]
    assert numbers == pytest.approx([100 * score for score in expected])


@needs_java
def test_a_missing_caption_is_an_empty_one(bench) -> None:
    run = bench.score("coco-caption", [truth(bench)], {1: CAPTIONS[1], 2: CAPTIONS[2]})
    assert run.scores[2].score == 0
    assert run.result.counts.missing == 1


@needs_java
def test_line_breaks_do_not_shift_captions() -> None:
    assert java_metrics.tokenized(["a\u2028b\nc", "", 'It\'s "fine", really.']) == ["a b c", "", "it 's fine really"]


def test_without_java(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    run = bench.score("coco-caption", [truth(bench)], CAPTIONS)
    assert {metric.value for metric in run.result.metrics.values()} == {None}
    assert run.result.notes[0].startswith("left out: CIDEr, BLEU-4")


@needs_java
@pytest.mark.usefixtures("without_meteor")
def test_names_domains_and_splits(bench) -> None:
    images = [{"id": 7, "file_name": "0007.jpg", "domain": "out-domain"}]
    nocaps = bench.write("nocaps_val.json", {"images": images, "annotations": [{"image_id": 7, "caption": "a cat"}]})
    run = bench.score("nocaps", [nocaps], [{"image_id": "0007.jpg", "caption": "a cat"}])
    assert list(run.result.breakdown["domain"]) == ["out-domain"]
    pictures = [
        {"filename": f"{n}.jpg", "imgid": n, "split": split, "sentences": [{"raw": "a dog"}, {"raw": "a brown dog"}]}
        for n, split in enumerate(("train", "test"))
    ]
    flickr = bench.write("dataset_flickr30k.json", {"images": pictures})
    run = bench.score("flickr30k", [flickr], [{"image_id": "1.jpg", "caption": "a dog"}])
    assert run.result.counts.expected == run.result.counts.answered == 1


def captions(*numbers: int) -> dict[str, object]:
    return {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in numbers],
        "annotations": [{"id": n, "image_id": n, "caption": "a cat"} for n in numbers],
    }


@pytest.mark.usefixtures("without_meteor")
def test_the_official_folder_and_one_of_its_splits(bench) -> None:
    """COCO's `annotations` holds boxes beside captions, of both splits: 3 and 2 pictures have a caption."""
    bench.write("annotations/captions_train2017.json", captions(1, 2, 3))
    bench.write("annotations/captions_val2017.json", captions(4, 5))
    boxes = [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}]
    instances = {"images": [{"id": 9, "file_name": "9.jpg"}], "annotations": boxes, "categories": [{"id": 1}]}
    bench.write("annotations/instances_val2017.json", instances)
    folder = bench.folder / "annotations"
    run = bench.score("coco-caption", [folder], {4: "a cat", 5: "a cat"}, split="val")
    assert (run.result.counts.expected, run.result.counts.answered) == (2, 2)
    assert len(benchmarks.get("coco-caption").load(Truth((folder,)))) == 5
    with pytest.raises(InputError, match="expected COCO captions"):
        bench.score("coco-caption", [folder / "instances_val2017.json"], {9: "a cat"})


@pytest.mark.parametrize("more", [{}, {"annotations": []}])
def test_pictures_of_a_test_set_are_for_a_submission(bench, more: dict[str, object]) -> None:
    """nocaps_test_image_info.json, image_info_test2014.json: pictures, and no captions of them."""
    images = [{"id": 4, "file_name": "0004.jpg"}, {"id": 5, "file_name": "0005.jpg"}]
    truth = bench.write("nocaps_test_image_info.json", {"images": images, **more})
    run = bench.score("nocaps", [truth], {4: "a cat"})
    assert run.result.notes == [NO_TARGETS]
    file = benchmarks.get("nocaps").submission(run.pairs, "test")
    assert json.loads(file.data) == [{"image_id": 4, "caption": "a cat"}, {"image_id": 5, "caption": ""}]
    scored = bench.write("nocaps_val_4500_captions.json", captions(6))
    assert [item.id for item in benchmarks.get("nocaps").load(Truth((truth, scored)))] == [6]


def test_a_java_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = subprocess.CompletedProcess([], 1, b"", b"Error: could not create the Java Virtual Machine\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: broken)
    monkeypatch.setattr(java_metrics.shutil, "which", lambda _: "/bin/java")
    with pytest.raises(InputError, match="java failed: Error: could not create"):
        java_metrics.tokenized(["a"])


@needs_java
@pytest.mark.usefixtures("without_meteor")
def test_captions_of_other_toolkits(bench, value) -> None:
    """BLIP's split files, whose pictures are numbered by their names, and VLMEvalKit's table."""
    names = [f"val2014/COCO_val2014_{n:012d}.jpg" for n in (391895, 60623)]
    blip = bench.write("coco_karpathy_test.json", [{"image": n, "caption": ["a cat", "the cat"]} for n in names])
    said = {391895: "a cat", "COCO_val2014_000000060623.jpg": "a cat"}
    run = bench.score("coco-caption", [blip], said)
    assert [score.question_id for score in run.scores] == [391895, 60623]
    assert (run.result.counts.answered, value(run, "BLEU-1")) == (2, 100)
    table = bench.write("COCO_VAL.tsv", [{"index": n, "image": "x" * 300, "answer": "['a cat']"} for n in (1, 2)])
    run = bench.score("coco-caption", [table], {1: "a cat", 2: "a cat"})
    assert (run.result.counts.answered, run.scores[0].image, value(run, "BLEU-1")) == (2, "", 100)
