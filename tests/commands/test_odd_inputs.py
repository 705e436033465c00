"""Pipes, devices and sockets at every path that any command takes: one line or a record, and nobody waits."""

from __future__ import annotations

import functools
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import forked
import pytest
from small_inputs import write_small_inputs
from tiny_models import KIT
from typer.main import get_command

import mgtool
from mgtool.commands.main import app

TINY = Path(mgtool.__file__).parent / "model" / "tiny"
PATHS = {
    "detect": {"inputs", "out", "images", "detector", "tagger", "tag_list", "tag_thresholds", "vocabulary", "boxes",
               "keep", "drop", "ray_runtime_env", "report", "config", "tmp"},
    "eval": {"answers", "ground_truth", "questions", "out", "compare", "images", "boxes", "judge", "config", "tmp"},
    "import": {"out", "checkpoint", "llm", "clip", "convnext", "template", "config", "tmp"},
    "infer": {"inputs", "model", "out", "images", "boxes", "task", "ray_runtime_env", "cache", "profile", "config",
              "tmp"},
    "pack": {"inputs", "out", "images", "boxes", "add", "unpack", "ray_runtime_env", "config", "tmp"},
    "table": {"spec", "out", "data", "config"},
    "train": {"inputs", "model", "out", "evaluate", "trainer", "config", "tmp"},
    "env": set(),
}  # fmt: skip
"""Parameters that are paths, or may be."""
OTHERS = {
    "accumulate",
    "allow_failures",
    "allow_remote",
    "backend",
    "batch_size",
    "benchmark",
    "box_format",
    "by",
    "check",
    "check_parity",
    "choices",
    "cpus_per_actor",
    "device",
    "device_map",
    "devices",
    "dtype",
    "engine",
    "epochs",
    "exif",
    "explain",
    "format",
    "frames",
    "fusion",
    "gpus_per_actor",
    "iou",
    "jobs",
    "judge_budget",
    "judge_price",
    "judge_rate",
    "judge_url",
    "judge_workers",
    "learning_rate",
    "max_boxes",
    "max_length",
    "max_new_tokens",
    "max_pixels",
    "max_shard_size",
    "max_size",
    "max_steps",
    "merge",
    "metric",
    "min_boxes",
    "min_size",
    "missing_boxes",
    "nms",
    "num_actors",
    "num_samples",
    "overlap",
    "preset",
    "prompt",
    "prompts",
    "quantize",
    "rank",
    "ray_address",
    "readers",
    "reencode",
    "resize",
    "samples",
    "save_steps",
    "scales",
    "scorer",
    "seed",
    "shard_size",
    "shuffle",
    "slice",
    "slices",
    "split",
    "stage",
    "stop",
    "system",
    "temperature",
    "tensor_parallel",
    "threshold",
    "top_p",
    "truncate",
    "variant",
    "visualize",
    "where",
    "workers",
    "world_size",
}
"""Parameters that are none."""
KINDS = ("pipe", "device", "socket")
ENDINGS = {"detect": ("", ".jpg", ".json", ".jsonl", ".tsv", ".csv", ".tar", ".parquet", ".zip", ".mp4"),
           "infer": ("", ".json"), "pack": ("", ".jsonl"), "train": (".tar",)}  # fmt: skip
