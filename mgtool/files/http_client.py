"""How servers are asked: what the user has set up for them stays with the hosts that the user named.

By hand: aiohttp follows redirects to any address, and takes only some of a session's headers off on the way.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.resolver import ThreadedResolver

from mgtool.files import remote
from mgtool.files.regular import MOST_BYTES
from mgtool.records import Reach

_HARMLESS = frozenset({"host", "accept", "accept-encoding", "user-agent", "range", "connection"})
"""Headers that every host may see."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Client:
    """Makes sessions for fsspec; equal ones are one file system there.

    Attributes:
        reach: where requests may lead, and which hosts the user named.
        of_user: the URL itself is the user's word; redirects are followed anywhere, though not with the user's headers.
    """

    reach: Reach
    of_user: bool

    async def __call__(self, **options: Any) -> aiohttp.ClientSession:
        """A session."""
        if not self.of_user:
            options["trust_env"] = False  # names would be looked up by a proxy, credentials in a file
        return aiohttp.ClientSession(**{**options, "connector": _Connector(self), "response_class": _Response})


class _Response(aiohttp.ClientResponse):
    """One that is not read for ever."""

    async def read(self) -> bytes:
        if self._body is not None:
            return await super().read()
        parts, total = [], 0
        async for part in self.content.iter_chunked(1 << 16):
            total += len(part)
            if total > MOST_BYTES:
                self.close()
                raise remote.RefusedError(f"{self.url.host}: more than {MOST_BYTES:,} bytes")
            parts.append(part)
        self._body = b"".join(parts)  # as the method itself does, for `text`
        return self._body


class _Connector(aiohttp.TCPConnector):
    """Looks at each request before it goes out, also after redirects."""

    def __init__(self, client: Client) -> None:
        super().__init__(resolver=ThreadedResolver() if client.of_user else _Resolver(client.reach))
        self._asked_by = client

    async def connect(self, req: Any, *args: Any, **options: Any) -> Any:
        url, reach = str(req.url), self._asked_by.reach
        if not remote.is_named(url, reach):
            if not self._asked_by.of_user:
                _refuse(req.url)
            for name in [name for name in req.headers if name.lower() not in _HARMLESS]:
                del req.headers[name]
        return await super().connect(req, *args, **options)


class _Resolver(ThreadedResolver):
    def __init__(self, reach: Reach) -> None:
        super().__init__()
        self._reach = reach

    async def resolve(self, host: str, port: int = 0, *args: Any, **options: Any) -> Any:
        found = await super().resolve(host, port, *args, **options)
        if not remote.is_named(f"https://{host}:{port}", self._reach):
            for one in found:
                _refuse_private(one["host"], host)
        return found


def _refuse(url: Any) -> None:
    if url.scheme != "https":
        raise remote.RefusedError(f"a redirect to {url.scheme}://{url.host} is not followed")
    try:
        ipaddress.ip_address(url.host)
    except ValueError:
        return
    _refuse_private(url.host, url.host)


def _refuse_private(address: str, host: str) -> None:
    if is_private(address):
        raise remote.RefusedError(f"{host} is a private address; `allow_remote` https:{host} would open it")


def is_private(address: str) -> bool:
    """Whether an address is of this machine or its network, or holds such a one.

    >>> [is_private(one) for one in ("127.0.0.1", "169.254.1.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "93.184.215.14")]
    [True, True, True, True, False]
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = inner or found
    return not found.is_global or found.is_multicast
