"""The received part of a body, which may come in several responses."""

from __future__ import annotations

from urllib3.response import BaseHTTPResponse

from .errors import CacheError


class Download:
    """The received part of a body. It continues after a break while the version stays the same."""

    def __init__(self, start: int, end: int | None, if_match: str | None) -> None:
        self._start, self._end, self._if_match = start, end, if_match
        self._etag: str | None = None
        self._parts: list[bytes] = []
        self._expected: int | None = None
        self.received = 0
        self.is_complete = False

    def request_headers(self) -> dict[str, str]:
        if self._etag is None:
            self._clear()  # The next response could be of another version.
        if_range = {"If-Range": self._etag} if self._etag is not None and self.received > 0 else {}
        headers = if_range | ({"If-Match": self._if_match} if self._if_match else {})
        first = self._start + self.received
        if first > 0 or self._end is not None:
            headers["Range"] = f"bytes={first}-" + (str(self._end - 1) if self._end is not None else "")
        return headers

    def accept(self, response: BaseHTTPResponse) -> bool:
        """Whether the body is the next part. Completes the download when the range lies past the end."""
        if response.status == 416:
            if self.received > 0:
                raise CacheError("the object changed while it was read", "changed")
            self.is_complete = True
            return False
        if response.status not in (200, 206):
            raise CacheError(f"a GET returned the unexpected status {response.status}", f"{response.status}")
        length = length_of(response)
        first = self._start + self.received
        if response.status == 206 and _range_start(response) != first:
            raise CacheError("a response has another range than the request", "bad-range")
        if response.status == 200 and first > 0:
            self._restart(response)
        if self._expected is None:
            self._expected = length
        elif self.received + length != self._expected:
            raise CacheError("a resumed response has another length than the first one", "bad-range")
        self._etag = response.headers.get("etag")
        return True

    def _restart(self, response: BaseHTTPResponse) -> None:
        """The object was replaced since the break, so the whole new version arrives."""
        if self._start > 0 or self._if_match:
            raise CacheError("the object changed while it was read", "changed")
        self._clear()

    def _clear(self) -> None:
        self._parts.clear()
        self.received = 0
        self._expected = None

    def append(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        self.received += len(chunk)

    def finish(self) -> None:
        if self.received != self._expected:
            raise CacheError(f"a body has {self.received} bytes; {self._expected} were announced", "body-cut", 0.0)
        self.is_complete = True

    def content(self) -> bytes:
        whole = b"".join(self._parts)
        # A response with status 200 to a range has the whole object.
        return whole if self._end is None else whole[: self._end - self._start]


def length_of(response: BaseHTTPResponse) -> int:
    length = response.headers.get("content-length")
    if length is None or not length.isdigit():
        # Without a length, a broken transfer looks complete.
        raise CacheError("a response has no Content-Length: is a proxy between this job and kura?", "no-length")
    return int(length)


def _range_start(response: BaseHTTPResponse) -> int | None:
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None
