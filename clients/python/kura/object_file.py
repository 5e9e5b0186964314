"""An object as a file: read in ranges, or written at once."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from .transport import Stat

MAX_UPLOAD_IN_MEMORY_BYTES = 16 << 20


class ObjectFile(io.BufferedReader):
    """Reads blocks ahead. Every range comes from the version that `stat` describes."""

    def __init__(self, stat: Stat, fetch: Callable[[int, int], bytes], block_bytes: int) -> None:
        super().__init__(_Ranges(stat, fetch), block_bytes)
        self.stat = stat

    @property
    def size(self) -> int:
        return self.stat.size


class ObjectUpload(io.BufferedIOBase):
    """A file that becomes an object when it is closed without an error."""

    def __init__(self, store: Callable[[BinaryIO], None]) -> None:
        super().__init__()
        self._store = store
        self._file = cast(BinaryIO, tempfile.SpooledTemporaryFile(MAX_UPLOAD_IN_MEMORY_BYTES))

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._file.seek(0)
            self._store(self._file)
        finally:
            self._discard()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close() if kind is None else self._discard()

    def __del__(self) -> None:  # A file that the program forgot is not whole.
        self._discard()

    def _discard(self) -> None:
        self._file.close()
        super().close()


class _Ranges(io.RawIOBase):
    def __init__(self, stat: Stat, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self.stat = stat
        self._fetch = fetch
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.stat.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._next(self.stat.size)

    def _next(self, length: int) -> bytes:
        if self.closed:
            raise ValueError("I/O operation on a closed file")
        end = min(self._position + length, self.stat.size)
        data = self._fetch(self._position, end) if end > self._position else b""
        self._position += len(data)
        return data
