"""What holds for the command line as a whole: start-up, help, where values come from, exit codes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from mgtool.commands.exit_codes import allowed_failures, exit_code
from mgtool.commands.main import app
from mgtool.errors import UsageError
from mgtool.files.lock import one_writer

ROOT = Path(__file__).parents[1]
COMMANDS = ("detect", "pack", "import", "infer", "eval")
HEAVY = (
    "torch",
    "transformers",
    "torchvision",
    "timm",
    "mmdet",
    "onnxruntime",
    "scipy",
    "pandas",
    "pyarrow",
    "PIL",
    "av",
    "webdataset",
    "psutil",
    "msgspec",
)


def run(*args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`mgtool` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mgtool.commands.main", *args],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        check=False,
    )


@pytest.mark.parametrize(
    "words", ["--help", "detect --help", "infer --help", "pack --help", "import --help", "eval --help"]
)
def test_help_loads_nothing_heavy(words: str) -> None:
    code = (
        f"import sys; sys.argv = ['mgtool', *{words!r}.split()]\n"
        "from mgtool.commands.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_completion_loads_nothing_heavy() -> None:
    code = f"import sys, mgtool.commands.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    offered = run(env={"_MGTOOL_COMPLETE": "complete_bash", "COMP_WORDS": "mgtool ", "COMP_CWORD": "1"})
    assert offered.returncode in (0, 2)


def _processor_seconds(*command: str) -> float:
    """User and system time of a process: their sum is exact, its division is sampled by ticks."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_at_most_twice_importing_typer_and_rich() -> None:
    # typer.rich_utils imports of rich what a help page is drawn with; by turns, so that other load is on both
    plain, asked = ("-c", "import typer, typer.rich_utils"), ("-m", "mgtool.commands.main", "--help")
    ratios = [_processor_seconds(*asked) / _processor_seconds(*plain) for _ in range(11)]
    assert statistics.median(ratios) <= 2, ratios


def test_every_command_is_listed_and_in_the_readme() -> None:
    listed = run("--help").stdout
    readme = (ROOT / "README.md").read_text()
    names = {command.name for command in app.registered_commands}
    assert set(COMMANDS) <= names
    for name in names:
        assert name is not None
        assert re.search(rf"\b{name}\b", listed)
        assert f"mgtool {name}" in readme


def test_a_wrong_path_is_one_line_and_2(tmp_path: Path) -> None:
    done = run("detect", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_flags_beat_environment_beats_config(tmp_path: Path) -> None:
    config = tmp_path / "mgtool.toml"
    config.write_text('quiet = true\n[detect]\nthreshold = 0.9\nout = "from-config"\n')
    photos = ROOT / "examples/photos/images/coffee.jpg"
    from_config = run("detect", str(photos), "--config", str(config), cwd=tmp_path)
    assert from_config.returncode == 0, from_config.stderr
    assert from_config.stderr == ""
    threshold = {"config": _threshold(tmp_path / "from-config")}
    run("detect", str(photos), "--config", str(config), "--out", "env", env={"MGTOOL_THRESHOLD": "0.8"}, cwd=tmp_path)
    threshold["env"] = _threshold(tmp_path / "env")
    args = ["detect", str(photos), "--config", str(config), "--out", "flag", "--threshold", "0.7"]
    run(*args, env={"MGTOOL_THRESHOLD": "0.8"}, cwd=tmp_path)
    threshold["flag"] = _threshold(tmp_path / "flag")
    assert threshold == {"config": 0.9, "env": 0.8, "flag": 0.7}


def test_every_option_has_a_variable_of_its_name(tmp_path: Path) -> None:
    photo = str(ROOT / "examples/photos/images/coffee.jpg")
    done = run("detect", photo, env={"MGTOOL_JSON": "1", "MGTOOL_OUT": "boxes"}, cwd=tmp_path)
    assert json.loads(done.stdout)["pictures"] == 1


def _threshold(out: Path) -> float:
    found = re.search(r'"threshold":\s*([\d.]+)', (out / "run.json").read_text())
    assert found
    return float(found[1])


def test_an_unknown_name_in_a_config_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "mgtool.toml"
    config.write_text("[detect]\ntreshold = 0.9\n")
    done = run("detect", ".", "--config", str(config))
    assert done.returncode == 2
    assert "treshold" in done.stderr


def test_json_summary_is_one_object_on_stdout(tmp_path: Path) -> None:
    photo = ROOT / "examples/photos/images/coffee.jpg"
    done = run("detect", str(photo), "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


def test_allowed_failures() -> None:
    assert exit_code(0, 10, "0") == 0
    assert exit_code(1, 10, "0") == 3
    assert exit_code(1, 10, "10%") == 0
    assert exit_code(2, 10, "1") == 3
    with pytest.raises(UsageError, match="`allow_failures`"):
        allowed_failures("many", 10)


def test_a_reader_that_goes_away_ends_a_stream_without_a_word(tmp_path: Path) -> None:
    photos = ROOT / "examples/photos/images"
    line = f"{sys.executable} -m mgtool.commands.main detect {photos} --out - -q | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("out", ["-", "/dev/full/out"])
def test_a_full_or_wrong_output_is_one_line_and_2(out: str) -> None:
    photo = ROOT / "examples/photos/images/coffee.jpg"
    command = [sys.executable, "-m", "mgtool.commands.main", "detect", str(photo), "--out", out, "-q"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "cannot be written" in line


def test_the_second_of_two_runs_is_told_of_the_first(tmp_path: Path, mgtool) -> None:
    photo = ROOT / "examples/photos/images/coffee.jpg"
    names = {"detect": "boxes", "pack": "tars"}
    for command, name in names.items():
        with one_writer(tmp_path / name):
            code, _, said = mgtool(command, photo, "--out", tmp_path / name, "--workers", "0", "-q")
        assert code == 2
        [line] = said.splitlines()
        assert line.startswith(f"error: {tmp_path / name} is being written by another run (process {os.getpid()} on ")
        assert "--wait" in line
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("number", "says"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM")], ids=["Ctrl-C", "TERM"]
)
def test_ctrl_c_is_130_and_the_same_command_goes_on(number: signal.Signals, says: str, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(60):
        size = (400 + index, 300)
        Image.new("RGB", size, (index, 0, 0)).save(pictures / f"{index:03d}.png")
    command = [
        sys.executable,
        "-m",
        "mgtool.commands.main",
        "detect",
        str(pictures),
        "--out",
        str(tmp_path / "out"),
        "-q",
    ]
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    options = ["--batch-size", "1", "--workers", "1"]
    process = subprocess.Popen([*command, *options], env=env, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out").glob(".*.journal.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1] == f"error: {says}; the same command goes on from here"
    assert not list((tmp_path / "tmp").iterdir())
    subprocess.run(command, check=True)
    [shard] = (tmp_path / "out").glob("boxes-*.jsonl")
    assert len(shard.read_bytes().splitlines()) == 60


@pytest.mark.parametrize("out", ["-", "limited"])
def test_a_limit_on_file_sizes_is_one_line_and_2(out: str, tmp_path: Path) -> None:
    photos = ROOT / "examples/photos/images"
    command = [
        sys.executable,
        "-m",
        "mgtool.commands.main",
        "detect",
        str(photos),
        "--out",
        out,
        "--workers",
        "0",
        "-q",
    ]
    with (tmp_path / "stdout").open("wb") as stdout:
        done = subprocess.run(
            command,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
        )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert "cannot be written" in line
