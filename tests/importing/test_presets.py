"""Published sizes by name, from a server that speaks the hub's interface."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from served_hub import COMMIT, ServedHub, served_hub
from tiny_models import KIT

from mgtool.errors import InputError, UsageError
from mgtool.files.hashing import file_sha256
from mgtool.importing.downloads import checkpoint_of, fetched, weights_of
from mgtool.importing.options import ImportOptions
from mgtool.importing.presets import CHECKPOINTS, CLIP, CONVNEXT, PRESETS
from mgtool.inputs import hub_files
from mgtool.runs.progress import Progress

SIZES = ("Phi3-3.8B", "Vicuna-7B", "Vicuna-13B", "Llama3-8B", "Yi1.5-34B")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The kit's tiny parts under the names of the published ones."""
    weights = tmp_path / "weights"
    for size in SIZES:
        (weights / size).mkdir(parents=True)
        shutil.copy(KIT / "mg_llava.pth", weights / size / "sft.pth")
        (weights / size / "pretrain.pth").write_bytes(b"other stage")
    repositories = {preset.llm: KIT / "llm" for preset in PRESETS.values()}
    repositories |= {CHECKPOINTS: weights, CLIP: KIT / "clip", CONVNEXT: KIT / "convnext"}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with served_hub(repositories) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.mark.parametrize("name", PRESETS)
