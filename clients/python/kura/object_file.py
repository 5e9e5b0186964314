"""An object as a file: read in ranges, or written at once."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from .counters import log
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
    """A file that becomes an object when it is closed without an exception. Otherwise nothing is stored.

    With `autocommit=False`, it becomes an object at `commit`, as in a transaction of fsspec.
    """

    def __init__(self, name: str, store: Callable[[str, BinaryIO], None], autocommit: bool = True) -> None:
        super().__init__()
        self._name, self._store, self._autocommit = name, store, autocommit
        self._file = cast(BinaryIO, tempfile.SpooledTemporaryFile(MAX_UPLOAD_IN_MEMORY_BYTES))
        self._handled_before = sys.exc_info()[1]

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if self.closed:
            return
        # A wrapper, such as OpenFile of fsspec, TextIOWrapper or GzipFile, closes this file after an exception too.
        error = sys.exc_info()[1]
        if error is not None and error is not self._handled_before:
            log.warning("kura: %s was not stored: it was closed while %s was handled", self._name, type(error).__name__)
            self.discard()
        elif self._autocommit:
            self.commit()
        else:
            super().close()

    def commit(self) -> None:
        if self._file.closed:  # After discard.
            return
        try:
            self._file.seek(0)
            self._store(self._name, self._file)
        finally:
            self.discard()

    def discard(self) -> None:
        self._file.close()
        super().close()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close() if kind is None else self.discard()

    def __del__(self) -> None:  # A file that the program forgot is not whole.
        self.discard()


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
