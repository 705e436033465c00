"""A store that is away for a while: failures of their own kind, asked again; one request a picture."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from PIL import Image
from served import Served, served

from mgtool.errors import ItemError
from mgtool.files import urls
from mgtool.media import reading
from mgtool.media.recent import RecentFiles
from mgtool.records import Media


@pytest.fixture
def server(tmp_path: Path):
    """Five pictures, of which one comes twice, behind a server, and a list of them."""
    folder = tmp_path / "served"
    folder.mkdir()
    with Image.open(Path(__file__).parents[1] / "images" / "coffee.jpg") as picture:
        for number in range(5):
            picture.crop((number % 4, 0, number % 4 + 100, 80)).save(folder / f"{number}.png")
    (folder / "list.txt").write_text("".join(f"{number}.png\n" for number in range(5)))
    with served(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "PATIENCE_S", 0.0)
    monkeypatch.setattr(urls, "FIRST_WAIT_S", 0.01)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "run.json"}


def _reasons(folder: Path) -> list[str]:
    return [json.loads(line)["reason"] for line in (folder / "failures.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("form", ["jsonl", "coco"])
@pytest.mark.parametrize("away", [{"0.png"}, {"1.png", "4.png"}])
def test_detect_asks_for_what_was_away_alone(away: set[str], form: str, server: Served, mgtool, tmp_path: Path) -> None:
    server.away = set(away)
    words = ["detect", f"{server.url}/list.txt", "--workers", 0, "-q", "--format", form, "--shard-size", 2, "--out"]
    assert mgtool(*words, tmp_path / "o")[0] == 3
    assert _reasons(tmp_path / "o") == ["unreachable"] * len(away)
    server.away.clear()
    server.asked.clear()
    assert mgtool(*words, tmp_path / "o") == (0, "", "")
    assert server.asked.keys() & {f"{number}.png" for number in range(5)} == away
    assert mgtool(*words, tmp_path / "fresh") == (0, "", "")
    assert _files(tmp_path / "o") == _files(tmp_path / "fresh")


def test_detect_still_without_it_says_so_again(server: Served, mgtool, tmp_path: Path) -> None:
    server.away = {"2.png"}
    words = ["detect", f"{server.url}/list.txt", "--workers", 0, "-q", "--out", tmp_path / "o"]
    for _ in range(2):
        assert mgtool(*words)[0] == 3
        assert _reasons(tmp_path / "o") == ["unreachable"]
    server.away.clear()
    assert mgtool(*words)[0] == 0


def test_pack_writes_again_what_lacks_it(server: Served, mgtool, tmp_path: Path) -> None:
    server.away = {"3.png"}
    words = ["pack", f"{server.url}/list.txt", "--workers", 1, "-q", "--shard-size", 2, "--out"]
    assert mgtool(*words, tmp_path / "o")[0] == 3
    assert _reasons(tmp_path / "o") == ["unreachable"]
    server.away.clear()
    server.asked.clear()
    assert mgtool(*words, tmp_path / "o")[0] == 0
    assert server.asked["4.png"] == 0
    assert mgtool(*words, tmp_path / "fresh")[0] == 0
    tars = ["shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]
    assert [_files(tmp_path / "o")[tar] for tar in tars] == [_files(tmp_path / "fresh")[tar] for tar in tars]


def test_infer_answers_what_was_away(server: Served, mgtool, tmp_path: Path) -> None:
    server.away = {"1.png"}
    words = ["infer", f"{server.url}/list.txt", "--task", "caption", "--model", "tiny", "--max-new-tokens", 1, "-q"]
    assert mgtool(*words, "--out", tmp_path / "a.jsonl")[0] == 3
    assert _reasons(tmp_path) == ["unreachable"]
    server.away.clear()
    assert mgtool(*words, "--out", tmp_path / "a.jsonl")[0] == 0
    ids = [json.loads(line)["question_id"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert ids == [f"{number}.png" for number in range(5)]


def test_a_tar_that_is_away_stops_the_run(server: Served, mgtool, tmp_path: Path) -> None:
    server.away = {"shard-000000.tar"}
    words = ["detect", f"{server.url}/shard-000000.tar", "--workers", 0, "-q", "--out", tmp_path / "o"]
    code, _, said = mgtool(*words)
    assert (code, said.count("\n"), "cannot be reached" in said) == (2, 1, True), said


def test_a_server_of_the_user_is_waited_for(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "PATIENCE_S", 20.0)
    monkeypatch.setattr(urls._Patience, "_spent", urls.Counter())
    server.away = {"0.png"}
    media = Media(name="0.png", uri=f"{server.url}/0.png")
    monkeypatch.setattr(urls, "LONGEST_RISE_S", 0.1)

    class Ends(set[str]):
        def __contains__(self, name: object) -> bool:
            return server.asked["0.png"] <= 2 * urls.ATTEMPTS

    server.away = Ends()
    assert reading.read_bytes(media) == (server.folder / "0.png").read_bytes()
    assert server.asked["0.png"] == 2 * urls.ATTEMPTS + 1


def test_errors_of_a_network_disk_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(reading, "read_regular", read)
    with pytest.raises(ItemError) as raised:
        reading.read_bytes(Media(name="x", uri="x.png"))
    assert raised.value.reason == "unreachable"


def test_a_picture_is_asked_for_once_however_many_samples_show_it(server: Served, mgtool, tmp_path: Path) -> None:
    names = ["0.png", "1.png", "gone.png"]
    lines = [{"question_id": k, "image": names[k % 3], "text": f"Is there a cup {k}?"} for k in range(300)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["infer", tmp_path / "q.jsonl", "--images", server.url, "--model", "tiny", "--max-new-tokens", 1, "-q"]
    assert mgtool(*words, "--out", tmp_path / "a.jsonl")[0] == 3
    assert server.asked == dict.fromkeys(names, 1)
    server.asked.clear()
    words = ["pack", tmp_path / "q.jsonl", "--images", server.url, "--workers", 1, "-q", "--shard-size", "1MB"]
    assert mgtool(*words, "--out", tmp_path / "tars")[0] == 3
    assert max(server.asked[name] for name in names[:2]) <= 3, server.asked


def test_what_is_kept_is_bounded(server: Served) -> None:
    files = RecentFiles(most=3000)
    for number in (0, 1, 2, 2, 2, 0):
        files.read(Media(name="x", uri=f"{server.url}/{number}.png"))
    assert server.asked["2.png"] == 1
    assert server.asked["0.png"] == 2
