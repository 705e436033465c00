"""A terminal session of the real commands as an SVG for the README.

`python tests/report/recording.py examples/photos/report/session.svg`
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import terminal

ROOT = Path(__file__).parents[2]
SIZE = (100, 40)
COMMANDS = (
    "mgtool detect examples/photos/images --keep persn --out boxes",
    "mgtool detect examples/photos/images --out boxes",
    "mgtool eval boxes --benchmark coco-detection --ground-truth examples/photos/instances.json --out scores",
)
_PIECE = re.compile(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])")
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def main() -> None:
    """Run the commands on a terminal and draw what a person sees at the end of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the SVG to write")
    out = parser.parse_args().out
    session = Console(record=True, width=SIZE[0], file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "examples").symlink_to(ROOT / "examples")
        for command in COMMANDS:
            session.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            _, screen = terminal.run(["bash", "-c", command], size=SIZE, cwd=Path(folder))
            session.print(Text.from_ansi(seen(screen)))
            session.print()
    # the fonts of the page would come from the net
    out.write_text(_FONTS.sub("", session.export_svg(title="mgtool")), encoding="utf-8")
    sys.stdout.write(f"{out}: {out.stat().st_size:,} bytes\n")


def seen(screen: str) -> str:
    """What stands on a terminal in the end: lines that were drawn anew show their last state, colours stay."""
    lines, row = [""], 0
    for piece in _PIECE.split(screen):
        if piece == "\n":
            row += 1
            lines += [""] * (row >= len(lines))
        elif piece.endswith("K") and piece.startswith("\x1b"):
            lines[row] = ""
        elif piece.endswith("A") and piece.startswith("\x1b"):
            row = max(0, row - int(piece[2:-1] or 1))
        elif piece.endswith("m") or not piece.startswith("\x1b"):
            lines[row] += piece.replace("\r", "")
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    main()
