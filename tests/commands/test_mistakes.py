"""A mistake is refused with what was meant, and stands in nobody's way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import mgtool as library
from mgtool.errors import UsageError

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "examples/photos"
CAT = PHOTOS / "images/cat.jpg"

with Image.open(CAT) as _picture:
    _SIZE = {"width": _picture.width, "height": _picture.height}


def _boxes(path: Path, labels: list[str]) -> Path:
    sides = [[10.0 * n, 10, 10 * n + 50, 90] for n in range(len(labels))]
    record = {"image": "cat.jpg", "sha256": "", **_SIZE, "boxes": sides}
    path.write_text(json.dumps({**record, "scores": [0.5] * len(labels), "labels": labels}) + "\n")
    return path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--keep", "persn"), "--keep persn: no label of --detector nanodet; did you mean person?"),
        (("--keep", "cat,dgo"), "--keep dgo: no label of --detector nanodet; did you mean dog?"),
        (("--drop", "persn"), "did you mean person?"),
        (("--detector", "tiny", "--keep", "objct"), "did you mean object?"),
        (("--keep", "persn", "--device", "cpu,cpu"), "did you mean person?"),
        (("--detector", "nanodt"), "did you mean nanodet?"),
        (("--preset", "mg-lava"), "did you mean mg-llava?"),
        (("--format", "jsnol"), "did you mean jsonl?"),
        (("--treshold", "0.5"), "--threshold"),
    ],
)
def test_a_misspelt_word_is_refused_with_the_right_one(
    words: tuple[str, ...], says: str, tmp_path: Path, mgtool
) -> None:
    code, _, said = mgtool("detect", CAT, "--workers", 0, "--out", tmp_path / "out", *words)
    [line] = said.splitlines()
    assert code == 2
    assert line.startswith("error: ")
    assert says in line
    code, _, said = mgtool("detect", CAT, "--workers", 0, "--out", tmp_path / "out", "-q")
    assert (code, said) == (0, "")


def test_labels_are_known_whatever_their_case_and_a_shipped_list_for_what_it_shares(tmp_path: Path, mgtool) -> None:
    for number, words in enumerate((("--keep", "Person,CAT"), ("--keep", "lvis"))):
        code, _, said = mgtool("detect", CAT, "--workers", 0, "--out", tmp_path / str(number), "-q", *words)
        assert (code, said) == (0, "")


def test_a_label_of_known_boxes_may_be_kept_beside_the_detectors(tmp_path: Path, mgtool) -> None:
    boxes = _boxes(tmp_path / "known.jsonl", ["teapot", "spoon"])
    words = ("detect", CAT, "--workers", 0, "--out", tmp_path / "out", "--boxes", boxes)
    assert mgtool(*words, "--keep", "teapot,cat", "-q")[0] == 0
    code, _, said = mgtool(*words, "--keep", "teapto", "--overwrite")
    assert code == 2
    assert "did you mean teapot?" in said


def test_a_label_that_no_box_of_a_file_has_is_said(tmp_path: Path, mgtool) -> None:
    boxes = _boxes(tmp_path / "boxes.jsonl", ["teapot"])
    words = ("detect", CAT, "--workers", 0, "--out", tmp_path / "out", "--detector", f"boxes:{boxes}")
    code, told, said = mgtool(*words, "--keep", "teapto", "--json")
    assert code == 0, said
    [(reason, found)] = json.loads(told)["left_out"].items()
    assert "keep" in reason
    assert found["examples"] == ["teapto; did you mean teapot?"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("thresold = 0.9", "no command has an option thresold; did you mean threshold?"),
        ("[detct]\nthreshold = 0.9", "there is no command and no option detct; did you mean detect?"),
        ("[detect]\nkep = 'cat'", "`mgtool detect` has no option kep; did you mean keep?"),
        ("max-new-token = 3", "did you mean max-new-tokens?"),
    ],
)
def test_a_misspelt_key_of_a_config_is_refused(config: str, says: str, tmp_path: Path, mgtool) -> None:
    (tmp_path / "c.toml").write_text(config)
    code, _, said = mgtool("detect", CAT, "--out", tmp_path / "out", "--config", tmp_path / "c.toml")
    assert code == 2
    assert says in said


def test_a_config_may_hold_what_other_commands_take(tmp_path: Path, mgtool) -> None:
    (tmp_path / "c.toml").write_text("max_new_tokens = 3\nquiet = true\n[train]\nepochs = 1\n[detect]\nworkers = 0\n")
    code, _, said = mgtool("detect", CAT, "--out", tmp_path / "out", "--config", tmp_path / "c.toml")
    assert (code, said) == (0, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--task", "capton"), "--task capton: not known; did you mean caption?"),
        (("--task", "pop"), "--task pop: not known; did you mean pope?"),
        (("--prompt", "{qestion}"), "--prompt names {qestion}, which none of the first 39 items has"),
        (("--prompt", "{question} of {categry}"), "did you mean category?"),
        (("--dtype", "bfloat"), "--dtype"),
    ],
)
def test_infer_refuses_before_a_model_is_loaded(
    words: tuple[str, ...], says: str, tmp_path: Path, mgtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgtool.stages.infer.answered", None)
    questions, images = PHOTOS / "pope_questions.jsonl", PHOTOS / "images"
    code, _, said = mgtool(
        "infer", questions, "--images", images, "--model", "tiny", "--out", tmp_path / "a.jsonl", *words
    )
    assert code == 2
    [line] = said.splitlines()
    assert says in line
    assert not list(tmp_path.iterdir())


COMMANDS = {
    "detect": ("--workers", "0", "--out", "out"),
    "pack": ("--workers", "1", "--out", "out"),
    "infer": ("--model", "tiny", "--task", "vqa", "--max-new-tokens", "1", "--out", "out/a.jsonl"),
}


def _questions(path: Path, names: list[str]) -> Path:
    lines = [{"question_id": n, "image": name, "text": "What is it?"} for n, name in enumerate(names)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_forgotten_images_are_said_at_once_and_block_nothing(
    command: str, tmp_path: Path, mgtool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    questions = _questions(tmp_path / "q.jsonl", ["cat.jpg"] * 100 + ["there.jpg"] * 2)
    (tmp_path / "there.jpg").write_bytes(CAT.read_bytes())
    code, _, said = mgtool(command, questions, *COMMANDS[command])
    [line] = said.splitlines()
    assert code == 2
    assert re.match(
        r"error: --images is missing: of the first 100 items none .*cat\.jpg\): .*--allow-failures 100%", line
    )
    (tmp_path / "there.jpg").unlink()
    _questions(questions, ["cat.jpg"] * 2)
    assert mgtool(command, questions, *COMMANDS[command])[0] == 2
    code, _, said = mgtool(command, questions, *COMMANDS[command], "--images", PHOTOS / "images", "-q")
    assert (code, said) == (0, "")


def test_all_may_fail_where_that_is_allowed_and_some_always(tmp_path: Path, mgtool) -> None:
    questions, words = _questions(tmp_path / "q.jsonl", ["cat.jpg"] * 3), ("--workers", 0, "-q")
    code, _, said = mgtool("detect", questions, "--out", tmp_path / "all", *words, "--allow-failures", "100%")
    assert (code, said) == (0, "")
    assert len((tmp_path / "all/failures.jsonl").read_text().splitlines()) == 3
    (tmp_path / "there.jpg").write_bytes(CAT.read_bytes())
    _questions(questions, ["cat.jpg"] * 99 + ["there.jpg", "cat.jpg"])
    assert mgtool("detect", questions, "--out", tmp_path / "some", *words)[0] == 3


def test_python_is_told_the_same(tmp_path: Path) -> None:
    questions = _questions(tmp_path / "q.jsonl", ["cat.jpg"])
    with pytest.raises(UsageError, match="`images` is missing"):
        library.detect(questions, tmp_path / "out", library.DetectOptions(workers=0))
    found = library.detect(questions, tmp_path / "out", library.DetectOptions(workers=0, allow_missing=True))
    assert found.failures == 1


def test_misspelt_benchmarks_fields_and_columns(tmp_path: Path, mgtool) -> None:
    truth = tmp_path / "t.jsonl"
    truth.write_text('{"question_id": 1, "question": "What?", "answer": "cat", "colour": "red"}\n')
    answers = tmp_path / "a.jsonl"
    answers.write_text('{"question_id": 1, "prompt": "What?", "text": "cat", "model_id": "m"}\n')
    words = ("eval", answers, "--ground-truth", truth, "--benchmark")
    for more, says in (
        (("coco-detecton",), "did you mean coco-detection?"),
        (("custom", "--metric", "exct"), "did you mean exact?"),
        (("custom", "--by", "color"), "did you mean colour?"),
        (("custom", "--slice", "color"), "did you mean colour?"),
        (("pope", "--variant", "oficial"), "did you mean official?"),
        (("custom", "--format", "markdwon"), "did you mean markdown?"),
    ):
        code, _, said = mgtool(*words, *more)
        assert code == 2, more
        assert says in said, more


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("detect -h", 0),
        ("eval --list", 0),
        ("--version", 0),
        (f"detect {CAT} --dry-run --out x --json", 0),
        (f"detect {PHOTOS}/images --workers 0 --out - -q", 141),
    ],
    ids=lambda value: str(value).split("/")[0],
)
def test_what_a_reader_that_goes_away_leaves(words: str, code: int, tmp_path: Path) -> None:
    for reader in ("true", "head -n 1"):
        line = f"{sys.executable} -m mgtool.commands.main {words} | {reader} > /dev/null; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=os.environ)
        assert (done.returncode, done.stderr) == (code, ""), reader


def test_a_misspelt_variable_is_said(tmp_path: Path, mgtool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGTOOL_THRESOLD", "0.9")
    monkeypatch.setenv("MGTOOL_DEBUG", "1")
    code, _, said = mgtool("detect", CAT, "--workers", 0, "--out", tmp_path / "out")
    assert code == 0
    assert "MGTOOL_THRESOLD: no option has this variable; did you mean THRESHOLD?" in said.replace("\n", " ")
    assert "DEBUG" not in said
