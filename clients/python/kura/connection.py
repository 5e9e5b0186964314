"""Connections that notice a refused upload. Envoy responds to it at once and does not read the rest of the body."""

from __future__ import annotations

import logging
import selectors
import ssl
from collections.abc import Iterator
from typing import Any, BinaryIO

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

# One timeout applies to one part of a body.
PART_BYTES = 65_536


def create_pools(ssl_context: ssl.SSLContext | None, timeout_seconds: float, max_idle: int) -> PoolManager:
    pools = PoolManager(num_pools=64, maxsize=max_idle, timeout=timeout_seconds, ssl_context=ssl_context)
    pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
    return pools


class ReadError(Exception):
    """The file that is sent cannot be read. Its cause is the error, which urllib3 must not take for one of the connection."""


def parts_of(body: bytes | memoryview | BinaryIO, length: int) -> Iterator[bytes | memoryview]:
    if isinstance(body, bytes | memoryview):
        view = memoryview(body)
        yield from (view[start : start + PART_BYTES] for start in range(0, len(view), PART_BYTES))
        return
    left = length
    while left > 0:
        try:
            part = body.read(min(PART_BYTES, left))
            if not part:
                raise OSError(f"the file ended {left} bytes before its announced length of {length} bytes")
        except OSError as error:
            raise ReadError from error
        left -= len(part)
        yield part


class _HidesTickets(logging.Filter):
    """Until a ticket expires, its address opens an object without a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and any(str(part).startswith("/ticket/") for part in record.args))


logging.getLogger("urllib3.connectionpool").addFilter(_HidesTickets())


class _WatchesResponse(HTTPConnection):
    """urllib3 reads the response after a BrokenPipeError. The connection is closed then."""

    _is_cut = False
    _sends_head = False

    def connect(self) -> None:
        self._is_cut = False
        super().connect()

    @property
    def is_connected(self) -> bool:
        return super().is_connected and not self._is_cut

    def endheaders(self, *body: Any, **options: Any) -> None:
        self._sends_head = True
        try:
            super().endheaders(*body, **options)
        finally:
            self._sends_head = False

    def send(self, data: Any) -> None:
        try:
            # A head fits the socket. Over TLS, a session ticket of the server makes the socket readable too: only the timeout counts.
            if self._sends_head or self.sock is None or isinstance(self.sock, ssl.SSLSocket):
                super().send(data)
            else:
                self._send_until_response(memoryview(data))
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            self._is_cut = True
            raise BrokenPipeError from None

    def _send_until_response(self, rest: memoryview) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while rest:
                ready = selector.select(self.sock.gettimeout())
                if not ready or ready[0][1] & selectors.EVENT_READ:
                    raise BrokenPipeError
                rest = rest[self.sock.send(rest) :]


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _WatchesResponse


class _TlsConnection(_WatchesResponse, HTTPSConnection):
    pass


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
