"""What all commands share: options, and where their values come from."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from mgtool.commands import console, help_page, signals, summaries
from mgtool.commands.console import short
from mgtool.commands.entry import is_by_number
from mgtool.commands.exit_codes import DONE, INTERRUPTED, READER_LEFT, allows_missing
from mgtool.errors import MgtoolError, OutputError, UsageError, nearest
from mgtool.files import temporary
from mgtool.files.regular import open_input
from mgtool.runs.ray_cluster import Engine

Options = TypeVar("Options")


MOST_CONFIG_BYTES = 1 << 20
_PREFIX = "MGTOOL_"
_FILE_ERRORS = "EACCES EEXIST EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE ENOENT ENOTDIR ENOTEMPTY EPERM EROFS ESTALE"
_BEYOND = 1 << 63
_WORDS = "benchmark choices device dtype drop format keep preset prompt split stop system variant vocabulary where"
_TEXTS = frozenset(_WORDS.split())
"""Options whose value is a text and no name of a file, but perhaps of one that is there."""
_OF_FILES = frozenset(getattr(errno, name, None) for name in re.findall(r"\w+", _FILE_ERRORS))
"""What can be wrong with a file that the user's world has."""

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


_TMP = "mgtool.tmp"
_COMMON, _RUN = "Common", "Run"


class Command(TyperCommand):
    """A subcommand whose every option can also come from ``MGTOOL_<OPTION>``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for param in self.params:
            if param.name:
                console.FLAGS[param.name] = _flag(param)
            if param.param_type_name == "option" and param.name and not param.envvar:
                param.envvar = f"{_PREFIX}{_spelled(param).upper().replace('-', '_')}"
                param.show_envvar = False  # type: ignore[attr-defined]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """In mgtool's own groups."""
        formatter.write(help_page.page(self, ctx))

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """As Typer; a reader of the help that went away has seen enough."""
        with console.read_enough():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run; a reader of stdout that went away ends it with 141, a full disk with one line, Ctrl-C with 130."""
        summaries.begin()
        if not ctx.params.get("quiet"):
            _note_unknown_variables(ctx)
        _refuse_odd(ctx.params)
        try:
            with signals.as_interrupts(), temporary.all_in_one_folder(ctx.meta.get(_TMP)):
                return super().invoke(ctx)
        except BrokenPipeError as error:
            console.close_stdout()
            told = ctx.params.get("dry_run") or ctx.params.get("show_list")
            raise typer.Exit(DONE if told else READER_LEFT) from error
        except OSError as error:
            if (told := of_the_world(error)) is None:
                raise
            raise told from error
        except KeyboardInterrupt as error:
            how = f"ended by {error}" if isinstance(error, signals.Ended) else "interrupted"
            console.fail(f"{how}; the same command goes on from here")
            raise typer.Exit(INTERRUPTED) from error


def of_the_world(error: OSError) -> MgtoolError | None:
    """What is wrong with a file, a disk or stdout, in a line; None where it may be a defect."""
    if error.errno in _OF_DISKS:
        console.close_stdout()
        return OutputError(f"the output cannot be written: {error.strerror}")
    if error.errno == errno.EBADF and is_by_number(sys.stdout):
        console.close_stdout()
        return OutputError("the output cannot be written: stdout is closed")
    if error.filename is None and isinstance(error, FileNotFoundError):  # as `tempfile` has it
        return UsageError("tmp", f"is missing, or a disk is full: {error.strerror}")
    if error.filename is None or error.errno not in _OF_FILES:
        return None
    return MgtoolError(f"{error.filename}: {error.strerror}")


def _note_unknown_variables(context: typer.Context) -> None:
    """Say which variables look like options and are none; they may be another program's, so nothing is refused."""
    own = {param.envvar for param in context.command.params}
    odd = [name for name in sorted(os.environ) if name.startswith(_PREFIX) and name not in own]
    if not odd:
        return
    variables = {param.envvar for command in _all_commands(context).values() for param in command.params}
    known = {str(name).removeprefix(_PREFIX) for name in variables if name} | {"DEBUG"}
    for name in odd:
        word = name.removeprefix(_PREFIX)
        if word not in known and (hint := nearest(word, known)):
            console.say(f"{name}: no option has this variable{hint}")


