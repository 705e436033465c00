"""`mgtool`: the table of commands, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mgtool.commands import completion, console, help_page
from mgtool.commands.detect import detect
from mgtool.commands.env import env
from mgtool.commands.eval import evaluate
from mgtool.commands.eval_options import EvalCommand
from mgtool.commands.import_ import import_
from mgtool.commands.infer import infer
from mgtool.commands.options import DEFECT, DONE, WRONG_USAGE, Command
from mgtool.commands.pack import pack
from mgtool.commands.table import table
from mgtool.commands.train import train
from mgtool.errors import MgtoolError


class Group(TyperGroup):
    """The table of commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """In mgtool's own groups."""
        formatter.write(help_page.page(self, ctx))

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **kwargs: Any) -> Any:
        """As Typer, alone with its help; a reader of the help that went away has seen enough."""
        with console.read_enough():
            return super().make_context(info_name, args or ["--help"], *more, **kwargs)


app = typer.Typer(
    name="mgtool",
    cls=Group,
    help="Find objects, pack data sets, ask and score multi-granularity vision-language models.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_WrongUsage: type[Exception] = typer.BadParameter.__mro__[1]  # has no name of its own in Typer


def _version(wanted: bool) -> None:
    if wanted:
        from mgtool.runs.run_file import versions

        found = versions("onnxruntime", "torchvision", "numpy", "pillow", "hotcoco", "webdataset")
        typer.echo(f"mgtool {found.pop('mgtool', 'not installed')}")
        typer.echo(", ".join(f"{name} {version}" for name, version in found.items()))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find objects, pack data sets, ask and score multi-granularity vision-language models."""


COMMANDS: dict[str, Callable[..., None]] = {
    "import": import_,
    "detect": detect,
    "pack": pack,
    "infer": infer,
    "eval": evaluate,
    "train": train,
    "table": table,
    "env": env,
}
"""In the order in which they are used."""

for _name, _function in COMMANDS.items():
    if "_MGTOOL_COMPLETE" in os.environ:
        completion.attach(_name, _function)
    app.command(_name, cls=EvalCommand if _name == "eval" else Command)(_function)


def main() -> None:
    """The entry point: every error that is the user's or the data's is one line; the rest is a defect."""
    try:
        code = app(standalone_mode=False, prog_name="mgtool")
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
        if os.environ.get("MGTOOL_DEBUG"):
            from rich.traceback import Traceback

            console.err.print(Traceback.from_exception(type(error), error, error.__traceback__))
        where = _innermost(error)
        console.fail(f"a defect of mgtool: {type(error).__name__}: {error} ({where}); MGTOOL_DEBUG=1 shows all")
        sys.exit(DEFECT)


def _explained(error: Any) -> str:
    """What Typer says of wrong words, in one line, with where they are explained."""
    where = error.ctx.command_path if error.ctx is not None else app.info.name
    text = " ".join(error.format_message().split()).replace(" Value error,", "").rstrip(".")
    return f"{text}; `{where} -h` explains"


def _innermost(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"  # noqa: PTH119


if __name__ == "__main__":
    main()
