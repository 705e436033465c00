"""A stretch of tars by their index: the samples that reading all of them gives, from the bytes of the stretch alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from served import served

import mgtool
from mgtool.packing.options import Size
from mgtool.tars import samples, stretches

COUNT = 7


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven samples in three tars."""
    folder = tmp_path_factory.mktemp("stretches")
    (folder / "pictures").mkdir()
    for number in range(COUNT):
        Image.effect_noise((120, 90), 80).save(folder / "pictures" / f"{number}.png")
    source = mgtool.Source(str(folder / "pictures"))
    mgtool.pack([source], folder / "tars", mgtool.PackOptions(shard_size=Size(3), workers=1))
    return folder / "tars"


PATTERN = "shard-{000000..000002}.tar"


@pytest.mark.parametrize("name", [PATTERN, ""])
@pytest.mark.parametrize("stretch", [(0, 7), (0, 2), (2, 4), (3, 6), (6, 7), (5, 5)])
def test_samples_are_those_of_reading_all(stretch: tuple[int, int], name: str, tars: Path) -> None:
    found = stretches.places([f"{tars}/{name}".rstrip("/")])
    assert found is not None
    whole = list(samples.read_samples([tar.url for tar in found]))
    assert list(stretches.read(found, *stretch)) == whole[slice(*stretch)]


def test_only_its_bytes_are_asked_for(tars: Path) -> None:
    with served(tars) as server:
        found = stretches.places([f"{server.url}/{PATTERN}"])
        assert found is not None
        server.sent.clear()
        items = list(stretches.read(found, 2, 5))
        assert [item.id for item in items] == ["2.png", "3.png", "4.png"]
        sizes = [*found[0].sizes[2:], *found[1].sizes[:2]]
        assert sum(server.sent.values()) == sum(sizes)


def test_an_index_of_other_tars_does_not_count(tars: Path, tmp_path: Path) -> None:
    shutil.copytree(tars, tmp_path / "t")
    with (tmp_path / "t" / "shard-000001.tar").open("ab") as tar:
        tar.write(bytes(512))
    assert stretches.places([f"{tmp_path}/t/{PATTERN}"]) is None
    assert stretches.places([f"{tmp_path}/t/shard-000000.tar"]) is not None
    (tmp_path / "t" / "samples.parquet").write_bytes(b"none")
    assert stretches.places([f"{tmp_path}/t/shard-000000.tar"]) is None
    assert stretches.places([str(tmp_path / "t")]) is None
    assert stretches.places(["questions.jsonl"]) is None
    assert stretches.places([]) is None


def test_three_ranks_read_the_input_once(tars: Path, mgtool, tmp_path: Path) -> None:
    options = ["--task", "caption", "--model", "tiny", "--max-new-tokens", 1, "-q", "--out"]
    with served(tars) as server:
        words = ["infer", f"{server.url}/{PATTERN}", *options]
        for rank in range(3):
            assert mgtool(*words, tmp_path / "a.jsonl", "--rank", rank, "--world-size", 3)[0] == 0
        sent = sum(count for name, count in server.sent.items() if name.endswith(".tar"))
        assert sent <= 1.1 * sum(path.stat().st_size for path in tars.glob("*.tar"))
        assert mgtool(*words, tmp_path / "one.jsonl")[0] == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
