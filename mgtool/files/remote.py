"""Which URLs of strangers may be opened: what `allow_remote` takes, and which hosts the user has named."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mgtool.errors import UsageError

if TYPE_CHECKING:  # options check their patterns here, and are light to import
    from mgtool.records import Reach

SCHEMES = ("https", "s3", "gs", "hf")
"""Protocols that a URL inside data may have, where an option allows it."""

_PORTS = {"http": "80", "https": "443"}
_HOST = r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*)"
# No user, no chain, no template, nothing that parsers of URLs disagree about.
_PLAIN = re.compile(rf"(?:https://{_HOST}(?::\d{{1,5}})?|(?:s3|gs|hf)://{_HOST})(?:[/?#][^\s\\{{}}\x00-\x20\x7f]*)?")
_PATTERN = re.compile(r"[^\s:@/\\][^\s:@\\]*")
_HF_KINDS = ("datasets", "spaces", "buckets")


class RefusedError(OSError):
    """An address that a URL inside data may not lead to, or an answer without end."""


def check_patterns(patterns: Iterable[str] | None) -> None:
    """Refuse values of `allow_remote` that are no ``SCHEME[:HOST-PATTERN]``.

    Raises:
        UsageError: naming the value.
    """
    for given in patterns or ():
        scheme, colon, host = given.partition(":")
        if scheme not in SCHEMES or (colon and not _PATTERN.fullmatch(host)):
            form = "SCHEME or SCHEME:HOST-PATTERN, for instance https:*.example.org"
            raise UsageError("allow_remote", f"{given}: give {form}; schemes are {', '.join(SCHEMES)}")


def refusal(url: str, reach: Reach) -> str:
    """Why a URL that stands in data is not opened, and which option would open it; empty where it is.

    >>> from mgtool.records import Reach
    >>> refusal("https://a.org/x.jpg", Reach(allowed=("https:*.org",)))
    ''
    >>> refusal("https://a.com/x.jpg", Reach(allowed=("https:*.org",)))
    'a URL inside data; `allow_remote` https:a.com would open it'
    >>> refusal("zip://x.jpg::https://a.org/b.zip", Reach(allowed=("https",)))
    'chained URLs inside data are never opened'
    """
    if "::" in url:
        return "chained URLs inside data are never opened"
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        return f"URLs inside data are opened with {', '.join(SCHEMES)} alone, and where `allow_remote` allows them"
    if not _PLAIN.fullmatch(url):
        return "a URL inside data is opened only where it is plain: a host and a path, no user, no braces, no blanks"
    host = _host(url)
    if not any(_matches(pattern, scheme, host) for pattern in reach.allowed):
        return f"a URL inside data; `allow_remote` {scheme}:{host} would open it"
    return ""


def _matches(pattern: str, scheme: str, host: str) -> bool:
    wanted, _, hosts = pattern.partition(":")
    return wanted == scheme and fnmatch.fnmatchcase(host, hosts.lower() or "*")


def reach_of(given: Iterable[str], patterns: Sequence[str] | None) -> Reach:
    """Where URLs in data may lead.

    Args:
        given: what the command line names; URLs among it name their hosts.
        patterns: of `allow_remote`; one without wildcards names its host.
    """
    from mgtool.records import Reach

    literal = [one.partition(":")[::2] for one in patterns or () if not set("*?[") & set(one)]
    named = [f"{scheme}://{host.lower()}:*" for scheme, host in literal if host]
    return Reach(allowed=tuple(patterns or ()), named=(*named, *(_key(url) for url in given if _is_single(url))))


def is_named(url: str, reach: Reach) -> bool:
    """Whether the user has named a URL's host (a bucket counts as one): it may be private, and gets credentials."""
    key = _key(url)
    return key in reach.named or f"{key.rpartition(':')[0]}:*" in reach.named


def _is_single(url: str) -> bool:
    return "://" in url and "::" not in url


def _host(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "hf":
        return (parts.hostname or "").lower()
    names = [name.partition("@")[0] for name in (parts.netloc + parts.path).split("/")]
    return "/".join(names[: 3 if names[0] in _HF_KINDS else 2]).lower()


def _key(url: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(url)
    try:
        port = str(parts.port or _PORTS.get(parts.scheme, ""))
    except ValueError:
        port = "?"
    return f"{parts.scheme}://{_host(url)}:{port}"
