"""A day with a GPU in one command: its tests and every speed script, the dearest results first.

    make gpu [PYTHON=python3.12] [WHEELS=folder] [DEVICE=cpu] [QUICK=1] [SECONDS=480] [FRESH=1]

Every part's result stands in ``results/CARD.json`` as soon as it is there, with a table beside it in ``CARD.md`` and,
where the README has a place for it, there. What was cut goes on at the next call; results of other sources begin anew.
Nothing is installed, but from a folder of wheels where one is named, and then into ``build/gpu``. Needs no package
itself, so that it can say which part lacks which.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SPEED = ROOT / "tests" / "speed"
WHEELHOUSE = ROOT / "build" / "gpu"
LIBRARY = ("torch", "torchvision", "transformers", "timm", "numpy", "PIL", "msgspec", "safetensors", "scipy", "psutil")
BEGIN, END = "<!-- gpu results -->", "<!-- end of gpu results -->"
DISTRIBUTIONS = {"PIL": "pillow", "av": "av", "cv2": "opencv-python"}


class Part(NamedTuple):
    """One result.

    Attributes:
        name: in the results.
        command: arguments of the interpreter; ``DEVICE`` and ``QUICK`` are filled in.
        seconds: after which it is cut.
        on_card: it computes on the card, so that a rehearsal is of use.
        needs: modules beside those of the library.
    """

    name: str
    command: tuple[str, ...]
    seconds: int
    on_card: bool = False
    needs: tuple[str, ...] = ()


def script(name: str, *options: str) -> tuple[str, ...]:
    return (f"tests/speed/{name}.py", "--json", *options)


PARTS = (
    Part("infer, 3.8B", script("gpu_infer", "--device", "DEVICE", "QUICK"), 120, True),
    Part("model, 7B", script("model_gpu", "--device", "DEVICE", "QUICK", "--sizes", "vicuna-7b"), 90, True),
    Part("tests", ("-m", "pytest", "-q", "-p", "no:cacheprovider", "COLLECT", "-m", "gpu"), 90, True, ("pytest",)),
    Part("infer, 7B", script("gpu_infer", "--device", "DEVICE", "QUICK", "--size", "vicuna-7b"), 120),
    Part("model, 13B", script("model_gpu", "--device", "DEVICE", "QUICK", "--sizes", "vicuna-13b"), 90),
    Part("operations", script("operations"), 40),
    Part("infer on the CPU", script("infer", "--quick", "--only", "pope"), 60),
    Part("parity", script("parity", "--quick"), 40),
    Part("models of transformers", script("transformers_models", "--quick"), 60),
    Part("regions", script("regions", "--quick"), 30),
    Part("pictures", script("pictures", "--quick"), 30),
    Part("detect", script("detect", "--quick"), 60),
    Part("eval", script("eval", "--quick"), 40, needs=("pycocotools", "hotcoco")),
    Part("pack", script("pack", "--quick"), 60, needs=("webdataset",)),
    Part("import memory", script("import_memory", "--quick"), 60),
    Part("coverage", script("coverage", "--quick"), 40),
    Part("vLLM on the CPU", script("vllm_cpu", "--quick"), 90, needs=("vllm",)),
)


def main() -> None:
    options = parsed()
    environment = prepared(options)
    about = facts(environment, options)
    path = options.out / f"{about['card']}.json"
    known = {} if options.fresh else read(path, about)
    parts = [part for part in PARTS if part.on_card] if options.quick else list(PARTS)
    found = lacking(parts, environment, options)
    began = time.monotonic()
    for part in parts:
        if "result" in known.get(part.name, {}):
            continue
        if part.name in found:
            known[part.name] = {"lacks": found[part.name]}
        elif (left := options.seconds - (time.monotonic() - began)) < 1:
            known[part.name] = {"cut": True}
        else:
            known[part.name] = done(part, environment, options, left if options.quick else min(left, part.seconds))
        write(path, {**about, "parts": known})
        print(f"{part.name}: {said(known[part.name])}", file=sys.stderr, flush=True)
    write_table(options, about, known)
    print(path)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose packages are used")
    parser.add_argument("--device", default="cuda", help="cuda; cpu for a rehearsal")
    parser.add_argument("--quick", action="store_true", help="small models, and only what is for a card")
    parser.add_argument("--seconds", type=float, default=480, help="for everything")
    parser.add_argument("--fresh", action="store_true", help="leave out what an earlier call found")
    parser.add_argument("--wheels", type=Path, help="folder that missing packages may be installed from")
    parser.add_argument("--out", type=Path, default=SPEED / "results")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    return parser.parse_args()


def prepared(options: argparse.Namespace) -> dict[str, str]:
    """The environment of every part: this folder's sources, and wheels that may be installed."""
    paths = [str(ROOT), *([str(WHEELHOUSE)] if WHEELHOUSE.is_dir() or options.wheels else [])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    variables |= {"TOKENIZERS_PARALLELISM": "false"}
    if options.wheels is not None:
        missing = sorted({name for names in lacking(PARTS, variables, options).values() for name in names})
        for name in missing:
            wheel = [options.python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade"]
            wheel += ["--find-links", str(options.wheels), "--target", str(WHEELHOUSE), DISTRIBUTIONS.get(name, name)]
            subprocess.run(wheel, check=False)
    return variables


def asked(code: str, variables: dict[str, str], options: argparse.Namespace) -> Any:
    """What a piece of Python prints as JSON, in the interpreter that is used."""
    ended = subprocess.run([options.python, "-c", code], env=variables, check=True, capture_output=True)
    return json.loads(ended.stdout)


def lacking(parts: Any, variables: dict[str, str], options: argparse.Namespace) -> dict[str, list[str]]:
    """Modules that are not there, by part."""
    names = sorted({*LIBRARY, *(name for part in parts for name in part.needs)})
    code = f"import importlib.util as u, json; print(json.dumps([n for n in {names} if u.find_spec(n) is None]))"
    absent = set(asked(code, variables, options))
    found = {part.name: [name for name in (*LIBRARY, *part.needs) if name in absent] for part in parts}
    return {name: missing for name, missing in found.items() if missing}


_FACTS = """
import json, platform, importlib.metadata as m
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
try:
    import torch
    card = torch.cuda.get_device_name() if {cuda} and torch.cuda.is_available() else None
except ImportError: card = None
names = ("torch", "transformers", "timm", "vllm")
print(json.dumps(dict(card=card, versions=dict(python=platform.python_version(), **{{n: version(n) for n in names}}))))
"""


def facts(variables: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """The card, versions, and which sources these are."""
    about = asked(_FACTS.format(cuda=options.device != "cpu"), variables, options)
    if about["card"] is None and options.device != "cpu":
        raise SystemExit("no GPU here that torch can use: DEVICE=cpu QUICK=1 rehearses on the CPU")
    about["card"] = re.sub(r"[^A-Za-z0-9]+", "-", about["card"] or "cpu").strip("-").lower()
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True)
    return {**about, "revision": revision.stdout.strip() or None, "quick": options.quick}


def read(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Results of an earlier call with the same sources and versions."""
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return before["parts"] if all(before.get(key) == value for key, value in about.items()) else {}


def done(part: Part, variables: dict[str, str], options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """A part's result, or why there is none."""
    given = {"DEVICE": options.device, "QUICK": "--quick" if options.quick else None}
    given |= {"COLLECT": "--collect-only" if options.quick else None}
    command = [given.get(word, word) for word in part.command] + (gpu_tests() if part.name == "tests" else [])
    began = time.monotonic()
    try:
        ended = subprocess.run(
            [options.python, *(word for word in command if word is not None)],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"cut": True, "seconds": round(time.monotonic() - began, 1)}
    took = round(time.monotonic() - began, 1)
    if missing := re.search(r"No module named '([\w.]+)'", ended.stderr):
        return {"lacks": [missing[1]], "seconds": took}
    result = last_object(ended.stdout)
    if ended.returncode or result is None:
        return {"error": (ended.stderr or ended.stdout).strip().splitlines()[-1:] or ["nothing"], "seconds": took}
    return {"result": result, "seconds": took}


def last_object(text: str) -> Any:
    """What a script printed as JSON, or the last line of another program."""
    lines = text.strip().splitlines()
    for one in (text, *reversed(lines)):
        try:
            found = json.loads(one)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {"said": lines[-1]} if lines else None


def gpu_tests() -> list[str]:
    """Files with tests for a card; others would be imported for nothing."""
    files = (ROOT / "tests").rglob("test_*.py")
    return sorted(str(file.relative_to(ROOT)) for file in files if "pytest.mark.gpu" in file.read_text())


def said(found: dict[str, Any]) -> str:
    """One line on a part."""
    if "lacks" in found:
        return f"lacks {', '.join(found['lacks'])}"
    if "cut" in found:
        return "cut; the next call goes on here"
    if "error" in found:
        return f"failed: {found['error'][0]}"
    return f"done in {found['seconds']:g} s"


def write(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(record, indent=1) + "\n")
    aside.replace(path)


def table(about: dict[str, Any], parts: dict[str, Any]) -> str:
    """Lines of the README."""
    versions = about["versions"]
    lines = [f"On {about['card']}, torch {versions['torch']}, transformers {versions['transformers']}:", ""]
    lines += ["| | | questions/s | tokens/s | of peak: towers | prefill | decode |", "|---|---|---|---|---|---|---|"]
    for name, found in parts.items():
        rows = found.get("result", {})
        for workload, row in rows.items() if isinstance(rows, dict) else ():
            if isinstance(row, dict) and "stages" in row:
                peak = row.get("share_of_peak", {})
                shares = [f"{peak[stage]:.0%}" if stage in peak else "" for stage in ("towers", "prefill", "decode")]
                rates = [f"{row['questions'] / row['seconds']:.1f}", f"{row['tokens_per_s']:.0f}"]
                lines.append("| " + " | ".join([name, workload, *rates, *shares]) + " |")
    return "\n".join(lines) + "\n"


def write_table(options: argparse.Namespace, about: dict[str, Any], parts: dict[str, Any]) -> None:
    """Beside the results, and into the README where it has a place for it."""
    text = table(about, parts)
    (options.out / f"{about['card']}.md").write_text(text)
    readme = options.readme.read_text() if options.readme.is_file() else ""
    if options.device != "cpu" and BEGIN in readme and END in readme:
        before, after = readme.split(BEGIN)[0], readme.split(END)[1]
        options.readme.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


if __name__ == "__main__":
    main()
