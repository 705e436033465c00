"""RefCOCO: the box of an expression."""

from __future__ import annotations

import pickle

import pytest

from mgtool import benchmarks
from mgtool.errors import InputError
from mgtool.records import BoxRecord
from mgtool.scoring import predictions


def shard(image: str, rows: list[tuple[tuple[float, float, float, float], float, str]]) -> BoxRecord:
    boxes, scores, labels = zip(*rows, strict=True)
    return BoxRecord(sha256="", width=100, height=100, image=image, boxes=boxes, scores=scores, labels=labels)


EXPRESSIONS = [
    {"image": "a.jpg", "sent": "the red dog", "bbox": [0, 0, 10, 10]},
    {"image": "a.jpg", "sent": "the cat", "bbox": [50, 50, 60, 60]},
    {"image": "b.jpg", "sent": "a man", "bbox": [0, 0, 10, 10]},
]


def test_the_box_that_is_labelled_with_the_expression(bench, value) -> None:
    truth = bench.write("val.jsonl", EXPRESSIONS)
    found = [
        # 0.5 exactly: 50 of 100 shared, the union is 100
        shard("x/a.jpg", [((0, 0, 10, 5), 0.4, "The red  dog"), ((50, 50, 60, 60), 0.9, "something")]),
        # no label is an expression: the best box
        shard("b.jpg", [((0, 0, 10, 10), 0.9, "person"), ((30, 30, 40, 40), 0.2, "person")]),
    ]
    run = bench.score("refcoco", [truth], predictions.from_boxes(found))
    assert [score.score for score in run.scores] == [1, 0, 1]
    assert value(run, "accuracy") == pytest.approx(200 / 3)
    assert run.result.notes == ["1 pictures have no box labelled with an expression: the best box was taken"]


SIZED = [{**row, "question_id": n, "width": 100, "height": 50} for n, row in enumerate(EXPRESSIONS)]


@pytest.mark.parametrize(
    ("variant", "text", "box"),
    [
        ("official", "It is at [0, 0, 10, 10].", (0, 0, 10, 10)),
        ("official", "[0.00, 0.0, 0.1, 0.2]", (0, 0, 10, 10)),  # no number over 1: fractions of 100 x 50
        ("per-mille", "<box>(0,0),(100,200)</box>", (0, 0, 10, 10)),
        ("padded", "[0.0, 0.25, 0.1, 0.35]", (0, 0, 10, 10)),  # 25 pixels of padding above the picture
        ("official", "to the left", None),
        ("official", "[0, 0, 10]", None),
    ],
)
def test_coordinates_in_text(bench, variant: str, text: str, box: tuple[int, ...] | None) -> None:
    run = bench.score("refcoco", [bench.write("val.jsonl", SIZED)], {0: text, 1: "[55, 55, 60, 60]"}, variant=variant)
    assert run.scores[0].score == (box is not None)
    if box is not None:
        assert run.scores[0].extracted["boxes"][0] == pytest.approx(box)
    assert run.scores[1].score == 0  # a quarter of the object
    assert run.result.counts.missing == 1


def test_fractions_need_the_size(bench) -> None:
    rows = [{**row, "question_id": n} for n, row in enumerate(EXPRESSIONS)]
    with pytest.raises(InputError, match=r"expression 0: fractions need `width` and `height` of a\.jpg"):
        bench.score("refcoco", [bench.write("val.jsonl", rows)], {0: "[0.1, 0.1, 0.2, 0.2]"})


def test_a_picture_without_boxes_is_missing(bench) -> None:
    truth = bench.write("val.jsonl", EXPRESSIONS)
    run = bench.score("refcoco", [truth], predictions.from_boxes([shard("b.jpg", [((0, 0, 9, 9), 1, "a man")])]))
    assert run.result.counts.missing == 2


def test_mdetr_file(bench, value) -> None:
    truth = bench.write(
        "finetune_refcoco_val.json",
        {
            "images": [{"id": 5, "file_name": "c.jpg", "caption": "left man"}],
            "annotations": [{"image_id": 5, "bbox": [0, 0, 10, 10]}],
        },
    )
    run = bench.score("refcoco", [truth], predictions.from_boxes([shard("c.jpg", [((0, 0, 10, 10), 1, "left man")])]))
    assert value(run, "accuracy") == 100


def refer(bench, refs: object):
    bench.write("instances.json", {"images": [], "categories": [], "annotations": [{"id": 3, "bbox": [0, 0, 10, 10]}]})
    (bench.folder / "refs(unc).p").write_bytes(pickle.dumps(refs))
    return bench.folder


