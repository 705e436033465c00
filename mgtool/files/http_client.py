"""How servers are asked: what the user has set up for them stays with the hosts that the user named.

By hand: aiohttp follows redirects to any address, and takes only some of a session's headers off on the way.
"""

from __future__ import annotations

import asyncio
import functools
import io
import ipaddress
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.resolver import ThreadedResolver

from mgtool.files import remote
from mgtool.files.regular import MOST_BYTES
from mgtool.records import Reach

_HARMLESS = frozenset({"host", "accept", "accept-encoding", "user-agent", "range", "connection"})
"""Headers that every host may see."""

_HEADERS_S, _SILENT_S, _WHOLE_S = 30, 60, 300
"""How long a server may take for an answer's headers, for the next of its bytes, and for all of them."""
_SLOW_S, _LEAST_RATE = 30, 1 << 12
"""After so many seconds an answer has to come in so many bytes a second."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Client:
    """Makes sessions for fsspec; equal ones are one file system there.

    Attributes:
        reach: where requests may lead, and which hosts the user named.
        of_user: the URL itself is the user's word; redirects are followed anywhere, though not with the user's headers.
        most: bytes of an answer that is read whole.
    """

    reach: Reach
    of_user: bool
    most: int = MOST_BYTES

    async def __call__(self, **options: Any) -> aiohttp.ClientSession:
        """A session."""
        if not self.of_user:
            options["trust_env"] = False  # names would be looked up by a proxy, credentials in a file
        options |= {"connector": _Connector(self), "response_class": functools.partial(_Response, most=self.most)}
        patience = aiohttp.ClientTimeout(total=_WHOLE_S, sock_connect=_SILENT_S, sock_read=_SILENT_S)
        options.setdefault("timeout", patience)
        return aiohttp.ClientSession(**options)


class _Response(aiohttp.ClientResponse):
    """One that is not read, or waited for, for ever."""

    def __init__(self, *args: Any, most: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._most = most

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        async with asyncio.timeout(_HEADERS_S):
            return await super().start(connection)

    async def read(self) -> bytes:
        if self._body is not None:
            return await super().read()
        whole, began = io.BytesIO(), time.monotonic()
        async for part in self.content.iter_chunked(1 << 16):
            whole.write(part)
            self._refuse(whole.tell(), time.monotonic() - began)
        self._body = whole.getvalue()  # as the method itself does, for `text`
        return self._body

    def _refuse(self, count: int, seconds: float) -> None:
        """End what is too much, or too little."""
        if count > (most := min(self._most, MOST_BYTES)):
            why = f"more than {most:,} bytes"
        elif seconds > _SLOW_S and count < seconds * _LEAST_RATE:
            why = f"{count:,} bytes in {seconds:.0f} s"
        else:
            return
        self.close()
        raise remote.RefusedError(f"{self.url.host}: {why}")


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
