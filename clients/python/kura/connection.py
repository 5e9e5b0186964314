"""Connections that notice a refused upload. Envoy responds to it at once and does not read the rest of the body."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any, BinaryIO

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read

# One timeout applies to one part of a body.
PART_BYTES = 65_536


def create_pools(ssl_context: ssl.SSLContext | None, timeout_seconds: float, max_idle: int) -> PoolManager:
    pools = PoolManager(num_pools=64, maxsize=max_idle, timeout=timeout_seconds, ssl_context=ssl_context)
    pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
    return pools


def parts_of(body: bytes | memoryview | BinaryIO) -> Iterator[bytes | memoryview]:
    if isinstance(body, bytes | memoryview):
        view = memoryview(body)
        yield from (view[start : start + PART_BYTES] for start in range(0, len(view), PART_BYTES))
    else:
        yield from iter(lambda: body.read(PART_BYTES), b"")


class _WatchesResponse(HTTPConnection):
    """urllib3 reads the response after a BrokenPipeError. The connection is closed then."""

    _is_cut = False

    def connect(self) -> None:
        self._is_cut = False
        super().connect()

    @property
    def is_connected(self) -> bool:
        return super().is_connected and not self._is_cut

    def send(self, data: Any) -> None:
        # Over TLS, a session ticket of the server makes the socket readable too. There, only the timeout counts.
        is_plain = self.sock is not None and not isinstance(self.sock, ssl.SSLSocket)
        try:
            if is_plain and wait_for_read(self.sock, 0):
                raise BrokenPipeError
            super().send(data)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            self._is_cut = True
            raise BrokenPipeError from None


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _WatchesResponse


class _TlsConnection(_WatchesResponse, HTTPSConnection):
    pass


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
