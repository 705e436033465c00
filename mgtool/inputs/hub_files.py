"""Large files of the hub: its library begins one anew after every stop, and compares no hash."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mgtool.errors import InputError
from mgtool.files.hashing import file_sha256
from mgtool.files.lock import one_writer
from mgtool.records import Advance

LARGE = 1 << 26
"""Bytes from which on a file goes on where it stopped."""
_SHA256 = 64
"""Characters of the name that the hub gives to a large file: its hash."""


def fetch(name: str, revision: str, file: str, advance: Advance) -> None:
    """Bring a file into the cache of the hub's library, from where it stopped; one that is small is left to that.

    Args:
        name: ``owner/name``.
        revision: a commit.
        file: of the repository.
        advance: told of bytes that are there, those of an earlier try counted.

    Raises:
        InputError: what came is not what the hub has.
        Exception: as of huggingface_hub.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    if isinstance(try_to_load_from_cache(name, file, cache_dir=constants.HF_HUB_CACHE, revision=revision), str):
        return
    url = hf_hub_url(name, file, revision=revision, endpoint=os.environ.get("HF_ENDPOINT"))
    about = get_hf_file_metadata(url)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "blobs"
    blob = folder / (about.etag or "")
    if not about.etag or not LARGE <= (about.size or 0) <= constants.MAX_HTTP_DOWNLOAD_SIZE or blob.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{blob.name}.part")
    with one_writer(part, is_file=True, wait=True):
        if not blob.exists():
            _fill(part, url, about.size, advance)
            _check(part, about.etag, file)
            part.replace(blob)


def _fill(part: Path, url: str, size: int | None, advance: Advance) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    with part.open("ab") as out:
        begun = out.tell()
        advance(begun)
        bar = told_to(advance)
        http_get(url, out, resume_size=begun, headers=build_hf_headers(), expected_size=size, tqdm_class=bar)


def _check(part: Path, etag: str, file: str) -> None:
    if len(etag) == _SHA256 and file_sha256(part) != etag:
        part.unlink()
        raise InputError(f"{file} came with other bytes than the hub says: try again")


def told_to(advance: Advance) -> type[Any]:
    """A bar of the hub's library that shows nothing itself: there is one already."""
    from huggingface_hub.utils.tqdm import tqdm

    class Told(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # there are others, of files and of what comes over the net in another form
            name = str(kwargs.get("name"))
            self._is_counted = name in ("huggingface_hub.snapshot_download", "huggingface_hub.http_get")
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self._is_counted and n:
                advance(int(n))

    return Told
