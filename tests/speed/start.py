"""How long until something is there: the help, the first picture's boxes, and the demo's end.

    python tests/speed/start.py [--quick] [--json] [--demo CHECKOUT] [--times N]

By turns, in processor time (least of N, as other load is on both) and on the clock. `help` stands against importing
Typer, which parses; `first-picture` against a script that imports onnxruntime and Pillow, loads the same graph and
runs it once; `parsing` is Typer's part of that. `--demo` runs `examples/demo.sh` of another checkout by turns with
this one's, this one's on a terminal.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
PHOTO = ROOT / "examples/photos/images/cat.jpg"
GRAPH = ROOT / "mgtool/detectors/weights/nanodet_g_coco_416.onnx"
PLAIN = f"""
import numpy, onnxruntime, PIL.Image
session = onnxruntime.InferenceSession({str(GRAPH)!r}, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
picture = PIL.Image.open({str(PHOTO)!r}).convert("RGB").resize(given.shape[:1:-1])
session.run(None, {{given.name: numpy.asarray(picture, dtype="float32").transpose(2, 0, 1)[None]}})
"""
DETECT = ("-m", "mgtool", "detect", str(PHOTO), "--out", "-", "--workers", "0", "-q")
PAIRS = {
    "help": (("-m", "mgtool", "--help"), ("-c", "import typer")),
    "first-picture": (DETECT, ("-c", PLAIN)),
    "parsing": (("-m", "mgtool", "detect", str(PHOTO), "--out", "-", "--workers", "x"), ("-c", "pass")),
}
"""What mgtool is asked, and what a user would do instead; the last is refused as its options are read."""


def timed(command, check=True, env=None, cwd=None, run=subprocess.run):
    """Processor seconds and seconds of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        run(command, check=check, capture_output=True, env=env, cwd=cwd)
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.stderr.decode()) from error
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


def row(ours, plain):
    """The least of several turns."""
    mine, theirs = min(one[0] for one in ours), min(one[0] for one in plain)
    clock = {
        "mgtool_clock_s": round(min(one[1] for one in ours), 3),
        "plain_clock_s": round(min(one[1] for one in plain), 3),
    }
    more = {"more_s": round(mine - theirs, 3), "ratio": round(mine / theirs, 2)}
    return {"mgtool_s": round(mine, 3), "plain_s": round(theirs, 3), **more, **clock}


def starts(times):
    """A row for each of `PAIRS`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = {}
    for name, pair in PAIRS.items():
        turns = [
            [timed([sys.executable, *words], check=name != "parsing", env=environment) for words in pair]
            for _ in range(times)
        ]
        found[name] = row(*zip(*turns, strict=True))
    return found


def demos(other, times):
    """The demo of this checkout on a terminal, and of another without, whose bars may not know how."""
    import terminal

    def on_a_terminal(command, env, cwd, **_):
        code, screen = terminal.run(command, size=(80, 24), cwd=cwd, env=env)
        assert code == 0, screen

    turns = []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "mgtool"
        program.write_text(
            f"#!{sys.executable}\nfrom mgtool.commands.main import main\n\nif __name__ == '__main__':\n    main()\n"
        )
        program.chmod(0o755)
        for turn in range(times):
            pair = []
            for checkout, run in ((ROOT, on_a_terminal), (other, subprocess.run)):
                path = f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
                environment = terminal.environment(PYTHONPATH=str(checkout), PATH=path)
                script = [str(checkout / "examples/demo.sh"), f"{folder}/{turn}-{len(pair)}"]
                pair.append(timed(script, env=environment, cwd=folder, run=run))  # worker processes import from there
            turns.append(pair)
    return row(*zip(*turns, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three turns")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--demo", type=Path, metavar="CHECKOUT", help="run the demo, too, against that of another commit"
    )
    parser.add_argument("--times", type=int, default=11, help="turns")
    arguments = parser.parse_args()
    times = 3 if arguments.quick else arguments.times
    found = {"demo": demos(arguments.demo.resolve(), times)} if arguments.demo else starts(times)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{'':14} {'mgtool s':>9} {'plain s':>9} {'more s':>7} {'ratio':>6}   on the clock")
    for name, one in found.items():
        print(
            f"{name:14} {one['mgtool_s']:9.3f} {one['plain_s']:9.3f} {one['more_s']:7.3f} {one['ratio']:6.2f}"
            f"   {one['mgtool_clock_s']} s, {one['plain_clock_s']} s"
        )


if __name__ == "__main__":
    main()
