"""COCO and LVIS detection: equal to pycocotools and lvis-api, with their traps taken away."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgtool.errors import InputError
from mgtool.records import BoxRecord
from mgtool.scoring import predictions
from mgtool.scoring.benchmark import SCORERS

COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def data_set(
    pictures: int, *, boxes: int, seed: int, lvis: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO data set and results over it, with ties, crowds, empty pictures and sizes on both sides of the edges."""
    rng = np.random.default_rng(seed)
    categories = [{"id": 3 * n + 1, "name": f"thing {n}", "frequency": "rcf"[n % 3]} for n in range(12)]
    images, annotations, results = [], [], []
    for image in range(1, pictures + 1):
        own = []
        for _ in range(int(rng.integers(0, 9)) if image % 7 else 0):
            x, y, w, h = (float(v) for v in (*rng.uniform(0, 400, 2), *np.exp(rng.uniform(2, 5.5, 2))))
            own.append(([x, y, w, h], int(rng.integers(12)) * 3 + 1))
        for bbox, category in own:
            entry = {"id": len(annotations), "image_id": image, "category_id": category, "bbox": bbox}
            area = bbox[2] * bbox[3] * float(rng.uniform(0.5, 1))
            annotations.append({**entry, "area": area, "iscrowd": int(not lvis and rng.random() < 0.1)})
        for _ in range(boxes if image % 5 else 0):
            bbox, category = own[int(rng.integers(len(own)))] if own and rng.random() < 0.6 else ([9.0, 9, 50, 40], 1)
            moved = [float(v + rng.normal(0, 0.08) * s) for v, s in zip(bbox, (bbox[2], bbox[3]) * 2, strict=True)]
            score = round(float(rng.random()), 2)
            results.append({"image_id": image, "category_id": category, "bbox": moved, "score": score})
        present = {category for _, category in own}
        absent = [c["id"] for c in categories if c["id"] not in present and rng.random() < 0.3]
        unsure = [category for category in sorted(present) if rng.random() < 0.3]
        images.append({"id": image, "file_name": f"{image:06d}.jpg", "width": 640, "height": 480})
        if lvis:
            images[-1] |= {"coco_url": f"http://images/val2017/{image:06d}.jpg"}
            images[-1] |= {"neg_category_ids": absent, "not_exhaustive_category_ids": unsure}
    return {"images": images, "annotations": annotations, "categories": categories}, results


def shards(truth: dict[str, Any], results: list[dict[str, Any]], *, folder: str = "") -> predictions.Answers:
    """Results as box records; corners are chosen so that width and height come out to the bit."""
    names = {c["id"]: c["name"] for c in truth["categories"]}
    rows: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        rows.setdefault(result["image_id"], []).append(result)
    return predictions.from_boxes(
        BoxRecord(
            sha256="",
            width=640,
            height=480,
            image=f"{folder}{image:06d}.jpg",
            boxes=tuple(corners(row["bbox"]) for row in found),
            scores=tuple(row["score"] for row in found),
            labels=tuple(names[row["category_id"]] for row in found),
        )
        for image, found in rows.items()
    )


def corners(bbox: list[float]) -> tuple[float, float, float, float]:
    return (bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3])


