"""`mgtool eval` as it is typed."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def pope(bench) -> dict[str, Path]:
    files = {}
    for split in ("random", "popular"):
        rows = [
            {
                "question_id": n,
                "image": f"{n // 2}.jpg",
                "text": f"Is there a thing {n}?",
                "label": "yes" if n % 2 else "no",
            }
            for n in range(1, 7)
        ]
        files[split] = bench.write(f"truth/coco_pope_{split}.json", "\n".join(map(json.dumps, rows)))
    answers = [
        {"question_id": n, "text": "Yes" if n % 2 else "No, not here", "category": split, "prompt": "?"}
        for split in files
        for n in range(1, 7)
    ]
    files["answers"] = bench.write("run/answers.jsonl", answers)
    files["worse"] = bench.write("run/worse.jsonl", [{**answer, "text": "Yes"} for answer in answers])
    return files


def test_scores_json_has_the_agreed_form(mgtool, pope, tmp_path) -> None:
    out = tmp_path / "out"
    code, table, err = mgtool(
        "eval", pope["answers"], "--benchmark", "pope", "--ground-truth", tmp_path / "truth", "--out", out
    )
    assert code == 0
    assert table.startswith("metric              value")
    assert "12 expected, 12 answered" in err
    scores = json.loads((out / "scores.json").read_text())
    assert {"benchmark", "variant", "metrics", "breakdown", "counts"} <= set(scores)
    assert (scores["benchmark"], scores["variant"]) == ("pope", "official")
    assert set(scores["metrics"]["f1"]) >= {"value", "stderr", "interval"}
    assert scores["metrics"]["f1"]["value"] == 100
    assert scores["counts"]["expected"] == 12
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert {"question_id", "prediction", "extracted", "target", "score"} <= set(lines[0])
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads((out / "run.json").read_text())["times"]["finished"]


def test_several_paths_after_one_option(mgtool, pope) -> None:
    either = ("--ground-truth", pope["random"], pope["popular"])
    for arguments in ((pope["answers"], *either), (*either, pope["answers"])):
        code, out, _ = mgtool("eval", "--benchmark", "pope", *arguments, "--json")
        assert code == 0
        assert json.loads(out)["counts"]["expected"] == 12


def test_stdin_and_split(mgtool, pope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", pope["answers"].open(encoding="utf-8"))
    code, out, _ = mgtool(
        "eval", "-", "--benchmark", "pope", "--ground-truth", pope["random"].parent, "--split", "random", "--json"
    )
    sys.stdin.close()
    assert code == 0
    assert json.loads(out)["counts"]["unknown"] == 6


def test_a_pipe_is_read_as_stdin_is(mgtool, pope, tmp_path) -> None:
    pipe, options = tmp_path / "pipe", ("--benchmark", "pope", "--ground-truth", pope["random"], "--json")
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(pope["answers"].read_bytes()), daemon=True).start()
    (code, found, _), (_, expected, _) = (mgtool("eval", path, *options) for path in (pipe, pope["answers"]))
    assert code == 0
    assert json.loads(found)["metrics"] == json.loads(expected)["metrics"]


def test_bad_lines_are_recorded_and_give_exit_code_3(mgtool, pope, tmp_path) -> None:
    with pope["answers"].open("a") as file:
        file.write('{"question_id": 1, "te\n{"question_id": 2, "said": "Yes"}\n')
    options = ("--benchmark", "pope", "--ground-truth", tmp_path / "truth", "--out", tmp_path / "out")
    code, _, err = mgtool("eval", pope["answers"], *options)
    assert code == 3
    assert "2 unreadable" in err
    assert err.splitlines()[-1] == f"failed: 2, see {tmp_path / 'out' / 'failures.jsonl'}"
    failures = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [(f["id"], f["stage"], f["reason"]) for f in failures] == [
        ("line 13", "eval", "bad_record"),
        (2, "eval", "bad_record"),
    ]
    assert mgtool("eval", pope["answers"], *options, "--allow-failures", "2")[0] == 0


def test_failures_of_the_run_are_counted(mgtool, pope, bench, tmp_path) -> None:
    lines = pope["answers"].read_text().splitlines()
    pope["answers"].write_text("\n".join(lines[:-2]) + "\n")
    failure = {"id": 6, "stage": "infer", "reason": "truncated", "detail": "the picture ends too early"}
    bench.write("run/failures.jsonl", [failure])
    options = ("--benchmark", "pope", "--ground-truth", pope["popular"], "--split", "popular", "--json")
    code, out, _ = mgtool("eval", pope["answers"], *options, "--allow-failures", "2")
    counts = json.loads(out)["counts"]
    assert code == 0
    assert (counts["answered"], counts["failed"], counts["missing"]) == (4, 1, 1)


def test_a_second_time_into_the_folder_of_the_answers(mgtool, pope, bench) -> None:
    lines = pope["answers"].read_text().splitlines()
    pope["answers"].write_text("\n".join(lines[:-1]) + '\n{"question_id": 1, "te\n')
    failure = {"id": 6, "stage": "infer", "reason": "truncated", "detail": "the picture ends too early"}
    kept = bench.write("run/failures.jsonl", [failure])
    truth = ("--ground-truth", pope["popular"], "--split", "popular")
    options = ("--benchmark", "pope", *truth, "--out", kept.parent, "--json")
    runs = [mgtool("eval", pope["answers"], *options) for _ in range(3)]
    assert {code for code, _, _ in runs} == {3}
    counts = json.loads(runs[0][1])["counts"]
    assert (counts["failed"], counts["missing"], counts["unreadable"]) == (1, 0, 1)
    assert all(json.loads(out)["counts"] == counts for _, out, _ in runs)
    assert [json.loads(line)["stage"] for line in kept.read_text().splitlines()] == ["infer", "eval"]


def test_what_is_missing_is_named(mgtool, pope) -> None:
    lines = pope["answers"].read_text().splitlines()
    pope["answers"].write_text("\n".join(lines[:5]) + "\n")
    _, _, err = mgtool("eval", pope["answers"], "--benchmark", "pope", "--ground-truth", pope["random"].parent)
    assert "items without an answer: popular/1, popular/2, popular/3, popular/4, popular/5 and 2 more" in err


def test_a_split_that_no_file_has(mgtool, bench, tmp_path) -> None:
    row = {"questionId": 1, "image": "1.jpg", "question": "?", "answers": ["5"]}
    for name in ("train_v1.0.json", "val_v1.0.json"):
        bench.write(f"docvqa/{name}", {"data": [row]})
    answers = bench.write("answers.jsonl", [{"question_id": 1, "text": "5"}])
    options = (answers, "--benchmark", "docvqa", "--ground-truth", tmp_path / "docvqa")
    assert mgtool("eval", *options, "--split", "val")[0] == 0
    code, _, err = mgtool("eval", *options, "--split", "vla")
    assert code == 2
    said = " ".join(err.split())
    assert said == "error: --split vla: no file is named so; there are docvqa/train_v1.0.json, docvqa/val_v1.0.json"


ANY_ROW = {"index": 1, "question": "?", "A": "cat", "B": "dog", "image": "0"}


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("scienceqa", "ScienceQA_TEST.tsv", [ANY_ROW]),  # no column `answer`
        ("mme", "MME.tsv", [ANY_ROW]),
        ("hallusionbench", "MME.tsv", [ANY_ROW]),
        ("llava-bench", "LLaVABench.tsv", [ANY_ROW]),
        ("mm-vet", "LLaVABench.tsv", [ANY_ROW]),
        (
            "refcoco",
            "captions.json",
            {"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]},
        ),
        ("docvqa", "val.json", {"data": [{"questionId": 1}]}),
        ("scienceqa", "problems.json", {"1": {"question": "?", "choices": ["a"], "answer": 4}}),
    ],
)
def test_files_that_are_not_the_benchmarks_are_one_line(mgtool, bench, name: str, file: str, content: Any) -> None:
    answers = bench.write("answers.jsonl", [{"question_id": 1, "text": "5"}])
    code, _, err = mgtool("eval", answers, "--benchmark", name, "--ground-truth", bench.write(file, content))
    assert code == 2
    assert f"{file}: expected" in " ".join(err.split())
    assert "defect" not in err


def test_a_comparison_of_right_items_that_differ(mgtool, bench) -> None:
    """GQA's consistency is over the right answers, of which one run has two and the other one."""
    question = {"isBalanced": True, "question": "?", "imageId": "1", "types": {}}
    entailed = {
        "01": {**question, "answer": "yes", "entailed": ["02"]},
        "02": {**question, "answer": "red", "entailed": ["01"]},
    }
    other = {"03": {**question, "answer": "no", "isBalanced": False}}
    truth = bench.write("val_all_questions.json", {**entailed, **other})
    both = bench.write("both.jsonl", [{"question_id": "01", "text": "yes"}, {"question_id": "02", "text": "red"}])
    one = bench.write("one.jsonl", [{"question_id": "01", "text": "yes"}, {"question_id": "02", "text": "blue"}])
    options = ("--benchmark", "gqa", "--ground-truth", truth, "--compare", one, "--json")
    code, out, _ = mgtool("eval", both, *options)
    assert code == 0
    compared = json.loads(out)["comparison"]["metrics"]["consistency"]
    assert (compared["first"], compared["second"], compared["difference"]) == (0, 100, 100)