def _all_commands(context: typer.Context) -> Mapping[str | None, Any]:
    root: Any = context.find_root().command
    return root.every_command() if hasattr(root, "every_command") else {context.info_name: context.command}


def _refuse_odd(values: Mapping[str, Any]) -> None:
    """Refuse numbers that nothing computes with, and texts that are none."""
    for name, value in values.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                raise UsageError(name, f"{one}: give a number")
            if isinstance(one, int) and abs(one) >= _BEYOND:
                raise UsageError(name, f"{short(str(one)) if abs(one) < 10**4000 else 'it'}: too large a number")
            if name in _TEXTS and isinstance(one, str) and not _is_text(one):
                raise UsageError(name, f"{short(one)}: is no text, as it is not UTF-8")


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value) or os.path.exists(value)  # noqa: PTH110


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with open_input(path) as file:
            text = file.read(MOST_CONFIG_BYTES + 1)
        if len(text) > MOST_CONFIG_BYTES:
            raise UsageError("config", f"{path}: larger than {MOST_CONFIG_BYTES:,} bytes")
        return tomllib.loads(text.decode("utf-8"))
    except FileNotFoundError as error:
        raise UsageError("config", f"{path}: no such file") from error
    except RecursionError as error:
        raise UsageError("config", f"{path}: nested too deeply") from error
    except (OSError, ValueError) as error:
        raise UsageError("config", f"{path}: {error}") from error


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make a TOML file's values the defaults: its top level, then its table named as the command.

    By hand: click takes a mapping of defaults; pydantic-settings would declare and parse every option a second time.
    """
    if path is None or context.resilient_parsing:
        return path
    values = _toml(path)
    command = context.info_name or ""
    known = {_spelled(param): param.name for param in context.command.params}
    own = values.get(command, {})
    if not isinstance(own, dict):
        raise UsageError("config", f"{path}: {command}: give a table of options, as in [{command}]")
    _refuse_unknown_keys(values, own, context, path)
    tables = {key for key, value in values.items() if isinstance(value, dict)}
    shared = {key: value for key, value in values.items() if key not in tables or _normal(key) in known}
    params = {param.name: param for param in context.command.params}
    merged = {known[_normal(key)]: value for key, value in {**shared, **own}.items() if _normal(key) in known}
    for name, value in merged.items():
        _check_configured(params[name], value, path)
    context.default_map = {**(context.default_map or {}), **merged}
    return path


def _refuse_unknown_keys(values: Mapping[str, Any], own: Mapping[str, Any], context: typer.Context, path: Path) -> None:
    """Refuse keys that are no option, tables that are no command's, and in the command's own what it does not have."""
    commands = _all_commands(context)
    options = {_spelled(param) for command in commands.values() for param in command.params}
    here = sorted(_spelled(param) for param in context.command.params)
    for key, value in values.items():
        if _normal(key) in options or key in commands:
            continue
        if isinstance(value, dict):
            hint = nearest(key, filter(None, commands)) or nearest(key, sorted(options))
            raise UsageError("config", f"{path}: there is no command and no option {short(key)}{hint}")
        hint = nearest(_normal(key), here) or nearest(_normal(key), sorted(options))
        raise UsageError("config", f"{path}: no command has an option {short(key)}{hint}")
    for key in own:
        if _normal(key) not in here:
            command = context.info_name
            raise UsageError("config", f"{path}: `mgtool {command}` has no option {short(key)}{nearest(key, here)}")


def _check_configured(param: Any, value: Any, path: Path) -> None:
    """Refuse what a command line could not say: a table, or several values where there is one."""
    many = param.multiple or param.nargs != 1
    values = value if isinstance(value, list) and many else [value]
    if not all(isinstance(one, str | int | float) for one in values):
        raise UsageError("config", f"{path}: {_spelled(param)}: give {'values' if many else 'a value'}")


def _normal(key: str) -> str:
    return key.strip("-").replace("_", "-")


def _spelled(param: Any) -> str:
    return _normal(_flag(param))


def _flag(param: Any) -> str:
    """What stands on the command line for a parameter; an argument's metavar."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name).removesuffix("...")
    return str(max(param.opts, key=len))


