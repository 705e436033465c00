"""Wheel and sdist, tried as a user would: built, installed afresh on every Python there is, used, and weighed.

    python tests/wheels.py [--python PROGRAM ...] [--resolve VERSION ...]

The wheel is made from the sdist. Each environment takes several GB while it is tried. Where a Python is not at hand,
`--resolve` asks uv whether all that mgtool needs can be installed there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "examples/photos"
KNOWN = ("3.11", "3.12", "3.13", "3.14")
USES = (
    "--version",
    "--help",
    "detect photos/images/cat.jpg --out boxes",
    "pack photos/conversations.json --images photos/images --missing-boxes empty --out tars",
    "infer photos/images/cat.jpg --task caption --boxes boxes --model tiny --max-new-tokens 4 --out a/answers.jsonl",
    "eval boxes --benchmark coco-detection --ground-truth photos/instances.json --only-answered --out scores",
)
"""What is run of an installed mgtool, far from its sources."""
_GPU = re.compile(r"(nvidia|cuda|triton)")
_UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def build(folder: Path) -> Path:
    """The wheel of the sdist of this checkout."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def try_on(python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel for one Python into an environment of its own, use it there, and tell what it takes."""
    env = folder / "env"
    subprocess.run([python, "-m", "venv", str(env)], check=True)
    pip = [str(env / "bin/python"), "-m", "pip", "install", "--no-cache-dir", "-c", str(ROOT / "constraints.txt")]
    said = subprocess.run([*pip, str(wheel)], check=True, capture_output=True, text=True).stdout
    shutil.copytree(PHOTOS, folder / "photos", ignore=shutil.ignore_patterns("report"))
    for words in USES:
        subprocess.run([str(env / "bin/mgtool"), *words.split()], check=True, cwd=folder, capture_output=True)
    sizes = dict(downloads(said))
    total, gpu = sum(sizes.values()), sum(size for name, size in sizes.items() if _GPU.match(name))
    on_disk = sum(path.lstat().st_size for path in env.rglob("*") if not path.is_dir())
    print(
        f"{python}: {len(USES)} commands run; {len(sizes)} packages, {total / 1e9:.2f} GB to download "
        f"({gpu / 1e9:.2f} GB of it for GPUs), {on_disk / 1e9:.1f} GB on disk"
    )


def downloads(said: str) -> Iterator[tuple[str, float]]:
    """Each file that pip tells of, with its bytes.

    >>> list(downloads("Downloading a-1.whl (1.5 kB)"))
    [('a-1.whl', 1500.0)]
    """
    for name, size, unit in re.findall(r"Downloading (\S+) \(([\d.]+) (bytes|kB|MB|GB)\)", said):
        yield name, float(size) * _UNITS[unit]


def resolve(version: str) -> None:
    """Ask for everything that mgtool needs on a Python that is not here."""
    words = ["pip", "compile", "--quiet", "--only-binary", ":all:", "--python-version", version, "pyproject.toml"]
    done = subprocess.run(["uv", *words], check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"Python {version}: {done.stderr}")
    found = [line for line in done.stdout.splitlines() if re.match(r"\w", line)]
    print(f"Python {version}: {len(found)} packages, a wheel of each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    there = [name for version in KNOWN if (name := shutil.which(f"python{version}"))]
    parser.add_argument("--python", nargs="*", default=there, metavar="PROGRAM")
    parser.add_argument("--resolve", nargs="*", default=KNOWN, metavar="VERSION")
    arguments = parser.parse_args()
    for version in arguments.resolve if shutil.which("uv") else ():
        resolve(version)
    for python in arguments.python:
        with tempfile.TemporaryDirectory() as folder:
            try_on(python, build(Path(folder) / "dist"), Path(folder))


if __name__ == "__main__":
    main()