def test_compare(mgtool, pope, tmp_path) -> None:
    options = ("--benchmark", "pope", "--ground-truth", tmp_path / "truth", "--out", tmp_path / "out")
    code, table, err = mgtool("eval", pope["answers"], "--compare", pope["worse"], *options)
    assert code == 0
    assert "difference" in table
    assert "items fixed: 6, broken: 0" in err
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert comparison["metrics"]["random.accuracy"]["difference"] == 50
    assert {flip["question_id"] for flip in comparison["flips"]} == {
        f"{s}/{n}" for s in ("random", "popular") for n in (2, 4, 6)
    }


def test_a_run_with_other_options_is_refused(mgtool, pope, tmp_path) -> None:
    options = ("--benchmark", "pope", "--ground-truth", tmp_path / "truth", "--out", tmp_path / "out")
    assert mgtool("eval", pope["answers"], *options)[0] == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "run.json"}
    assert mgtool("eval", pope["answers"], *options)[0] == 0
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "run.json"}
    code, _, err = mgtool("eval", pope["answers"], *options, "--only-answered")
    assert code == 2
    assert "only_answered" in err
    assert mgtool("eval", pope["answers"], *options, "--only-answered", "--overwrite")[0] == 0


def test_slices_are_printed_and_kept(mgtool, pope, tmp_path) -> None:
    options = ("--benchmark", "pope", "--ground-truth", tmp_path / "truth", "--out", tmp_path / "out")
    code, out, _ = mgtool("eval", pope["worse"], *options, "--slice", "split", "--format", "markdown")
    assert code == 0
    assert "| split   |" in out
    slices = json.loads((tmp_path / "out" / "scores.json").read_text())["slices"]
    assert slices["split"]["random"]["value"] == 50