def model_folder(given: str) -> Path:
    """The folder that a model's name means."""
    from mgtool.inputs import model_folders

    return model_folders.model_folder(given)


Model = Annotated[
    Path,
    typer.Option(
        "--model",
        metavar="PATH|tiny",
        parser=model_folder,
        help="A model's folder, as `mgtool import` writes it, or tiny: the shipped one of the example scenes.",
    ),
]
AllowAbsolute = Annotated[bool, typer.Option("--allow-absolute", help="Records may name absolute paths of pictures.")]
AllowRemote = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-remote",
        metavar="SCHEME[:HOST]",
        help="Records may name URLs: https, s3, gs or hf, of hosts like HOST. May be given again.",
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        metavar="N",
        min=1,
        show_default=False,
        help="Pictures and videos of more pixels are failures, before they are decoded (default: 178,956,970).",
        rich_help_panel=_RUN,
    ),
]
Rank = Annotated[
    str,
    typer.Option(
        "--rank",
        metavar="N|any|slurm|torchrun",
        help="This run's share; the last two read both numbers.",
        rich_help_panel=_RUN,
    ),
]
WorldSize = Annotated[
    int, typer.Option("--world-size", min=1, help="Shares: each run writes one of them.", rich_help_panel=_RUN)
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="ray: processes of a Ray cluster do shares, or shards, as they come free.",
        rich_help_panel=_RUN,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="The cluster (default: $RAY_ADDRESS, or one that runs here, or a new one).",
        rich_help_panel=_RUN,
    ),
]
NumActors = Annotated[
    int | None,
    typer.Option("--num-actors", metavar="N", help="Most processes of the cluster at once.", rich_help_panel=_RUN),
]
GpusPerActor = Annotated[
    float | None,
    typer.Option("--gpus-per-actor", metavar="N", help="GPUs of each, also parts of one.", rich_help_panel=_RUN),
]
CpusPerActor = Annotated[
    float | None, typer.Option("--cpus-per-actor", metavar="N", help="Cores of each.", rich_help_panel=_RUN)
]
RayRuntimeEnv = Annotated[
    Path | None,
    typer.Option(
        "--ray-runtime-env", metavar="FILE.json", help="Environment that Ray makes for them.", rich_help_panel=_RUN
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.", rich_help_panel=_COMMON)]
Json = Annotated[
    bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.", rich_help_panel=_COMMON)
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_load_config,
        is_eager=True,
        metavar="FILE.toml",
        help="Defaults for the options, under them the environment and the flags.",
        rich_help_panel=_COMMON,
    ),
]


def _keep_tmp(context: typer.Context, folder: str | None) -> str | None:
    context.meta[_TMP] = folder
    return folder


Tmp = Annotated[
    str | None,
    typer.Option(
        "--tmp",
        callback=_keep_tmp,
        metavar="DIR",
        help="Folder for temporary files (default: $TMPDIR, or the system's).",
        rich_help_panel=_COMMON,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done; load no weights.", rich_help_panel=_COMMON)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start afresh instead of going on.", rich_help_panel=_COMMON)
]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Wait for another run that writes the same output to end.", rich_help_panel=_COMMON),
]
BoxFormat = Annotated[
    str,
    typer.Option(
        "--box-format",
        metavar="F",
        help="What a box file's numbers are: xyxy, xywh or cxcywh, in parts of 1 with -normalised behind it.",
    ),
]
AllowFailures = Annotated[
    str,
    typer.Option(
        "--allow-failures", metavar="N|P%", help="Failed items that still give exit code 0.", rich_help_panel=_COMMON
    ),
]

Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit code 3 where an input holds anything that is not used.",
        rich_help_panel=_COMMON,
    ),
]


def asked(options: type[Options], context: typer.Context) -> Options:
    """The options of a stage, from the command's parameters of the same names."""
    names = {field.name for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    given = {**context.params, "allow_missing": allows_missing(context.params.get("allow_failures", "0"))}
    return options(**{name: value for name, value in given.items() if name in names})