def test_official_files(bench, value) -> None:
    sentences = [{"sent_id": 1, "sent": "man"}, {"sent_id": 2, "sent": "left man"}]
    name = "COCO_train2014_000000000009_3.jpg"
    refs = [{"file_name": name, "ann_id": 3, "split": split, "sentences": sentences} for split in ("val", "train")]
    found = [shard("COCO_train2014_000000000009.jpg", [((0, 0, 10, 10), 1, "man"), ((0, 0, 1, 1), 1, "left man")])]
    run = bench.score("refcoco", [refer(bench, refs)], predictions.from_boxes(found), split="val")
    assert value(run, "accuracy") == 50


def test_a_folder_with_two_splittings(bench, value) -> None:
    """refcoco holds google's splits beside unc's, on which papers report: 1 of unc's 1, not 1 of 3."""

    def ref(number: int, splitter: str) -> dict[str, object]:
        sentences = [{"sent_id": number, "sent": splitter}]
        return {"file_name": "COCO_train2014_000000000009_3.jpg", "ann_id": 3, "split": "val", "sentences": sentences}

    folder = refer(bench, [ref(1, "unc")])
    (folder / "refs(google).p").write_bytes(pickle.dumps([ref(1, "google"), ref(2, "google")]))
    assert value(bench.score("refcoco", [folder], {1: "[0, 0, 10, 10]"}, split="val"), "accuracy") == 100
    named = [folder / "refs(google).p", folder / "instances.json"]
    assert value(bench.score("refcoco", named, {1: "[0, 0, 10, 10]"}, split="val"), "accuracy") == 50
    (folder / "refs(unc).p").rename(folder / "refs(own).p")
    with pytest.raises(InputError, match=r"several splittings .*refs\(google\)\.p, refs\(own\)\.p"):
        bench.score("refcoco", [folder], {1: "[0, 0, 10, 10]"})


class _Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("run",))


def test_a_pickle_that_would_run_code_is_refused(bench, capsys) -> None:
    with pytest.raises(InputError, match="may hold plain data only"):
        bench.score("refcoco", [refer(bench, [_Hostile()])], predictions.Answers([], []))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("[0.50, 0.20, 1.02, 0.90]", {"official", "padded", "lmms-eval", "vlmevalkit"}),  # a little over the edge
        ("[0.99, 0.90, 0.51, 0.20]", {"official", "padded", "vlmevalkit"}),  # corners in the other order
        ("0.50, 0.20, 1.00, 0.90", {"official", "padded", "vlmevalkit"}),  # no bracket
        ("[.5, .2, 1.0, .9]", {"official", "padded", "vlmevalkit"}),
        ("[500, 200, 1000, 900]", {"per-mille", "vlmevalkit"}),
        ("[320, 96, 640, 432]", {"official"}),
        ("[0.5, 0.2]", set()),
    ],
)
def test_boxes_written_in_words(bench, text: str, right: set[str]) -> None:
    row = {"question_id": 1, "image": "a.jpg", "sent": "dog", "bbox": [320, 96, 640, 432], "width": 640, "height": 480}
    truth = bench.write("refs.jsonl", [row])
    variants = benchmarks.get("refcoco").variants
    assert {v for v in variants if bench.score("refcoco", [truth], {1: text}, variant=v).scores[0].score} == right


def test_vlmevalkits_table(bench, value) -> None:
    """Boxes in pixels or as answers; the split's name is in the category, and answers may name it."""
    base = {"question": "the left dog", "width": 640, "height": 480, "image_path": "a.jpg"}
    box = {"bbox_x1": 320, "bbox_y1": 96, "bbox_x2": 640, "bbox_y2": 432}
    rows = [{"index": 0, **base, **box, "category": f"RefCOCO {split}"} for split in ("testA", "val")]
    truth = bench.write("RefCOCO.tsv", [*rows, {**rows[1], "index": 1}])
    said = {f"RefCOCO_{name}": "[0.5, 0.2, 1.0, 0.9]" for name in ("testA_0", "val_0")}
    run = bench.score("refcoco", [truth], said)
    assert value(run, "accuracy") == pytest.approx(200 / 3)
    assert {name: number.value for name, number in run.result.breakdown["split"].items()} == {
        "RefCOCO_testA": 100,
        "RefCOCO_val": 50,
    }
    assert value(bench.score("refcoco", [truth], said, variant="vlmevalkit"), "accuracy") == 75
    assert bench.score("refcoco", [truth], said, split="testA").result.counts.expected == 1
    table = bench.write("Other.tsv", [{"index": 4, **base, "answer": "[0.5, 0.2, 1.0, 0.9]"}])
    assert value(bench.score("refcoco", [table], {4: "[320, 96, 640, 432]"}), "accuracy") == 100
    with pytest.raises(InputError, match="expected expressions with boxes"):
        bench.score("refcoco", [bench.write("None.tsv", [{"index": 4, **base, "answer": "?"}])], {4: "x"})
