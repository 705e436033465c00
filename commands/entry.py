"""Where the program begins: until a command runs, Ctrl-C ends it silently, as it ends any program."""

import os
import signal
import sys
from typing import TextIO


def main() -> None:
    """`mgtool`, whose imports and whose end are no place for a traceback."""
    may_be_ended = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    if may_be_ended:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_what_is_closed()
    from mgtool.commands.main import main as run

    run()


def is_by_number(stream: TextIO) -> bool:
    """Whether a stream stands in for one that the shell closed."""
    return isinstance(getattr(stream, "name", ""), int)


def _open_what_is_closed() -> None:
    """Streams that a shell closed, lest files take their numbers: stdin is empty, what is written to stdout fails."""
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
