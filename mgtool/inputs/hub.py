"""Models of the Hugging Face hub, by huggingface_hub: its cache, its token, its offline mode, its progress bar."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mgtool.errors import InputError
from mgtool.inputs import hub_files
from mgtool.records import Advance

_NAME = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_SMALL = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
"""Configurations and tokenizers."""
_WANTED = (*_SMALL, "*.safetensors")
"""What a model is loaded from; nothing that is code, and no second copy of the weights in another format."""


def is_name(given: str) -> bool:
    """Whether a text may name a model of the hub, ``owner/name`` or ``owner/name@revision``.

    >>> is_name("llava-hf/llava-1.5-7b-hf"), is_name("owner/name@v1"), is_name("/models/llava"), is_name("llava")
    (True, True, False, False)
    """
    return _NAME.fullmatch(given) is not None


@functools.cache
def downloaded(name: str, *, with_weights: bool = True) -> Path:
    """The folder of a model of the hub, downloaded where it is not in the cache.

    Args:
        name: as `is_name` takes it.
        with_weights: False leaves them where they are, as long as they are not needed.

    Raises:
        InputError: in one line, with what to do: no such model or revision, one that asks for a token, no net.
    """
    from huggingface_hub import snapshot_download

    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"`model` hf:{name}: the hub's models are called owner/name or owner/name@revision")
    with _explained(f"`model` hf:{name}", match["id"], match["revision"]):
        folder = snapshot_download(
            match["id"],
            revision=match["revision"],
            allow_patterns=list(_WANTED if with_weights else _SMALL),
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    return Path(folder)


class Listing(NamedTuple):
    """What a repository of the hub holds at one commit: sizes in bytes by name, and what of it is in the cache."""

    revision: str
    files: dict[str, int]
    kept: frozenset[str]


def listing(name: str, *, option: str) -> Listing:
    """The files of a repository; without a net, those that are in the cache.

    Args:
        name: ``owner/name``.
        option: the field that errors name.

    Raises:
        InputError: as of `downloaded`.
    """
    from huggingface_hub import errors, snapshot_download

    with _explained(f"`{option}` {name}", name, None):
        try:
            quiet = hub_files.told_to(lambda count: None)
            found = snapshot_download(name, dry_run=True, endpoint=os.environ.get("HF_ENDPOINT"), tqdm_class=quiet)
        except (errors.DryRunError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
            if isinstance(error.__cause__, errors.HfHubHTTPError):
                raise error.__cause__ from None
            # of no file, as it refuses where one is missing that was never wanted
            folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=[os.devnull]))
            paths = (path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
            return Listing(folder.name, files, frozenset(files))
    kept = frozenset(one.filename for one in found if not one.will_download)
    return Listing(found[0].commit_hash if found else "", {one.filename: one.file_size or 0 for one in found}, kept)


def fetched(name: str, revision: str, files: Iterable[str], *, option: str, advance: Advance) -> Path:
    """The folder of some files of a repository in the cache; what is there, or half of it, is not fetched again.

    Args:
        name: ``owner/name``.
        revision: its commit, as of `listing`.
        files: of it.
        option: the field that errors name.
        advance: told of bytes that are there, those of a half counted.

    Raises:
        InputError: as of `downloaded`.
    """
    from huggingface_hub import snapshot_download

    wanted = list(files)
    bar, patterns = hub_files.told_to(advance), [glob.escape(file) for file in wanted]
    with _explained(f"`{option}` {name}", name, revision):
        for file in wanted:
            hub_files.fetch(name, revision, file, advance)
        asked = functools.partial(snapshot_download, name, revision=revision, endpoint=os.environ.get("HF_ENDPOINT"))
        folder = asked(allow_patterns=patterns, tqdm_class=bar)
    return Path(folder)


def cache_folder() -> Path:
    """Where the hub's library keeps what it downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


@contextmanager
def _explained(where: str, name: str, revision: str | None) -> Iterator[None]:
    """What the hub's library raises, as one line that begins with what was asked for."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        detail = f"its makers ask you to agree first: do so at https://huggingface.co/{name}, then set HF_TOKEN"
        raise InputError(f"{where}: {detail} (or type: hf auth login)") from error
    except errors.RepositoryNotFoundError as error:
        detail = "the hub has no such model, or shows it to some alone: check the name, or set HF_TOKEN"
        raise InputError(f"{where}: {detail} (or type: hf auth login)") from error
    except errors.RevisionNotFoundError as error:
        detail = f"it has no revision {revision}: leave @{revision} out, or give a branch, tag or commit of it"
        raise InputError(f"{where}: {detail}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        detail = "it is not in the cache and the hub cannot be reached"
        advice = f"hf download {name} where there is a net, or give a folder of its files"
        raise InputError(f"{where}: {detail} (no net, or HF_HUB_OFFLINE is set); type {advice}") from error
    # the base is what the library for HTTP raises of a line that breaks; which library that is differs by release
    except (OSError, ValueError, *errors.HfHubHTTPError.__bases__) as error:  # type: ignore[misc] # all are exceptions
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{where}: the download failed, and goes on where it stopped: {reason}") from error
