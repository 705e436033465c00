"""What names in data may open: what lies below the folder of pictures, and what the user allows."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

import mgtool
from mgtool.errors import ItemError, UsageError
from mgtool.files import remote, urls
from mgtool.inputs import sources
from mgtool.media.reading import Place
from mgtool.records import Failure, Reach, Sample

PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
SOURCE = Path(mgtool.__file__).parent


def _refused(place: Place, name: str, beside: str = "") -> str:
    with pytest.raises(ItemError) as raised:
        place.media(name, beside=beside)
    assert raised.value.reason == "unsupported"
    return raised.value.detail


@pytest.mark.parametrize(
    "name",
    ["zip://x.jpg::b.zip", "simplecache::https://a.org/x.jpg", "reference://x.jpg::r.json", "file:///x.jpg",
     "local:///x.jpg", "data://image/jpeg;base64,xx", "dir://x::file:///", "http://a.org/x.jpg", "ftp://a.org/x.jpg",
     "memory://x.jpg", "HTTPS://a.org/x.jpg", "https://me:pass@a.org/x.jpg", "https://a.org\\@b.org/x.jpg",
     "https://a.org/{{x}}.jpg", "https://a.org/x y.jpg", "https://a.o\trg/x.jpg", "https://a%2eorg/x", "https:///x.jpg",
     "https://[::1]/x.jpg", "s3://key:secret@bucket/x.jpg", "s3:///x.jpg", " https://a.org/x.jpg"],
)  # fmt: skip
def test_what_no_option_opens(name: str) -> None:
    _refused(Place("photos", allow_absolute=True, reach=Reach(allowed=remote.SCHEMES)), name)


@pytest.mark.parametrize(
    ("patterns", "name", "is_open"),
    [
        ([], "https://a.org/x.jpg", False),
        (["https"], "https://a.org:8443/x.jpg?w=1#y", True),
        (["https"], "s3://bucket/x.jpg", False),
        (["s3", "https:*.a.org"], "s3://bucket/x.jpg", True),
        (["https:*.a.org"], "https://www.a.org/x.jpg", True),
        (["https:*.a.org"], "https://a.org.evil.com/x.jpg", False),
        (["https:A.org"], "https://a.ORG/x.jpg", True),
        (["hf:datasets/me/*"], "hf://datasets/me/photos@main/x.jpg", True),
        (["hf:datasets/me/*"], "hf://datasets/you/photos/x.jpg", False),
    ],
)
def test_urls_are_opened_where_an_option_allows_them(patterns: list[str], name: str, is_open: bool) -> None:
    place = Place.of("photos", allow_remote=patterns)
    if is_open:
        assert place.media(name).uri == name
        assert place.media(name).reach == place.reach
    else:
        assert "`allow_remote`" in _refused(place, name)


@pytest.mark.parametrize("given", ["http", "file", "", "https:", "https:a b", "ftp:a.org", "https://a.org", "s3:a@b"])
def test_an_allowance_of_no_known_form(given: str) -> None:
    for options in (mgtool.DetectOptions, mgtool.PackOptions, mgtool.EvalOptions):
        with pytest.raises(UsageError, match="allow_remote"):
            options(allow_remote=[given])
    with pytest.raises(UsageError, match="allow_remote"):
        mgtool.InferOptions(model="tiny", allow_remote=[given])


def test_paths_stay_below_the_pictures() -> None:
    place = Place("photos")
    assert place.media("a/../b.jpg").uri == "photos/b.jpg"
    assert place.media("a::b.jpg").uri == "photos/a::b.jpg"
    assert "`allow_absolute`" in _refused(place, "/etc/x.jpg")
    assert Place("photos", allow_absolute=True).media("/etc/x.jpg").uri == "/etc/x.jpg"
    for name in ("../x.jpg", "a/../../x.jpg", ".."):
        _refused(Place("photos", allow_absolute=True), name)
        _refused(Place(None), name, beside="data")
    for name in ("%2e%2e/x.jpg", "a/..%2f../x.jpg", "..\\x.jpg", "x.jpg::https://b.org/y"):
        _refused(Place("https://a.org/photos"), name)
    assert Place("photos").media("%2e%2e/x.jpg").uri == "photos/%2e%2e/x.jpg"
    assert Place("https://a.org/photos").media("b/x.jpg").uri == "https://a.org/photos/b/x.jpg"


def test_a_refused_record_costs_only_itself(tmp_path: Path) -> None:
    names = ["/etc/x.jpg", "file:///etc/x.jpg", "../x.jpg", "a.jpg"]
    (tmp_path / "q.jsonl").write_text(
        "".join(json.dumps({"question_id": n, "image": name, "text": "Q"}) + "\n" for n, name in enumerate(names))
    )
    (tmp_path / "c.json").write_text(
        json.dumps({"images": [{"id": n, "file_name": name} for n, name in enumerate(names)]})
    )
    (tmp_path / "b.jsonl").write_text(
        "".join(
            json.dumps({"image": name, "sha256": "", "width": 1, "height": 1, "boxes": [], "scores": [], "labels": []})
            + "\n"
            for name in names
        )
    )
    (tmp_path / "t.tsv").write_text(
        "index\timage_path\tquestion\n" + "".join(f"{n}\t{name}\tQ\n" for n, name in enumerate(names))
    )
    for file in ("q.jsonl", "c.json", "b.jsonl", "t.tsv"):
        *failed, kept = sources.read_samples([str(tmp_path / file)])
        assert [one.reason for one in failed if isinstance(one, Failure)] == ["unsupported"] * 3, file
        assert [one.id for one in failed] == (names[:3] if file == "b.jsonl" else [0, 1, 2])
        assert isinstance(kept, Sample)
        assert kept.images[0].uri == f"{tmp_path}/a.jpg"


def test_a_list_of_paths_is_the_users_own_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "l.txt").write_text(f"{tmp_path}/a.jpg\n../a.jpg\nhttps://a.org/x.jpg\nzip://x.jpg::b.zip\n")
    opened = list(sources.read_samples([str(folder / "l.txt")]))
    assert [Path(one.images[0].uri).resolve() for one in opened if isinstance(one, Sample)] == [tmp_path / "a.jpg"] * 2
    assert [one.reason for one in opened[2:] if isinstance(one, Failure)] == ["unsupported"] * 2
    remote_list = MemoryFileSystem()
    remote_list.pipe("/lists/l.txt", (folder / "l.txt").read_bytes() + b"b.jpg\n")
    *failed, below = sources.read_samples(["memory://lists/l.txt"])
    assert [one.reason for one in failed if isinstance(one, Failure)] == ["unsupported"] * 4
    assert isinstance(below, Sample)
    assert below.images[0].uri == "memory://lists/b.jpg"


def test_only_buckets_that_the_user_names_are_asked_with_credentials() -> None:
    class Bucket(MemoryFileSystem):
        protocol = "s3"

    fsspec.register_implementation("s3", Bucket, clobber=True)
    try:
        by_data = Reach(allowed=("s3",))
        assert urls.locate("s3://theirs/x.jpg", by_data)[0].storage_options == {"anon": True}
        for named in (remote.reach_of(["s3://mine/q.jsonl"], ["s3"]), remote.reach_of([], ["s3:mine"])):
            assert urls.locate("s3://mine/x.jpg", named)[0].storage_options == {}
            assert urls.locate("s3://theirs/x.jpg", named)[0].storage_options == {"anon": True}
        assert urls.locate("s3://any/x.jpg", remote.reach_of([], ["s3:*"]))[0].storage_options == {"anon": True}
    finally:
        _registry.pop("s3", None)


OPENERS = {
    "inputs/sources.py",
    "tars/paths.py",
    "tars/stretches.py",
    "boxes/formats/__init__.py",
    "media/reading.py",
}
"""What opens URLs: inputs, indexes beside tars and boxes that the command line names, and pictures by `Place` alone."""
ASKING = {"inputs/fingerprints.py", "runs/ray_nodes.py", "tars/samples.py"}
"""What asks for the version of an input that the command line names, or whether it may be read, or what an error means.
"""


def test_nothing_else_opens_urls() -> None:
    """Names in data become `Media` in `Place` alone; clients of servers are used in `files` alone, and for judges."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for module in _imported(node):
                found.setdefault(module, set()).add(name)
    assert found["fsspec"] == {"files/urls.py"}
    assert found["aiohttp"] == {"files/http_client.py"}
    assert found["httpx"] == {"evaluation/judge_models.py"}
    assert found["mgtool.files.urls"] == OPENERS | ASKING
    assert not {"requests", "urllib.request", "urllib3", "http.client", "s3fs", "gcsfs"} & found.keys()


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [one.name for one in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
    return []


WATCHED = """
import json, sys
seen = []
def hook(event, args):
    is_file = event in ("open", "os.open") and "elsewhere." in str(args[0])
    if is_file or event in ("socket.connect", "socket.getaddrinfo"):
        seen.append([event, str(args[0] if event != "socket.connect" else args[1])])
sys.addaudithook(hook)
from mgtool.commands.main import main
sys.argv[0] = "mgtool"
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code, seen]))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data with one picture in it, and names of another picture outside."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copy(PICTURE, folder / "elsewhere.jpg")
    (folder / "photos").mkdir()
    shutil.copy(PICTURE, folder / "photos" / "good.jpg")
    outside = folder / "elsewhere.jpg"
    names = [str(outside), f"file://{outside}", "../elsewhere.jpg", f"simplecache::file://{outside}", f"local://{outside}",
             "http://127.0.0.1:9/elsewhere.jpg", "https://localhost:9/elsewhere.jpg", "good.jpg"]  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"question_id": n, "image": name, "text": "Q", "label": "yes"} for n, name in enumerate(names)
    ]
    _write(folder / "q.jsonl", rows)
    _write(folder / "a.jsonl", [{"question_id": n, "text": "yes"} for n in range(len(names))])
    empty = {"boxes": [], "scores": [], "labels": []}
    boxes = [{"image": name, "sha256": str(n), "width": 9, "height": 9, **empty} for n, name in enumerate(names)]
    _write(folder / "boxes.jsonl", boxes)
    return folder


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (3, "detect q.jsonl --images photos --detector tiny --out {out} --report {out}.html --workers 0"),
        (3, "pack q.jsonl --images photos --out {out} --workers 1"),
        (3, "infer q.jsonl --images photos --model tiny --max-new-tokens 2 --out {out}.jsonl --workers 0"),
        (0, "eval a.jsonl --benchmark pope --ground-truth q.jsonl --images photos --out {out}"),
        (0, "detect boxes.jsonl --stats --images photos --report {out}.html"),
    ],
)
def test_no_command_opens_what_is_elsewhere(hostile: Path, tmp_path: Path, code: int, command: str) -> None:
    args = command.format(out=tmp_path / "out").split()
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *args, "-q"], cwd=hostile, capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [code, []], done.stderr
    for failures in tmp_path.rglob("*failures.jsonl"):
        if args[0] == "eval":  # whose failures are those of the answers
            continue
        lines = [json.loads(line) for line in failures.read_text().splitlines()]
        assert [one["reason"] for one in lines] == ["unsupported"] * 7


def test_a_protocol_that_is_spelt_as_an_embedded_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question_id": 1, "image": "data://image/jpeg;base64,/9j/", "text": "Q"}\n')
    [failed] = sources.read_samples([str(tmp_path / "q.jsonl")])
    assert isinstance(failed, Failure)
    assert failed.reason == "unsupported"