def test_a_plan_says_what_will_be_downloaded(hub: ServedHub, mgtool, tmp_path: Path, name: str) -> None:
    code, out, err = mgtool("import", "--preset", name, "--out", tmp_path / "model", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    (weights,) = plan["checkpoint"]["files"]
    size = next(size for size in SIZES if all(word in size.lower().replace("-", "") for word in PRESETS[name].words))
    assert weights == f"{size}/sft.pth"
    assert {part: plan[part]["hub"] for part in ("llm", "clip")} == {"llm": PRESETS[name].llm, "clip": CLIP}
    assert plan["llm"]["revision"] == COMMIT
    assert not any(file.endswith((".safetensors", ".bin")) for file in plan["llm"]["files"])
    assert plan["bytes"] == sum(
        size for part in plan.values() if isinstance(part, dict) for size in part["files"].values()
    )
    assert hub.sent == {}
    assert not (tmp_path / "model").exists()


def test_an_import_says_its_size_downloads_once_and_goes_on(hub: ServedHub, mgtool, tmp_path: Path) -> None:
    words = ("import", "--preset", "mg-llava-vicuna-7b", "--out", tmp_path / "model")
    code, _, err = mgtool(*words)
    assert code == 0, err
    assert "GB to download" in err
    assert f"checkpoint: {CHECKPOINTS}@{COMMIT[:12]}" in " ".join(err.split())
    before = dict(hub.sent)
    assert before["sft.pth"] == (KIT / "mg_llava.pth").stat().st_size
    assert "pretrain.pth" not in before
    code, _, err = mgtool(*words)
    assert (code, "0.00 GB to download" in err, hub.sent) == (0, True, before)
    constants.HF_HUB_OFFLINE = True
    assert mgtool(*words, "-q") == (0, "", "")


def test_local_folders_stand_in_for_parts(hub: ServedHub, tmp_path: Path) -> None:
    said: list[str] = []
    given = {part: KIT / part for part in ("llm", "clip")}
    parts = fetched(ImportOptions(preset="mg-llava-yi1.5-34b", **given), said.append)
    assert (parts.llm, parts.clip, parts.template) == (KIT / "llm", KIT / "clip", "chatml")
    assert [line.partition(":")[0] for line in said[:-1]] == ["checkpoint", "convnext"]


def test_what_the_hub_does_not_have_is_one_line(hub: ServedHub, mgtool, tmp_path: Path) -> None:
    for words, said in (
        (("--preset", "mg-llava"), "give one of mg-llava-phi3-3.8b"),
        (("--preset", "mg-llava-vicuna-7b", "--checkpoint", "x.pth"), "has no x.pth"),
        ((), "--checkpoint is missing: give it, or a --preset"),
    ):
        code, _, err = mgtool("import", *words, "--out", tmp_path / "model")
        assert (code, len(err.strip().splitlines())) == (2, 1), err
        assert said in err
    hub.repositories.pop(CLIP)
    code, _, err = mgtool("import", "--preset", "mg-llava-vicuna-7b", "--out", tmp_path / "model")
    assert (code, "check the name, or set HF_TOKEN" in err) == (2, True)


def test_a_bar_of_bytes_goes_on_where_a_download_broke(
    hub: ServedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    options = ImportOptions(preset="mg-llava-vicuna-7b")
    size = (KIT / "mg_llava.pth").stat().st_size
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", size // 4)
    monkeypatch.setattr(hub_files, "LARGE", size // 2)
    hub.broken.add("sft.pth")
    with pytest.raises(InputError, match="the download failed") as found:
        fetched(options)
    assert "\n" not in str(found.value)
    begun = hub.sent["sft.pth"]
    hub.broken.clear()
    bar = Counted()
    parts = fetched(options, advance=bar)
    assert parts.checkpoint.read_bytes() == (KIT / "mg_llava.pth").read_bytes()
    assert 0 < hub.sent["sft.pth"] - begun <= size / 2
    assert bar.done == bar.total >= size
    assert not list(tmp_path.rglob("*.part*"))
    again = Counted()
    fetched(options, advance=again)
    assert (again.done, again.total) == (0, 0)


class Counted(Progress):
    done = total = 0

    def __call__(self, done: int) -> None:
        self.done += done

    def started(self, total: int) -> None:
        self.total += total


def test_a_download_of_other_bytes_is_no_model(hub: ServedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "LARGE", 1000)
    size = (KIT / "mg_llava.pth").stat().st_size
    folder = tmp_path / "hub" / f"models--{CHECKPOINTS.replace('/', '--')}" / "blobs"
    folder.mkdir(parents=True)
    (folder / f"{file_sha256(KIT / 'mg_llava.pth')}.part").write_bytes(b"0" * (size // 2))
    with pytest.raises(InputError, match=r"sft\.pth came with other bytes than the hub says"):
        fetched(ImportOptions(preset="mg-llava-vicuna-7b"))
    assert fetched(ImportOptions(preset="mg-llava-vicuna-7b")).checkpoint.stat().st_size == size


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(
    hub: ServedHub, mgtool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=1000))
    code, _, err = mgtool("import", "--preset", "mg-llava-vicuna-7b", "--out", tmp_path / "model", "-q")
    assert (code, len(err.splitlines()), hub.sent) == (2, 1, {})
    assert "do not fit into 1,000 bytes that are free: set HF_HOME to a folder on a larger disk" in err


def test_a_gated_part_says_what_to_do(hub: ServedHub, mgtool, tmp_path: Path) -> None:
    name = "mg-llava-llama3-8b"
    hub.gated.add(PRESETS[name].llm)
    code, _, err = mgtool("import", "--preset", name, "--out", tmp_path / "model")
    assert (code, f"do so at https://huggingface.co/{PRESETS[name].llm}, then set HF_TOKEN" in err) == (2, True)
    assert hub.sent == {}
    assert mgtool("import", "--preset", name, "--llm", KIT / "llm", "--out", tmp_path / "model", "-q")[0] == 0


def test_a_checkpoint_of_the_hub_by_its_name(hub: ServedHub, tmp_path: Path) -> None:
    parts = fetched(ImportOptions(preset="mg-llava-vicuna-7b", checkpoint=Path("Vicuna-7B/pretrain.pth"), llm=KIT))
    assert parts.checkpoint.read_bytes() == b"other stage"


def test_without_a_net_it_is_one_line(monkeypatch: pytest.MonkeyPatch, mgtool, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = mgtool("import", "--preset", "mg-llava-vicuna-7b", "--out", tmp_path / "model")
    assert (code, len(err.strip().splitlines())) == (2, 1), err
    assert "hub cannot be reached" in err


def test_files_are_chosen_by_their_names() -> None:
    words = ("vicuna", "7b")
    ranks = ["vicuna_7b/iter.pth/a_model_states.pt", "vicuna_7b/iter.pth/a_optim_states.pt"]
    assert checkpoint_of(dict.fromkeys(ranks, 1), words, None, "o/n") == ranks
    for files in (["vicuna7b-a.pth", "vicuna7b-b.pth"], ["vicuna13b.pth"], []):
        with pytest.raises(InputError, match="give `checkpoint`"):
            checkpoint_of(dict.fromkeys(files, 1), words, None, "o/n")
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert (
        weights_of(dict.fromkeys([*shards, "pytorch_model.bin", "tf_model.h5"], 1), ("model", "pytorch_model"))
        == shards
    )
    with pytest.raises(UsageError, match="`llm` is missing"):
        ImportOptions(checkpoint=Path("x")).parts()
