"""`mgtool`: the table of commands, and what becomes of errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mgtool.commands import absent_options, console, help_page
from mgtool.commands.exit_codes import DEFECT, DONE, WRONG_USAGE
from mgtool.commands.options import Command, of_the_world
from mgtool.errors import MgtoolError

COMMANDS = {
    "import": ("import_", "import_"),
    "detect": ("detect", "detect"),
    "pack": ("pack", "pack"),
    "infer": ("infer", "infer"),
    "eval": ("eval", "evaluate"),
    "train": ("train", "train"),
    "table": ("table", "table"),
    "env": ("env", "env"),
}
"""By name, the module beside this one and its function; in the order in which they are used."""


class Group(TyperGroup):
    """The table of commands."""

    def every_command(self) -> Mapping[str, Any]:
        """All of them, also where only one is asked for."""
        if len(self.commands) == len(COMMANDS):
            return self.commands
        everything: Any = typer.main.get_command(app_of(*COMMANDS))
        return everything.commands  # type: ignore[no-any-return]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """In mgtool's own groups."""
        formatter.write(help_page.page(self, ctx))

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **kwargs: Any) -> Any:
        """As Typer, alone with its help; a reader of the help that went away has seen enough."""
        with console.read_enough():
            return super().make_context(info_name, args or ["--help"], *more, **kwargs)


_WrongUsage: type[Exception] = typer.BadParameter.__mro__[1]  # has no name of its own in Typer


def _version(wanted: bool) -> None:
    if wanted:
        from mgtool.runs.run_file import versions

        found = versions("onnxruntime", "torchvision", "numpy", "pillow", "hotcoco", "webdataset")
        typer.echo(f"mgtool {found.pop('mgtool', 'not installed')}")
        typer.echo(", ".join(f"{name} {version}" for name, version in found.items()))
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find objects, pack data sets, ask and score multi-granularity vision-language models."""


def app_of(*names: str) -> typer.Typer:
    """A command line of these commands alone; each takes its time to import."""
    app = typer.Typer(
        name="mgtool",
        cls=Group,
        help=root.__doc__,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for name in names:
        module, function = COMMANDS[name]
        home = importlib.import_module(f"mgtool.commands.{module}")
        if "_MGTOOL_COMPLETE" in os.environ:
            from mgtool.commands import completion

            completion.attach(name, getattr(home, function))
        app.command(name, cls=getattr(home, "COMMAND", Command))(getattr(home, function))
    return app


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault("app", app_of(*COMMANDS))


def main() -> None:
    """The entry point: every error that is the user's or the data's is one line; the rest is a defect."""
    asked = [word for word in sys.argv[1:2] if word in COMMANDS]
    try:
        code = app_of(*(asked or COMMANDS))(standalone_mode=False, prog_name="mgtool")
        with console.read_enough():
            sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else DONE)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except MgtoolError as error:
        console.fail(" ".join(str(error).split()))
        sys.exit(error.exit_code)
    except _WrongUsage as error:
        console.fail(_explained(error))
        sys.exit(WRONG_USAGE)
    except Exception as error:  # noqa: BLE001 - the last resort: a defect of mgtool is said to be one
        _show_traceback(error)
        if isinstance(error, OSError) and (told := of_the_world(error)):
            console.fail(str(told))
            sys.exit(told.exit_code)
        where = _innermost(error)
        console.fail(f"a defect of mgtool: {type(error).__name__}: {error} ({where}); MGTOOL_DEBUG=1 shows all")
        sys.exit(DEFECT)


def _show_traceback(error: Exception) -> None:
    if os.environ.get("MGTOOL_DEBUG"):
        from rich.traceback import Traceback

        console.err.print(Traceback.from_exception(type(error), error, error.__traceback__))


def _explained(error: Any) -> str:
    """What Typer says of wrong words, in one line, with where they are explained."""
    where = error.ctx.command_path if error.ctx is not None else "mgtool"
    option = getattr(error, "option_name", "")
    if instead := absent_options.instead_of(where.rpartition(" ")[2], option):
        return f"No such option: {option}: {instead}"
    text = " ".join(error.format_message().split()).replace(" Value error,", "").rstrip(".")
    return f"{text}; `{where} -h` explains"


def _innermost(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"  # noqa: PTH119


if __name__ == "__main__":
    main()
