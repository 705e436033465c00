"""A terminal changes what a person sees, never what a command does."""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path

import forked
import pytest
import reader
import terminal
from rich.console import Console

from mgtool.commands import console

ROOT = Path(__file__).parents[1]
PHOTOS = "examples/photos"
COMMANDS = (
    f"mgtool detect {PHOTOS}/images/cat.jpg --out boxes --workers 0",
    f"mgtool pack {PHOTOS}/conversations.json --images {PHOTOS}/images --missing-boxes empty --out tars",
    "mgtool pack --verify file://{folder}/tars/shard-000000.tar",
    "mgtool pack tars --unpack unpacked",
    "mgtool import --checkpoint parts/mg_llava.pth --llm parts/llm --clip parts/clip --convnext parts/convnext --out m",
    f"mgtool infer {PHOTOS}/images/cat.jpg --task caption --model tiny --max-new-tokens 4 --out answers/answers.jsonl",
    f"mgtool eval boxes --benchmark coco-detection --ground-truth {PHOTOS}/instances.json --out scores --only-answered",
    "mgtool train tars --model m --out trained --stage align --dry-run --device cpu --dtype float32",
)
COLOUR = re.compile(r"\x1b\[(?:\d+;)*[349]\d[;m]")


def _session(folder: Path, *, size: tuple[int, int] | None = None, options: str = "", **variables: str) -> str:
    """Run every command in a folder, on a terminal where a size is given, and give what a person sees."""
    reader.furnish(folder)
    lines = [f"{line.format(folder=folder)} {options}" for line in COMMANDS]
    env = terminal.environment(**variables)
    if size:
        code, screen = terminal.run_in_turn(lines, size=size, cwd=folder, env=env)
    else:
        code, screen = _in_a_file(lines, folder, env)
    terminal.check("\n".join(lines), code, screen, columns=size and size[0])
    return screen


def _in_a_file(lines: list[str], folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """Exit code of commands without a terminal, and all that they say."""
    out = folder.with_name(f"{folder.name}.txt")
    out.touch()
    process = forked.in_turn(lines, folder, env, stdin=os.devnull, out=str(out))
    process.join()
    return process.exitcode or 0, out.read_text()


def _made(folder: Path) -> dict[str, str]:
    """The digest of every file that the commands made, but of those with the paths of their inputs."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands make without a terminal."""
    folder = tmp_path_factory.mktemp("plain")
    assert "\x1b" not in _session(folder)
    return _made(folder)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_on_a_terminal(size: tuple[int, int], plain: dict[str, str], tmp_path: Path) -> None:
    screen = _session(tmp_path, size=size)
    assert terminal.BAR in screen
    assert COLOUR.search(screen)
    assert _made(tmp_path) == plain


def test_without_colours(plain: dict[str, str], tmp_path: Path) -> None:
    screen = _session(tmp_path, size=(80, 24), NO_COLOR="1")
    assert terminal.BAR in screen
    assert not COLOUR.search(screen)
    assert _made(tmp_path) == plain


def test_styles_without_a_terminal_and_no_bar(plain: dict[str, str], tmp_path: Path) -> None:
    screen = _session(tmp_path, FORCE_COLOR="1")
    assert "\x1b[1mmgtool detect\x1b[0m" in screen
    assert terminal.BAR not in screen
    assert _made(tmp_path) == plain
    code, said = _in_a_file(["mgtool detect gone --out o"], tmp_path, terminal.environment(FORCE_COLOR="1"))
    assert code == 2
    assert COLOUR.search(said)


def test_quiet_on_a_terminal(plain: dict[str, str], tmp_path: Path) -> None:
    screen = _session(tmp_path, size=(80, 24), options="-q")
    assert terminal.BAR not in screen
    assert terminal.pieces(screen)[0] == "mgtool train would take"
    assert _made(tmp_path) == plain


@pytest.mark.parametrize("total", [1, 9, 12_345_678])
def test_a_bar_with_a_total_keeps_to_one_line(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=drawn, force_terminal=True, width=80, soft_wrap=True))
    with console.progress("pictures", total=total) as advance:
        for part in (total // 3, total // 3, total - 2 * (total // 3)):
            advance(part)
    lines = terminal.pieces(drawn.getvalue())
    assert all("pictures" in line and len(line.rstrip()) <= 80 for line in lines)
    assert re.search(rf"pictures +{terminal.BAR}+ +{total}/{total} +[\d.]+/s +\d:\d\d:\d\d", lines[-1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_runs_on_a_terminal(tmp_path: Path) -> None:
    demo = str(ROOT / "examples/demo.sh")
    code, screen = terminal.run([demo, "demo-out"], size=(80, 24), cwd=tmp_path)
    terminal.check(demo, code, screen, columns=80)
    for name in ("pope", "gqa", "photos"):
        assert (tmp_path / f"demo-out/scores/{name}/report.html").stat().st_size > 10_000
