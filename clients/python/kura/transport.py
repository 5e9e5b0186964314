"""HTTP to kura: one exchange with its errors, and operations that retry, resume and check lengths."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, TypeVar

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from .connection import ReadError, create_pools, parts_of
from .counters import Recorder
from .download import Download, length_of
from .errors import AccessError, CacheError, ConfigError
from .failures import connection_error, read_problem, reason_of, retry_after
from .retry import MAX_ATTEMPTS, Breaker, Patience
from .settings import Settings
from .token_file import TokenFile

T = TypeVar("T")
CHUNK_BYTES = 1 << 20
# Connections that stay open between requests. More threads open more for the time of a request.
MAX_IDLE_CONNECTIONS = 64
# A network policy that hides the shards hides them from every request.
DIRECT_PAUSE_SECONDS = 60.0
PAGE_KEYS = 4_000
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
USER_AGENT = "kura-client"


@dataclass(frozen=True)
class Stat:
    """Size and version of an object."""

    size: int
    etag: str
    content_type: str | None
    #: Seconds since 1970, by the clock of the shard.
    modified: float | None


@dataclass(frozen=True)
class Entry:
    """An object of a list."""

    key: str
    size: int
    #: Seconds since 1970, by the clock of the shard.
    modified: float


class Transport:
    """The connections of one process. A forked process must create its own."""

    def __init__(self, settings: Settings) -> None:
        self.pid = os.getpid()
        self.recorder = Recorder()
        self._settings = settings
        self._path = "/through/" if settings.through else "/objects/"
        self._token = TokenFile(settings.token_file)
        self._breaker = Breaker()
        self._direct_paused_until = 0.0
        context = _tls_context(settings) if settings.is_tls else None
        self._pools = create_pools(context, settings.timeout_seconds, MAX_IDLE_CONNECTIONS)
        self._server = self._pools.connection_from_url(settings.server)  # Finding it for each request takes longer.

    def get(self, key: str, start: int = 0, end: int | None = None, if_match: str | None = None) -> bytes | None:
        """The bytes from `start` to `end`, or None for a miss."""
        if end is not None and end <= start:
            return b""

        def operation(patience: Patience) -> bytes | None:
            download = Download(start, end, if_match)
            while not download.is_complete:
                received = download.received
                try:
                    response = self._open_body(key, download)
                    if response is None:
                        return None
                    self._receive(response, download)
                except CacheError as error:
                    if download.received - received >= CHUNK_BYTES:
                        patience.progressed()
                    patience.wait(error)
            return download.content()

        return self._run(operation, is_read=True)

    def stat(self, key: str) -> Stat | None:
        def attempt() -> Stat | None:
            response = self._exchange("HEAD", f"{self._path}{key}")
            headers = response.headers
            if response.status == 404:
                return None
            return Stat(length_of(response), headers.get("etag", ""), headers.get("content-type"), _modified(headers))

        return self._run(lambda patience: _repeat(attempt, patience), is_read=True)

    def put(self, key: str, body: bytes | memoryview | BinaryIO, length: int, content_type: str | None = None) -> bool:
        """Whether the shard kept the object."""
        start = 0 if isinstance(body, bytes | memoryview) else body.tell()
        headers = {"Content-Length": str(length)} | ({"Content-Type": content_type} if content_type else {})

        def attempt() -> bool:
            if not isinstance(body, bytes | memoryview):
                body.seek(start)
            try:
                response = self._exchange("PUT", f"{self._path}{key}", headers, parts_of(body, length))
            except ReadError as error:
                raise error.__cause__ or error from None
            response.drain_conn()
            return response.headers.get("x-kura-stored") != "no"

        return self._run(lambda patience: _repeat(attempt, patience))

    def delete(self, key: str) -> bool:
        """Whether the object was stored."""

        def attempt() -> bool:
            response = self._exchange("DELETE", f"{self._path}{key}")
            response.drain_conn()
            return response.status != 404

        return self._run(lambda patience: _repeat(attempt, patience))

    def keys(self, prefix: str, page_keys: int = PAGE_KEYS) -> Iterator[Entry]:
        """The objects under a prefix, in no order. Raises CacheError at the end if a shard did not answer."""
        after, is_complete = "", True
        while True:
            target = f"/datasets/{prefix}?keys&limit={page_keys}" + (f"&after={after}" if after else "")

            def attempt(target: str = target) -> list[str]:
                response = self._send("GET", target, {"Authorization": f"Bearer {self._token.read()}"})
                if response.status != 200 or response.headers.get("content-type") != "application/x-ndjson":
                    raise self._error("LIST", prefix, response)
                try:
                    return response.read().decode().splitlines()
                except (HTTPError, OSError) as error:
                    raise CacheError(f"a list ended early: {reason_of(error)}", "body-cut", 0.0) from error

            lines = _repeat(attempt, Patience(self._settings.max_retry_seconds, MAX_ATTEMPTS))
            end = json.loads(lines[-1])
            for line in lines[:-1]:
                entry = json.loads(line)
                yield Entry(entry["key"], entry["size"], datetime.fromisoformat(entry["modified"]).timestamp())
            is_complete = is_complete and end["complete"]
            if "next" not in end:
                break
            after = end["next"]
        if not is_complete:
            raise CacheError(f"LIST {prefix}: a shard does not answer or counts its files, so the list is not complete", "incomplete")

    def check(self, key: str) -> None:
        """Raises the reason when the cache does not answer a GET of this key."""

        def attempt() -> None:
            self._exchange("GET", f"{self._path}{key}", {"Range": "bytes=0-0"}).drain_conn()

        _repeat(attempt, Patience(self._settings.max_retry_seconds, MAX_ATTEMPTS))

    def _run(self, operation: Callable[[Patience], T], is_read: bool = False) -> T:
        seconds = self._settings.max_retry_seconds
        if self._settings.strict:  # The caller has no source to read instead, so no request fails without an attempt.
            return operation(Patience(seconds, MAX_ATTEMPTS))
        return self._breaker.run(operation, seconds, is_read)

    def _open_body(self, key: str, download: Download) -> BaseHTTPResponse | None:
        """The response to the next request of a download; None for a miss."""
        headers = download.request_headers()
        response = self._open_direct(key, headers) if self._uses_direct() else None
        if response is None:
            response = self._exchange("GET", f"{self._path}{key}", headers)
        if response.status == 404:
            response.drain_conn()
            if download.received == 0:
                return None
            raise CacheError(f"GET {key}: the object was removed while it was read", "changed")
        return response

    def _receive(self, response: BaseHTTPResponse, download: Download) -> None:
        if not download.accept(response):
            response.drain_conn()
            return
        try:
            # decode_content=False: an object with a Content-Encoding is returned as it was stored.
            for chunk in response.stream(CHUNK_BYTES, decode_content=False):
                download.append(chunk)
        except (HTTPError, OSError) as error:
            raise CacheError(f"a body ended after {download.received} bytes: {reason_of(error)}", "body-cut", 0.0) from error
        finally:
            # A connection with the rest of a body must not serve another request.
            response.close() if response.length_remaining else response.release_conn()
        download.finish()

    def _uses_direct(self) -> bool:
        # Shards speak plain HTTP. kura does not redirect a request that came over TLS.
        return self._settings.direct and not self._settings.is_tls and time.monotonic() >= self._direct_paused_until

    def _open_direct(self, key: str, headers: Mapping[str, str]) -> BaseHTTPResponse | None:
        """Follows the redirect to a shard. None when Envoy must send the body instead."""
        response = self._exchange("GET", f"/direct/{key}", headers)
        location = response.headers.get("location")
        if response.status != 307 or location is None:
            return response
        response.drain_conn()
        try:
            if not location.startswith("http://"):
                raise CacheError("a redirect leads to an address that is not http://", "bad-redirect")
            # Without the token: the address contains a ticket, and the shard needs nothing else.
            response = self._send("GET", location, headers)
            if _is_of_shard(response) and response.status in (200, 206, 404, 416):
                return response
            if response.status != 403:
                raise self._error("GET", key, response)
            response.drain_conn()  # The ticket has expired, or the shard has restarted.
        except CacheError as error:
            # The text of the error names the shard, never the ticket.
            self._direct_paused_until = time.monotonic() + DIRECT_PAUSE_SECONDS
            self.recorder.error("direct", f"a direct transfer failed, so Envoy sends the bodies for a minute: {error}")
        return None

    def _exchange(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Iterable[bytes | memoryview] | None = None,
    ) -> BaseHTTPResponse:
        """A response of a shard to use: success, a redirect, a miss, or a range past the end. Raises everything else."""
        token = self._token.read()
        fields = {**(headers or {}), "Authorization": f"Bearer {token}"}
        response = self._send(method, path, fields, body)
        if _is_of_shard(response) and (response.status < 400 or response.status in (404, 416)):
            if method == "HEAD":
                response.drain_conn()
            return response
        error = self._error(method, path.split("/", 2)[2], response)
        if response.status == 401 and self._token.read() != token:
            error.retry_after = 0.0
        raise error

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Iterable[bytes | memoryview] | None = None
    ) -> BaseHTTPResponse:
        fields = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        pool: Any = self._server if url.startswith("/") else self._pools
        try:
            return pool.urlopen(  # type: ignore[no-any-return]
                method, url, headers=fields, body=body, redirect=False, retries=False, preload_content=False
            )
        except (HTTPError, OSError) as error:
            address = self._settings.server if url.startswith("/") else url
            raise connection_error(error, address.split("/", 3)[2], is_tls=address.startswith("https://")) from None

    def _error(self, method: str, key: str, response: BaseHTTPResponse) -> CacheError:
        status = response.status
        if method == "HEAD" and status not in RETRIED_STATUSES:
            # The response to a HEAD has no body, so its reason needs another request.
            response.drain_conn()
            fields = {"Range": "bytes=0-0", "Authorization": f"Bearer {self._token.read()}"}
            response = self._send("GET", f"{self._path}{key}", fields)
        code, detail = read_problem(response)
        kind = f"{status} {code}".strip()
        message = f"{method} {key}: {kind}" + (f": {detail}" if detail else "")
        if status in (401, 403):
            return AccessError(message, kind)
        if code == "" and (status < 400 or status == 404):
            message += f": {self._settings.server} is not kura (KURA_SERVER)"
        return CacheError(message, kind, retry_after(response) if status in RETRIED_STATUSES else None)


def _is_of_shard(response: BaseHTTPResponse) -> bool:
    """A page of another server must not look like an object, and its 404 not like an empty cache."""
    return "x-kura-shard" in response.headers


def _repeat(attempt: Callable[[], T], patience: Patience) -> T:
    while True:
        try:
            return attempt()
        except CacheError as error:
            patience.wait(error)


def _tls_context(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # An SSLError, for a file that holds no certificate, is one too.
        reason = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"the CA file {settings.ca_file} (KURA_CA_FILE) cannot be used: {reason}") from None


def _modified(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers["last-modified"]).timestamp()
    except (KeyError, ValueError):
        return None
