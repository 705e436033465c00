"""The command line and Python ask for the same: every parameter is a field of the same name, type and default."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable

import pytest

import mgtool
from mgtool.commands.detect import detect
from mgtool.commands.eval import evaluate
from mgtool.commands.import_ import import_
from mgtool.commands.infer import infer
from mgtool.commands.pack import pack
from mgtool.commands.train import train

OF_THE_STAGE = {"inputs", "answers", "out", "overwrite", "wait"}
"""Arguments of a stage beside its options."""
OF_THE_SCREEN = {"context", "quiet", "as_json", "config", "dry_run", "allow_failures"}
"""What only a command has: how it ends and what it shows."""
COMMANDS: dict[str, tuple[Callable[..., None], type, set[str]]] = {
    "detect": (detect, mgtool.DetectOptions, {"report", "stats"}),
    "pack": (pack, mgtool.PackOptions, {"images", "boxes", "add", "verify", "unpack"}),
    "import": (import_, mgtool.ImportOptions, set()),
    "infer": (infer, mgtool.InferOptions, {"check_parity", "unordered"}),
    "eval": (evaluate, mgtool.EvalOptions, {"format", "show_list", "explain_variants"}),
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
    assert named == set(fields)
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
