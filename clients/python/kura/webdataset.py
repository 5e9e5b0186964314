"""kura:// for WebDataset. It calls its tar files shards; each one is an object."""

from __future__ import annotations

import io
from typing import BinaryIO
from urllib.parse import unquote

from webdataset import gopen_schemes  # type: ignore[import-not-found,unused-ignore]

from .cache import DEFAULT_BLOCK_BYTES, Cache, Origin, source_in
from .errors import CacheError
from .object_file import ObjectUpload

SCHEME = "kura"


def register(cache: Cache | None = None, origin: Origin | None = None) -> None:
    """Opens URLs such as kura://train-{0..9}.tar. A name is everything after kura://, below the prefix of the cache.

    With `origin`, a folder or an fsspec URL, a miss reads the tar file there and stores it. It is held in memory then.
    Call this in each process that reads: spawned workers know nothing of the registration in their parent.
    """
    gopen_schemes[SCHEME] = _Opener(Cache() if cache is None else cache, origin).open


class _Opener:
    def __init__(self, cache: Cache, origin: Origin | None) -> None:
        self._cache, self._origin = cache, origin

    def open(self, url: str, mode: str = "rb", bufsize: int = DEFAULT_BLOCK_BYTES, **_: object) -> io.BufferedIOBase:
        # The `bufsize` of WebDataset, 8 KiB, would make each block a request.
        name = unquote(url.removeprefix(f"{SCHEME}://"), errors="surrogateescape")
        if mode == "wb":
            return ObjectUpload(name, self._store)
        try:
            return self._cache.open(name)
        except (FileNotFoundError, CacheError):
            if self._origin is None:
                raise
        return io.BytesIO(self._cache.get_or_load(name, source_in(self._origin, name)))

    def _store(self, name: str, file: BinaryIO) -> None:
        if not self._cache.put(name, file):
            raise CacheError(f"{name} was not stored", "not-stored")
