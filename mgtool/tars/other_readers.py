"""The programs that open WebDataset tars, each as its users call it, for checking that they see the same samples."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mgtool.errors import MissingExtraError, OutputError
from mgtool.files.no_links import refuse_links
from mgtool.files.shard_names import UNSPLIT, shard_name, tar_splits
from mgtool.files.temporary import temporary_folder

ENERGON_FOLDER = ".nv-meta"


class CannotStart(Exception):  # noqa: N818 - what it says of tars is nothing
    """A program that does not run here."""


class Reader(NamedTuple):
    """One program.

    Attributes:
        module: what is imported.
        install: what `pip install` takes.
        lines: Python that loads the tars of the folder it runs in into `rows`, for people.
        read: local tars -> the samples' keys and parts, in order.
    """

    module: str
    install: str
    lines: str
    read: Callable[[Sequence[str]], Iterator[tuple[str, dict[str, Any]]]]

    @property
    def installed(self) -> bool:
        """Whether it can be imported."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:
            return False


def require_energon() -> None:
    """Raise a `MissingExtraError` where energon is not installed."""
    if not READERS["energon"].installed:
        raise MissingExtraError("`energon`", "energon")


def prepare_energon(folder: Path) -> None:
    """Let energon's own tool write its index, ``.nv-meta``, beside the tars that `mgtool pack` wrote into a folder.

    Raises:
        MissingExtraError: energon is not installed.
        OutputError: with what its tool says.
    """
    require_energon()
    refuse_links(folder / ENERGON_FOLDER)
    shutil.rmtree(folder / ENERGON_FOLDER, ignore_errors=True)
    options = ["--non-interactive", "--no-progress", "--sample-type", "CrudeWebdataset"]
    splits = tar_splits(tar.name for tar in sorted(folder.glob("*.tar")))
    options += [f"--split-parts={split}:{name}-.*" for split, name in splits]
    command = [sys.executable, "-c", "from megatron.energon.cli.main import main; main()", "prepare", *options]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode or not (folder / ENERGON_FOLDER / "split.yaml").is_file():
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise OutputError(f"{folder}: energon prepare says: {said}")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep what readers print, warn and log away from the user: what is wrong comes as an exception."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _webdataset(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import webdataset

    for row in webdataset.WebDataset(list(urls), shardshuffle=False, empty_check=False):
        yield row["__key__"], {part: data for part, data in row.items() if not part.startswith("__")}


def _datasets(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    files = {"train": list(urls)}
    with temporary_folder("datasets") as cache:
        with _uncounted(datasets.config):
            options = {"data_files": files, "split": "train", "streaming": True, "cache_dir": str(cache)}
            rows = datasets.load_dataset("webdataset", **options).decode(False)
        for row in rows:
            yield row["__key__"], {part: data for part, data in row.items() if not part.startswith("__")}


@contextlib.contextmanager
def _uncounted(config: Any) -> Iterator[None]:
    """Without telling a server that a format is used, which `datasets` does otherwise."""
    before, config.HF_UPDATE_DOWNLOAD_COUNTS = config.HF_UPDATE_DOWNLOAD_COUNTS, False
    try:
        yield
    finally:
        config.HF_UPDATE_DOWNLOAD_COUNTS = before


def _wids(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import wids
    from wids.wids_tar import TarFileReader

    with temporary_folder("wids") as cache:
        shards = []
        for url in urls:
            names = TarFileReader(url, index_file=None, verbose=False).names()
            keys = {Path(name).name.split(".")[0] for name in names}
            shards.append({"url": url, "nsamples": len(keys)})
        rows = wids.ShardListDataset(shards, cache_dir=str(cache), keep=True, transformations=[])
        for number in range(len(rows)):
            row = rows[number]
            yield row["__key__"], {name[1:]: data.read() for name, data in row.items() if not name.startswith("__")}


def _start_ray() -> None:
    """A Ray of this process alone, whatever cluster runs or is named."""
    import ray

    try:
        ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises whatever it likes
        raise CannotStart(f"ray: {error}") from error


def _ray(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import ray

    started = not ray.is_initialized()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if started:
        _start_ray()
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        for row in ray.data.read_webdataset(list(urls), decoder=None).iter_rows():
            yield row["__key__"], {part: data for part, data in row.items() if not part.startswith("__")}
    finally:
        if started:
            ray.shutdown()


def _energon(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    from megatron import energon

    with temporary_folder("energon") as folder:
        for number, url in enumerate(urls):
            (folder / shard_name(UNSPLIT, number, ".tar")).symlink_to(Path(url).resolve())
        prepare_energon(folder)

        class Encoder(energon.DefaultTaskEncoder):  # type: ignore[misc, name-defined, unused-ignore]
            cookers = (energon.Cooker(energon.stateless(lambda sample: sample)),)
            decoder = None

        rows = energon.get_val_dataset(
            folder,
            split_part="train",
            worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=0),
            batch_size=None,
            task_encoder=Encoder(),
        )
        for row in energon.get_loader(rows):
            yield row["__key__"].split("/")[-1], {part: data for part, data in row.items() if not part.startswith("__")}


_TARS = 'sorted(glob.glob("*.tar"))'
READERS = {
    "webdataset": Reader(
        "webdataset",
        "webdataset",
        f'import glob, webdataset\nrows = webdataset.WebDataset({_TARS}, shardshuffle=False).decode("pil")',
        _webdataset,
    ),
    "datasets": Reader(
        "datasets",
        "datasets",
        "import os, datasets  # the head of this file tells it splits and types\n"
        'rows = datasets.load_dataset(os.getcwd(), split="train", streaming=True)',
        _datasets,
    ),
    "wids": Reader(
        "wids",
        "wids",
        "import wids  # reads the tars where they lie: its copies are known by their names alone\n"
        'rows = wids.ShardListDataset("index.json", localname=lambda url: url)',
        _wids,
    ),
    "ray": Reader(
        "ray.data",
        "ray[data]",
        f'import glob, ray\nrows = ray.data.read_webdataset({_TARS}, decoder="PIL").iter_rows()',
        _ray,
    ),
    "energon": Reader(
        "megatron.energon",
        "megatron-energon",
        "from megatron import energon  # after `energon prepare`, or `mgtool pack --energon`\n"
        "class Encoder(energon.DefaultTaskEncoder):\n"
        "    cookers = (energon.Cooker(energon.stateless(lambda sample: sample)),)\n"
        "worker = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)\n"
        'data = energon.get_val_dataset(".", split_part="train", worker_config=worker, batch_size=None, '
        "task_encoder=Encoder())\n"
        "rows = energon.get_loader(data)",
        _energon,
    ),
}