def test_a_mistake_leaves_nothing_behind(mgtool, pope, tmp_path) -> None:
    options = ("--benchmark", "pope", "--out", tmp_path / "out")
    assert mgtool("eval", pope["answers"], *options, "--ground-truth", tmp_path / "nowhere")[0] == 2
    assert mgtool("eval", pope["answers"], *options, "--ground-truth", tmp_path / "truth", "--format", "x")[0] == 2
    assert mgtool("eval", pope["answers"], *options, "--ground-truth", tmp_path / "truth")[0] == 0


def test_explain_variants(mgtool, bench, tmp_path) -> None:
    rows = [{"index": n, "question": "?", "A": "cat", "B": "dog", "answer": "B", "image": "0"} for n in (1, 2)]
    truth = bench.write("MMStar.tsv", rows)
    answers = bench.write("answers.jsonl", [{"question_id": 1, "text": "Answer: B"}, {"question_id": 2, "text": "B"}])
    code, out, err = mgtool("eval", answers, "--benchmark", "mmstar", "--ground-truth", truth, "--explain-variants")
    assert code == 0
    assert out.splitlines()[2].split() == ["1", "0", "1", "0", "1", "Answer:", "B"]
    assert "1 of 2 items" in err


def test_submission(mgtool, bench, tmp_path) -> None:
    asked = bench.write(
        "v2_OpenEnded_test.json", {"questions": [{"question_id": 1, "image_id": 1, "question": "What?"}]}
    )
    answers = bench.write("answers.jsonl", [{"question_id": 1, "text": "A dog."}])
    options = ("--benchmark", "vqav2", "--ground-truth", asked, "--out", tmp_path / "out", "--submission", "-q")
    assert mgtool("eval", answers, *options) == (0, "", "")
    assert json.loads((tmp_path / "out" / "submission.json").read_text()) == [{"question_id": 1, "answer": "dog"}]


