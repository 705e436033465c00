"""`in_turn.py LINE...`: commands in one process, as libraries take seconds to load; ends at the first that fails."""

import shlex
import sys

from mgtool.commands.main import main


def _code(line: str) -> int:
    sys.argv = shlex.split(line)
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(next((code for code in map(_code, sys.argv[1:]) if code), 0))