def through_corners(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the box shards say, in COCO's form."""
    moved = []
    for row in results:
        x0, y0, x1, y1 = corners(row["bbox"])
        moved.append({**row, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return moved


def test_equal_to_pycocotools(bench) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = data_set(60, boxes=120, seed=1)
    run = bench.score("coco-detection", [bench.write("instances_val2017.json", truth)], shards(truth, results))
    for annotation in truth["annotations"]:
        annotation["id"] += 1  # pycocotools takes a match with annotation 0 for none
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO()
        official.dataset = truth
        official.createIndex()
        evaluation = COCOeval(official, official.loadRes(through_corners(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert [run.result.metrics[name].value for name in COCO_NAMES] == [100 * float(value) for value in evaluation.stats]
    assert run.result.counts.expected == 60
    assert run.result.counts.missing == 12  # every fifth picture has no boxes at all


@pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")
def test_equal_to_lvis_api(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lvis = pytest.importorskip("lvis")
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis-api still uses the alias
    truth, results = data_set(40, boxes=400, seed=2, lvis=True)
    for number, row in enumerate(results):
        row["score"] += number * 1e-7  # lvis-api cuts at 300 a picture; with ties the cut is anyone's
    path = bench.write("lvis_v1_val.json", truth)
    run = bench.score("lvis", [path], shards(truth, results))
    for annotation in truth["annotations"]:
        annotation["id"] += 1
        annotation["segmentation"] = []
    logging.getLogger("lvis").setLevel(logging.ERROR)
    official = lvis.LVIS(str(bench.write("official.json", truth)))
    found = lvis.LVISResults(official, through_corners(results))
    evaluation = lvis.LVISEval(official, found, "bbox")
    evaluation.run()
    expected = {name: 100 * float(value) for name, value in evaluation.get_results().items()}
    assert {name: run.result.metrics[name].value for name in expected} == expected


def small_truth(bench):
    return bench.write(
        "instances.json",
        {
            "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
            "categories": [{"id": 1, "name": "traffic light"}],
            "annotations": [
                {"id": 0, "image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}
            ],
        },
    )


def one_box(image: str, label: str = "traffic light") -> predictions.Answers:
    record = BoxRecord(
        sha256="", width=20, height=20, image=image, boxes=((0, 0, 10, 10),), scores=(0.9,), labels=(label,)
    )
    return predictions.from_boxes([record])


def test_annotation_zero_counts(bench, value) -> None:
    # pycocotools marks a match by the annotation's id, and 0 reads as no match: AP would be 0
    run = bench.score("coco-detection", [small_truth(bench)], one_box("a.jpg"))
    assert value(run, "AP") == pytest.approx(100)
    assert run.result.metrics["APl"].value is None  # no large object: not defined, not 0


def test_names_match_with_and_without_folders(bench, value) -> None:
    run = bench.score("coco-detection", [small_truth(bench)], one_box("val2017/a.jpg", "Traffic_Light"))
    assert value(run, "AP") == pytest.approx(100)


def test_each_picture_has_its_own_score(bench) -> None:
    # a: one of one found; b: no objects, and nothing found
    run = bench.score("coco-detection", [small_truth(bench)], one_box("a.jpg"))
    assert [score.score for score in run.scores] == pytest.approx([1, 1])
    # b: no objects, but a box
    run = bench.score("coco-detection", [bench.folder / "instances.json"], one_box("b.jpg"))
    assert [score.score for score in run.scores] == [0, 0]


def test_no_boxes_at_all(bench, value) -> None:
    # pycocotools crashes on an empty list of results
    run = bench.score("coco-detection", [small_truth(bench)], predictions.Answers([], []))
    assert value(run, "AP") == 0
    assert run.result.counts.missing == 2


def test_pictures_outside_the_ground_truth_are_counted(bench) -> None:
    # pycocotools asserts
    both = predictions.Answers(one_box("a.jpg").predictions + one_box("zzz.jpg").predictions, [])
    run = bench.score("coco-detection", [small_truth(bench)], both)
    assert run.result.counts.unknown == 1
    with pytest.raises(InputError, match="no answer belongs to coco-detection"):
        bench.score("coco-detection", [bench.folder / "instances.json"], one_box("zzz.jpg"))


def test_a_wrong_file_is_one_line(bench) -> None:
    wrong = bench.write("captions.json", {"images": [], "annotations": []})
    with pytest.raises(InputError, match=r"captions\.json: expected one COCO JSON with .*found none"):
        bench.score("coco-detection", [wrong], one_box("a.jpg"))


def test_pycocotools_itself_gives_the_same_numbers(tmp_path: Path, mgtool) -> None:
    photos = Path(__file__).parents[2] / "examples/photos"
    mgtool("detect", photos / "images", "--workers", 0, "--out", tmp_path / "boxes", "-q")
    words = ("eval", tmp_path / "boxes", "--ground-truth", photos / "instances.json", "--json", "--benchmark")
    found = {name: json.loads(mgtool(*words, "coco-detection", "--scorer", name)[1]) for name in SCORERS}
    fast, slow = (found[name]["metrics"] for name in SCORERS)
    assert {name: metric["value"] for name, metric in slow.items()} == pytest.approx(
        {name: metric["value"] for name, metric in fast.items()}, abs=1e-9
    )
    assert slow["AP"]["value"] > 30
    code, _, said = mgtool(*words, "lvis", "--scorer", "pycocotools")
    assert code == 2
    assert "--scorer pycocotools: lvis is not scored by it" in said
