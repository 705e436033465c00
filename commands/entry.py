"""Where the program begins: until a command runs, Ctrl-C ends it silently, as it ends any program."""

import signal


def main() -> None:
    """`mgtool`, whose imports and whose end are no place for a traceback."""
    may_be_ended = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    if may_be_ended:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mgtool.commands.main import main as run

    run()
