"""What `--help` says: options in groups that all commands share, at the terminal's width, with examples that run."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from mgtool.commands.help_texts import EXAMPLES, GROUPS, OF_COMMANDS

_LAST = "More"
_TYPES: dict[type, str] = {int: "N", float: "X", Path: "PATH"}
_SPEC = 28


def page(command: Any, context: Any) -> str:
    """The whole help of a command, or of the table of commands."""
    width = min(max(shutil.get_terminal_size().columns, 40), 120)
    usage = textwrap.wrap(f"Usage: {' '.join(_usage(command, context))}", width, subsequent_indent="    ")
    parts = ["\n".join(usage), *_about(command.help or "", width)]
    if subcommands := getattr(command, "commands", None):
        parts.append(_section("Commands", _summaries(subcommands), width))
    for title, params in _grouped(command, context).items():
        parts.append(_section(title, [_entry(param, context) for param in params], width))
    if command.name in EXAMPLES:
        parts.append(f"{_bold('Examples')}\n" + "\n".join(_example(line, width) for line in EXAMPLES[command.name]))
    return "\n\n".join(parts) + "\n"


def _usage(command: Any, context: Any) -> Iterator[str]:
    yield context.command_path
    if hasattr(command, "commands"):
        yield "COMMAND [OPTIONS]"
        return
    yield from (_spec(param) for param in command.params if param.param_type_name == "argument")
    yield from (_spec(param) for param in command.params if param.param_type_name == "option" and param.required)
    yield "[OPTIONS]"


def _about(text: str, width: int) -> list[str]:
    return [textwrap.fill(" ".join(part.split()), width) for part in text.split("\n\n")]


def _summaries(commands: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, (command.help or "").strip().split("\n\n")[0]) for name, command in commands.items()]


def _grouped(command: Any, context: Any) -> dict[str, list[Any]]:
    """Parameters by group, in the order in which people look for them."""
    homes = {field: title for title, fields in GROUPS.items() for field in fields.split()}
    before, after = ("Inputs", "Output", "Model"), ("Speed", "Many machines", _LAST)
    found: dict[str, list[Any]] = {title: [] for title in before}
    for param in command.get_params(context):
        home = OF_COMMANDS.get((command.name, param.name), homes.get(param.name))
        own = getattr(param, "rich_help_panel", None)
        found.setdefault(home or (own if own not in (None, "Run", "Common") else _LAST), []).append(param)
    middle = [title for title in found if title not in (*before, *after)]
    return {title: found[title] for title in (*before, *middle, *after) if found.get(title)}


def _entry(param: Any, context: Any) -> tuple[str, str]:
    """How a parameter is written, and what it does."""
    text = " ".join((param.help or "").split())
    choices = _choices(param)
    if choices and not all(choice in text + _spec(param) for choice in choices):
        text = f"{text} ({', '.join(map(str, choices))})"
    if "default" not in text and (default := _default(param)):
        text = f"{text} [{default}]"
    return _spec(param), text


def _default(param: Any) -> str:
    default = param.default
    if callable(default) or default in (None, False, "", ()) or default == [] or getattr(param, "required", False):
        return ""
    return "" if getattr(param, "show_default", True) is False else str(default)


def _spec(param: Any) -> str:
    """``-q, --quiet``, ``--out DIR`` or ``INPUT...``."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name).upper().replace("[", "").replace("]", "")
    names = ", ".join(sorted(param.opts, key=len))
    if getattr(param, "is_flag", False):
        return names
    return f"{names} {param.metavar or _value(param)}"


def _value(param: Any) -> str:
    choices = "|".join(_choices(param))
    if choices:
        return choices if len(choices) <= _SPEC // 2 else "NAME"
    return next((name for kind, name in _TYPES.items() if kind in _annotations(param)), "TEXT")


def _choices(param: Any) -> tuple[str, ...]:
    return tuple(str(one) for kind in _annotations(param) if get_origin(kind) is Literal for one in get_args(kind))


def _annotations(param: Any) -> tuple[Any, ...]:
    """The type of a parameter, or those it may be."""
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", str)
    return (annotation, *(() if get_origin(annotation) is Literal else get_args(annotation)))


def _section(title: str, entries: Iterable[tuple[str, str]], width: int) -> str:
    lines = [_bold(title)]
    for spec, text in entries:
        wrapped = textwrap.wrap(text, max(width - _SPEC - 2, 20), break_on_hyphens=False) or [""]
        if len(spec) > _SPEC - 2:
            lines.append(f"  {spec}")
        else:
            lines.append(f"  {spec:{_SPEC}}{wrapped.pop(0)}".rstrip())
        lines += [" " * (_SPEC + 2) + line for line in wrapped]
    return "\n".join(lines)


def _example(line: str, width: int) -> str:
    """A command that can be copied, over several lines where the terminal is narrow."""
    lines, *options = re.split(r" (?=--)", line)
    parts = [lines]
    for option in options:
        if len(parts[-1]) + len(option) > width - 8:
            parts.append(option)
        else:
            parts[-1] += f" {option}"
    return " \\\n".join(f"  {'  ' if number else ''}{part}" for number, part in enumerate(parts))


def _bold(text: str) -> str:
    return text if os.environ.get("NO_COLOR") else typer.style(text, bold=True)
