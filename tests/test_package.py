"""What a wheel puts into site-packages."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_installs_only_mgtool(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mgtool"}
    for needed in (
        "mgtool/commands/main.py",
        "mgtool/py.typed",
        "mgtool/detectors/weights/nanodet_g_coco_416.onnx",
        "mgtool/detectors/weights/rtmdet_scenes_256.onnx",
        "mgtool/detectors/vocabularies/coco.txt",
        "mgtool/model/tiny/model.safetensors",
    ):
        assert needed in names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mgtool").rglob("*.py")}
    assert sources <= set(names), "a package is missing in [tool.setuptools]"
    assert any(name.startswith("mgtool/report/templates/") for name in names)
    assert any(name.startswith("mgtool/benchmarks/rubrics/") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
