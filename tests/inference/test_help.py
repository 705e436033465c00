"""What `mgtool infer --help` says, as a reader sees it; `help.txt` is the page that was agreed on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "help.txt"


def test_the_help_page_is_the_one_that_was_agreed_on() -> None:
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "mgtool.commands.main", "infer", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    shown = [line.rstrip() for line in done.stdout.splitlines()]
    assert shown == PAGE.read_text(encoding="utf-8").splitlines()