def test_the_list_names_files_metric_prompt_and_judge(mgtool) -> None:
    code, out, _ = mgtool("eval", "--list", "--json")
    listed: list[dict[str, Any]] = json.loads(out)
    assert code == 0
    assert {row["name"] for row in listed} >= {"vqav2", "pope", "mme", "mmbench", "coco-detection", "coco-caption"}
    assert all(row[key] for row in listed for key in ("files", "metric", "judge", "variants"))
    by_name = {row["name"]: row for row in listed}
    assert by_name["gqa"]["prompt"] == "{question}\nAnswer the question using a single word or phrase."
    assert by_name["lvis"]["prompt"] is None
    assert by_name["pope"]["variants"][:2] == ["official", "vlmevalkit"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "poep", "--ground-truth", "x"], "--benchmark poep: not known; did you mean pope?"),
        (["--benchmark", "pope"], "--ground-truth is missing: coco_pope_"),
        (["--benchmark", "pope", "--ground-truth", "nowhere.json"], "nowhere.json: no such file or folder"),
        (
            ["--benchmark", "pope", "--variant", "x", "--ground-truth", "x"],
            "--variant x: pope has official, vlmevalkit",
        ),
        ([], "give an answers file and --benchmark NAME"),
    ],
)
def test_mistakes_are_one_line(mgtool, pope, arguments: list[str], message: str) -> None:
    code, out, err = mgtool("eval", pope["answers"], *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_dry_run_counts(mgtool, pope, bench) -> None:
    code, out, _ = mgtool(
        "eval", pope["answers"], "--benchmark", "pope", "--ground-truth", pope["random"].parent, "--dry-run", "--json"
    )
    assert (code, json.loads(out)["items"]) == (0, 12)
    questions = {"v1_0": {"question": "q", "answer": "a", "capability": ["ocr"], "imagename": "1.jpg"}}
    truth = bench.write("mm-vet.json", questions)
    answers = bench.write("vet.json", {"v1_0": "said"})
    code, out, _ = mgtool(
        "eval",
        answers,
        "--benchmark",
        "mm-vet",
        "--ground-truth",
        truth,
        "--judge",
        "openai:gpt",
        "--dry-run",
        "--json",
    )
    assert json.loads(out)["requests"] == 1
    assert json.loads(out)["prompt_tokens_about"] > 300


PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


def pycocotools_ap(truth: Path, records: list[dict[str, Any]]) -> float:
    """AP of box records by pycocotools itself."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(str(truth))
    images = {image["file_name"]: image["id"] for image in coco.dataset["images"]}
    names = {category["name"]: category["id"] for category in coco.dataset["categories"]}
    results = [
        {
            "image_id": images[Path(record["image"]).name],
            "category_id": names[label],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
        }
        for record in records
        for (x0, y0, x1, y1), score, label in zip(record["boxes"], record["scores"], record["labels"], strict=True)
        if label in names
    ]
    scorer = COCOeval(coco, coco.loadRes(results), "bbox")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return float(100 * scorer.stats[0])


def test_a_box_folder_as_detect_writes_it(mgtool, tmp_path) -> None:
    pytest.importorskip("pycocotools")
    boxes, out = tmp_path / "boxes", tmp_path / "scores"
    assert mgtool("detect", PHOTOS / "images", "--out", boxes, "--device", "cpu", "-q")[0] == 0
    truth = PHOTOS / "instances.json"
    command = ("eval", boxes, "--benchmark", "coco-detection", "--ground-truth", truth, "--out", out, "--json")
    code, stdout, _ = mgtool(*command)
    assert code == 0
    result = json.loads(stdout)
    records = [json.loads(line) for path in boxes.glob("boxes-*.jsonl") for line in path.read_text().splitlines()]
    assert result["metrics"]["AP"]["value"] == pytest.approx(pycocotools_ap(truth, records))
    assert result["counts"]["answered"] == len(records) == len(list((PHOTOS / "images").iterdir()))
    assert "<!doctype html>" in (out / "report.html").read_text()


def test_coordinates_in_text_from_the_command_line(mgtool, bench, tmp_path) -> None:
    truth = bench.write("val.jsonl", [{"image": "a.jpg", "question_id": 7, "sent": "dog", "bbox": [0, 0, 10, 10]}])
    answers = bench.write("answers.jsonl", [{"question_id": 7, "text": "[0, 0, 10, 9]", "metadata": {"boxes": 3}}])
    code, stdout, _ = mgtool("eval", answers, "--benchmark", "refcoco", "--ground-truth", truth, "--json")
    assert code == 0
    assert json.loads(stdout)["metrics"]["accuracy"]["value"] == 100
    box = {"image": "a.jpg", "sha256": "", "width": 99, "height": 99, "boxes": [[0, 0, 10, 9]], "scores": [1]}
    boxes = bench.write("boxes-000000.jsonl", [{**box, "labels": ["dog"]}])
    code, stdout, _ = mgtool("eval", boxes, "--benchmark", "refcoco", "--ground-truth", truth, "--json")
    assert code == 0
    assert json.loads(stdout)["metrics"]["accuracy"]["value"] == 100
    code, _, stderr = mgtool("eval", tmp_path / "none.jsonl", "--benchmark", "refcoco", "--ground-truth", truth)
    assert code == 2
    assert "none.jsonl" in stderr


def test_boxes_with_labels_of_no_category_are_counted_and_said(mgtool, bench, tmp_path) -> None:
    categories = [{"id": 1, "name": "cat"}]
    pictures = [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2)]
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}]
    truth = bench.write("truth.json", {"images": pictures, "annotations": objects, "categories": categories})
    sizes = {"width": 20, "height": 20, "scores": [0.9]}
    lines = [
        {"image": "1.jpg", "sha256": "1", "boxes": [[0, 0, 9, 9]], "labels": ["cat"], **sizes},
        {"image": "2.jpg", "sha256": "2", "boxes": [[0, 0, 9, 9]], "labels": ["cake"], **sizes},
    ]
    boxes = bench.write("boxes.jsonl", lines)
    options = ("--benchmark", "coco-detection", "--ground-truth", truth, "--out", tmp_path / "out")
    code, _, err = mgtool("eval", boxes, *options)
    assert code == 0
    said = "1 boxes on 1 pictures have labels that the ground truth has no category for, and count in no AP: cake ×1"
    assert said in " ".join(err.split())
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert said in scores["notes"]
    assert scores["metrics"]["AP"]["value"] == pytest.approx(100)
    kept = [json.loads(line) for line in (tmp_path / "out/scores.jsonl").read_text().splitlines()]
    assert [(round(line["score"]), line["fields"].get("unknown_labels")) for line in kept] == [(1, None), (0, ["cake"])]


def test_a_score_says_what_it_is_of(mgtool, pope, bench, tmp_path) -> None:
    lines = [json.loads(line) for line in pope["answers"].read_text().splitlines()]
    answers = bench.write("run/named.jsonl", [{**line, "model_id": "zebra-7b"} for line in lines])
    record = {
        "command": "infer",
        "options": {"out": "named.jsonl", "max_new_tokens": 16, "prompt": "Say {question}", "decoding": {"beams": 3}},
        "model": {"path": "/models/zebra", "sha256": "ab" * 32},
    }
    bench.write("run/run.json", record)
    options = ("--benchmark", "pope", "--ground-truth", tmp_path / "truth", "--out", tmp_path / "out")
    code, table, _ = mgtool("eval", answers, *options)
    assert code == 0
    assert table.splitlines()[-1].startswith("pope (official), zebra-7b (abababababab); named.jsonl; mgtool ")
    found = json.loads((tmp_path / "out/scores.json").read_text())["provenance"]
    assert (found["models"], found["model_sha256"], found["prompt"]) == (
        ["zebra-7b"],
        "ab" * 32,
        "prompt Say {question}",
    )
    assert found["decoding"] == {"max_new_tokens": 16, "beams": 3}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    page = (tmp_path / "out/report.html").read_text()
    assert all(text in page for text in ("zebra-7b", "abababababab", "beams 3", found["mgtool"], found["date"]))
    assert json.loads((tmp_path / "out/run.json").read_text())["inputs"]["model"]["names"] == ["zebra-7b"]
    bench.write("run/run.json", {**record, "options": {"out": "other.jsonl"}})
    code, out, _ = mgtool("eval", answers, *options[:-2], "--json")
    assert json.loads(out)["provenance"]["model_sha256"] == ""
