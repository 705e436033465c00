"""examples/cluster: the shell scripts run against stand-ins of the launchers, the YAML is what it should be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

FOLDER = Path(__file__).parents[1] / "examples" / "cluster"
MGTOOL = f"""#!/bin/bash
exec {sys.executable} -m mgtool.commands.main "$@"
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do SLURM_PROCID=$rank "$@" & done
wait
"""
TORCHRUN = """#!/bin/bash
while [[ $1 != --no-python ]]; do
  [[ $1 == --nproc-per-node=* ]] && count=${1#*=}
  shift
done
shift
for ((rank = 0; rank < count; rank++)); do RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$count "$@" & done
wait
"""
ARRAY = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "2", "SLURM_ARRAY_TASK_STEP": "1"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, their boxes as one process finds them, and the launchers' stand-ins."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "photos").mkdir()
    with Image.open(Path(__file__).parent / "images" / "coffee.jpg") as picture:
        for number in range(5):
            picture.crop((number, 0, number + 200, 150)).save(folder / "photos" / f"{number}.png")
    (folder / "bin").mkdir()
    for name, text in {"mgtool": MGTOOL, "srun": SRUN, "torchrun": TORCHRUN}.items():
        path = folder / "bin" / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    _run(folder, folder / "bin" / "mgtool", "one")
    return folder


def _run(work: Path, script: Path, out: str, **variables: str) -> None:
    path = f"{work / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": path, **variables}
    command = [script, "detect", "photos", "--out", out, "--detector", "nanodet", "--workers", "0", "-q"]
    subprocess.run(command, cwd=work, env=environment, check=True, timeout=120)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}


def test_tasks_of_a_job_array(work: Path) -> None:
    for task in ("2", "1"):
        variables = {**ARRAY, "SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_NTASKS": "1"}
        _run(work, FOLDER / "slurm-array.sh", "array", **variables)
    assert _files(work / "array") == _files(work / "one")


@pytest.mark.parametrize(
    ("script", "variables"),
    [("slurm-job.sh", {"SLURM_NTASKS": "2"}), ("torchrun.sh", {"GPUS": "2"}), ("claim.sh", {"SHARES": "3"})],
)
def test_one_job(script: str, variables: dict[str, str], work: Path) -> None:
    _run(work, FOLDER / script, script, **variables)
    assert _files(work / script) == _files(work / "one")


def test_scripts_are_sound() -> None:
    for script in FOLDER.glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
        assert script.stat().st_mode & stat.S_IXUSR
        assert (
            f"`{script.name}" in (FOLDER / "README.md").read_text() or script.name in (FOLDER / "README.md").read_text()
        )


def test_a_job_of_kuberay_has_one_image_and_one_disk_for_all() -> None:
    job = yaml.safe_load((FOLDER / "kuberay-job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1
    mounts = {pod["containers"][0]["volumeMounts"][0]["mountPath"] for pod in pods}
    assert [word for word in job["spec"]["entrypoint"].split() if word.startswith("/")] == [
        "/data/photos",
        "/data/boxes",
    ]
    assert mounts == {"/data"}


def test_a_cluster_of_machines_is_one_that_ray_knows() -> None:
    pytest.importorskip("ray")
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((FOLDER / "ray-cluster.yaml").read_text())))


def test_the_plan_on_paper_is_what_its_script_prints() -> None:
    printed = subprocess.run([sys.executable, FOLDER / "plan.py"], capture_output=True, text=True, check=True).stdout
    assert printed in (FOLDER / "README.md").read_text(encoding="utf-8")
    # 2 * 6.7e9 weights * 640 tokens + 1.2e12 a picture, at 0.4 * 989e12 a second: by hand 6.9 hours for 10^6
    assert "| GPU hours to prefill, 7B | 7 | 686 | 6,864 |" in printed