OF_RUNS = ("run.json", "failures.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small whole inputs of each kind."""
    place = tmp_path_factory.mktemp("place")
    write_small_inputs(place)
    source = mgtool.Source(str(place / "c.json"), images=str(place / "photos"))
    mgtool.detect([str(place / "photos")], place / "boxes", mgtool.DetectOptions(detector="tiny", workers=0))
    mgtool.pack([source], place / "tars", mgtool.PackOptions(workers=1))
    return place


def _words(command: str, place: Path) -> dict[str, object]:
    """A command's words, by its parameters."""
    kit = {name: KIT / name for name in ("llm", "clip", "convnext")}
    own: dict[str, dict[str, object]] = {
        "detect": {"inputs": place / "photos", "detector": "tiny", "workers": 0},
        "infer": {"inputs": place / "q.jsonl", "images": place / "photos", "model": "tiny", "max_new_tokens": 1},
        "pack": {"inputs": place / "c.json", "images": place / "photos", "boxes": place / "boxes", "workers": 1},
        "eval": {"answers": place / "answers.jsonl", "benchmark": "custom", "ground_truth": place / "truth.jsonl"},
        "train": {"inputs": place / "tars", "model": TINY, "max_steps": 1, "device": "cpu"},
        "import": {"checkpoint": KIT / "mg_llava.pth", **kit, "template": "vicuna"},
        "table": {"spec": place / "t.toml"},
    }
    return own[command] | {"out": place / "o" / ("a.jsonl" if command == "infer" else "o")}


def _line(command: str, words: dict[str, object]) -> list[object]:
    first = [words[name] for name in ("inputs", "answers", "spec") if name in words]
    rest = {name: value for name, value in words.items() if name not in ("inputs", "answers", "spec")}
    options = (word for name, value in rest.items() for word in (f"--{name.replace('_', '-')}", value))
    return [command, *first, *options, "-q"]


PREFIXES = {"detector": ("boxes:", "hf:", "owlv2:", "mmdet:"), "tagger": ("ram++:",), "judge": ("hf:",)}


def _lines(command: str, name: str, place: Path) -> Iterator[tuple[str, Sequence[object], Path]]:
    """Command lines in which a file stands in a parameter's place."""
    known = {"inputs": ENDINGS.get(command, ("",)), "boxes": (".json", ".jsonl")}
    for ending in known.get(name, (".json",)):
        path = place / f"odd{ending}"
        for prefix in PREFIXES.get(name, ("",)):
            words = _words(command, place) | {name: f"{prefix}{path}"}
            words |= {"engine": "ray"} if name == "ray_runtime_env" else {}
            words |= {"tagger": f"ram++:{KIT / 'mg_llava.pth'}"} if name.startswith("tag_") else {}
            words |= {"benchmark": "llava-bench"} if name == "judge" else {}
            yield f"{command} {name} {prefix}{ending}", _line(command, words), path


def _make(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(path))


def _insist(what: str, words: Sequence[object], place: Path, pipe: Path | None = None) -> None:
    """Run a command; it ends, with one line at most."""
    before = None if pipe is None else functools.partial(forked.write_once, pipe)
    ended = forked.run(words, place, gib=4, before=before)
    shutil.rmtree(place / "o", ignore_errors=True)
    told = [line for line in ended.said.splitlines() if line.startswith("error")]
    assert ended.code in (0, 2, 3), (what, ended)
    assert "defect" not in ended.said, (what, ended)
    assert len(told) <= 1, (what, ended)


def test_every_parameter_is_known() -> None:
    for command, known in get_command(app).commands.items():  # type: ignore[attr-defined]
        texts = {one.name for one in known.params if not getattr(one, "is_flag", False)} - OTHERS
        assert texts == PATHS[command]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "name"), [(c, n) for c, names in PATHS.items() for n in sorted(names)])
def test_a_parameter(command: str, name: str, place: Path) -> None:
    for what, words, path in _lines(command, name, place):
        for kind in KINDS:
            _make(kind, path)
            _insist(f"{what} {kind}", words, place, path if kind == "pipe" else None)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("command", "name", "kind"),
    [("detect", "inputs", "pipe"), ("pack", "boxes", "device"), ("infer", "ray_runtime_env", "device")],
)
def test_some_parameters(command: str, name: str, kind: str, place: Path) -> None:
    what, words, path = next(_lines(command, name, place))
    _make(kind, path)
    _insist(what, words, place, path if kind == "pipe" else None)
    path.unlink()


def _in_folders(place: Path) -> Iterator[tuple[str, Path, str, dict[str, object]]]:
    """A command, a folder that it reads or goes on in, a file there, and the command's words."""
    more = ("tokenizer.model", "generation_config.json", "pytorch_model.bin", "run.json", "chat_template.jinja")
    yield from (("infer", TINY, name, {"model": place / "odd"}) for name in (*more, "tokenizer.json", "config.json"))
    for part in ("llm", "clip", "convnext"):
        yield from (("import", KIT / part, path.name, {part: place / "odd"}) for path in sorted((KIT / part).iterdir()))
    for path in sorted((place / "boxes").iterdir()):
        yield "pack", place / "boxes", path.name, {"boxes": place / "odd"}
        yield "detect", place / "boxes", path.name, {"out": place / "odd"}
    for path in sorted((place / "tars").iterdir()):
        yield "pack", place / "tars", path.name, {"out": place / "odd"}
        yield "verify", place / "tars", path.name, {}
    yield from (("detect", place / "photos", name, {"inputs": place / "odd"}) for name in ("x.json", "x.tar", "x.jpg"))


FAST = {("infer", "tokenizer.json"), ("pack", "run.json"), ("detect", "run.json"), ("pack", "boxes-000000.jsonl")}


def _try_folders(place: Path, *, fast: bool) -> None:
    for command, source, name, changed in _in_folders(place):
        if ((command, name) in FAST) == fast:
            for kind in ("pipe", "device"):
                shutil.copytree(source, place / "odd")
                (place / "odd" / name).unlink(missing_ok=True)
                _make(kind, place / "odd" / name)
                words = ["pack", "--verify", place / "odd", "-q"]
                if command != "verify":
                    words = _line(command, _words(command, place) | changed)
                _insist(f"{command} {name} {kind}", words, place)
                shutil.rmtree(place / "odd")


def test_some_files_in_folders(place: Path) -> None:
    _try_folders(place, fast=True)


@pytest.mark.slow
def test_files_in_folders(place: Path) -> None:
    _try_folders(place, fast=False)
