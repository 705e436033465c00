"""Models of the Hugging Face hub, by huggingface_hub: its cache, its token, its offline mode, its progress bar."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgtool.errors import InputError

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
    with _explained(match["id"], match["revision"]):
        folder = snapshot_download(
            match["id"],
            revision=match["revision"],
            allow_patterns=list(_WANTED if with_weights else _SMALL),
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    return Path(folder)


@contextmanager
def _explained(name: str, revision: str | None) -> Iterator[None]:
    """What the hub's library raises, as one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        detail = f"its makers ask you to agree first: do so at https://huggingface.co/{name}, then set HF_TOKEN"
        raise InputError(f"`model` hf:{name}: {detail} (or type: hf auth login)") from error
    except errors.RepositoryNotFoundError as error:
        detail = "the hub has no such model, or shows it to some alone: check the name, or set HF_TOKEN"
        raise InputError(f"`model` hf:{name}: {detail} (or type: hf auth login)") from error
    except errors.RevisionNotFoundError as error:
        detail = f"it has no revision {revision}: leave @{revision} out, or give a branch, tag or commit of it"
        raise InputError(f"`model` hf:{name}: {detail}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        detail = "it is not in the cache and the hub cannot be reached"
        where = f"hf download {name} where there is a net, or `model` hf:FOLDER of its files"
        raise InputError(f"`model` hf:{name}: {detail} (no net, or HF_HUB_OFFLINE is set); type {where}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"`model` hf:{name}: the download failed: {str(error).splitlines()[0][:200]}") from error
