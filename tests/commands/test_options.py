"""The command line and Python ask for the same: every parameter is a field of the same name, type and default."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

import mgtool
from mgtool.commands.detect import detect
from mgtool.commands.eval import evaluate
from mgtool.commands.import_ import import_
from mgtool.commands.infer import infer
from mgtool.commands.pack import pack
from mgtool.commands.table import table
from mgtool.commands.train import train

OF_THE_STAGE = {"inputs", "answers", "out", "overwrite", "wait"}
"""Arguments of a stage beside its options."""
OF_THE_SCREEN = {"context", "quiet", "as_json", "config", "tmp", "dry_run", "allow_failures", "strict"}
"""What only a command has: how it ends, what it shows, and where it keeps what it needs for a while."""
OF_ALLOW_FAILURES = {"allow_missing"}
"""Fields that `--allow-failures 100%` sets."""
COMMANDS: dict[str, tuple[Callable[..., None], type, set[str]]] = {
    "detect": (detect, mgtool.DetectOptions, {"report", "stats"}),
    "pack": (pack, mgtool.PackOptions, {"images", "boxes", "add", "explain", "verify", "readers", "unpack"}),
    "import": (import_, mgtool.ImportOptions, set()),
    "infer": (infer, mgtool.InferOptions, {"check_parity", "unordered"}),
    "eval": (evaluate, mgtool.EvalOptions, {"format", "show_list", "show_variants", "explain_variants"}),
    "table": (table, mgtool.TableOptions, {"spec", "format"}),
    "train": (train, mgtool.TrainOptions, {"devices"}),
}
"""Function, options, and parameters that choose what the command does or how it shows it."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_is_a_field_of_the_same_name_type_and_default(command: str) -> None:
    function, options, own = COMMANDS[command]
    fields = {field.name: field for field in dataclasses.fields(options)}
    types, parameters = typing.get_type_hints(options), typing.get_type_hints(function)
    asked = inspect.signature(function).parameters
    named = set(asked) - OF_THE_STAGE - OF_THE_SCREEN - own
    assert named == set(fields) - OF_ALLOW_FAILURES
    for name in named:
        assert parameters[name] == types[name], name
        assert asked[name].default in (_default(fields[name]), inspect.Parameter.empty), name


def _default(field: dataclasses.Field[object]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_frozen_and_every_field_is_told(command: str) -> None:
    _, options, _ = COMMANDS[command]
    assert options.__dataclass_params__.frozen
    assert all(re.search(rf"\b{field.name}\b", options.__doc__ or "") for field in dataclasses.fields(options))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("x = " + "[" * 50_000, "nested too deeply"),
        ("workers = " + "9" * 5000, "digits"),
        ("pack = 3", "give a table"),
        ("[workers]\na = 1", "workers: give a value"),
        ("[pack]\nimages = [1, 2]", "images: give a value"),
        ("[pack.images]\nx = 1", "images: give a value"),
        ("[pack]\nworkers = 0\n[pack.overwrite]\nx = 1", "overwrite: give a value"),
        ("[pack]\nadd = [[1]]", "add: give values"),
    ],
)
def test_what_a_config_cannot_say_is_one_line(config: str, says: str, tmp_path: Path, mgtool) -> None:
    (tmp_path / "c.toml").write_text(config)
    code, _, said = mgtool("pack", tmp_path, "--out", tmp_path / "out", "--config", tmp_path / "c.toml")
    assert code == 2, said
    [line] = said.splitlines()
    assert "--config" in line
    assert says in line


LONG = "9" * 5000


@pytest.mark.parametrize(
    "words",
    [
        ("pack", "--allow-failures", LONG),
        ("pack", "--allow-failures", f"{LONG[:400]}%"),
        ("pack", "--shard-size", f"{LONG[:400]}GB"),
        ("pack", "--shuffle", LONG[:30]),
        ("pack", "--where", "(" * 3000 + "1" + ")" * 3000),
        ("pack", "--where", "boxes == '\udcff'"),
        ("pack", "--split", "a=nan,b=1"),
        ("detect", "--rank", LONG, "--world-size", "2"),
        ("detect", "--world-size", LONG[:20]),
        ("detect", "--world-size", "100000"),
        ("detect", "--threshold", "nan"),
        ("detect", "--min-size", "nan"),
        ("detect", "--min-size", "inf"),
        ("detect", "--vocabulary", "cat,\udcff"),
    ],
    ids=lambda words: " ".join(words)[:40].encode("ascii", "replace").decode(),
)
def test_a_value_that_nobody_would_type_is_one_short_line(words: tuple[str, ...], tmp_path: Path, mgtool) -> None:
    command, option, *_ = words
    code, _, said = mgtool(command, tmp_path, "--out", tmp_path / "out", "--workers", "0", *words[1:])
    assert code == 2, said
    assert "defect" not in said
    assert option.strip("-") in said.replace("\n", " ")
    assert len(said) < 2000
