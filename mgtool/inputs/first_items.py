"""Mistakes that show in the first items of an input, and are better said before all the others fail, too."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from mgtool.errors import UsageError, nearest
from mgtool.records import Failure, Item, media_of

MOST = 100
"""Items that are looked at; all of them where there are fewer."""

_SHOWN = 12
_FIELD = re.compile(r"\{(\w+)\}")


def refuse_without_pictures(items: Iterable[Item], images: str | None) -> Iterator[Item]:
    """The same items, unless no folder of pictures is given and the first show only files that are not there.

    Raises:
        UsageError: as soon as it is certain, before the first item.
    """
    return iter(items) if images is not None else _held(items, _misses_all, _no_images)


def refuse_unknown_fields(items: Iterable[Item], template: str | None) -> Iterator[Item]:
    """The same items, unless a prompt's template names a field that the first samples do not have; errors as above."""
    for field in dict.fromkeys(_FIELD.findall(template or "")):
        if field != "question":
            items = _held(items, functools.partial(_lacks, field), functools.partial(_no_field, field))
    return iter(items)


def _held(
    items: Iterable[Item], is_wrong: Callable[[Item], bool], error: Callable[[Sequence[Item]], UsageError]
) -> Iterator[Item]:
    """Items, held back for as long as all of them are wrong."""
    rest, held = iter(items), list[Item]()
    for item in rest:
        held.append(item)
        if not is_wrong(item):
            break
        if len(held) == MOST:
            raise error(held)
    else:
        if held:
            raise error(held)
    yield from held
    yield from rest


def _misses_all(item: Item) -> bool:
    media = () if isinstance(item, Failure) else media_of(item)
    local = [one for one in media if one.data is None and "://" not in one.uri]
    return bool(media) and len(local) == len(media) and not any(os.path.exists(one.uri) for one in local)  # noqa: PTH110


def _no_images(held: Sequence[Item]) -> UsageError:
    first = next(one for item in held if not isinstance(item, Failure) for one in media_of(item))
    many = f"of the first {len(held):,} items none" if len(held) > 1 else "the one item"
    has = "has a picture that is there" if len(held) > 1 else "has no picture that is there"
    advice = "give the folder that names start from; `allow_failures` 100% goes on without"
    return UsageError("images", f"is missing: {many} {has} (no file {first.uri}): {advice}")


def _lacks(field: str, item: Item) -> bool:
    return isinstance(item, Failure) or field not in item.metadata


def _no_field(field: str, held: Sequence[Item]) -> UsageError:
    known = sorted({"question", *(name for item in held if not isinstance(item, Failure) for name in item.metadata)})
    hint = nearest(field, known) or f"; there are {', '.join(known[:_SHOWN])}"
    return UsageError("prompt", f"names {{{field}}}, which none of the first {len(held):,} items has{hint}")
