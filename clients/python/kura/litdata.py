"""litData reads its optimized datasets through the cache. It calls the files of a dataset chunks; each one is an object."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from filelock import FileLock, Timeout  # type: ignore[import-not-found,unused-ignore]
from litdata import StreamingDataset  # type: ignore[import-not-found,unused-ignore]
from litdata.streaming.downloader import Downloader, register_downloader  # type: ignore[import-not-found,unused-ignore]
from litdata.streaming.resolver import Dir  # type: ignore[import-not-found,unused-ignore]

from .cache import Cache, Origin, source_in

SCHEME = "kura"
MAX_LOCK_SECONDS = 60.0


def streaming_dataset(name: str, cache: Cache | None = None, origin: Origin | None = None, **options: Any) -> StreamingDataset:
    """The dataset whose files begin with `name/`, below the prefix of the cache. `options` are those of StreamingDataset.

    With `origin`, a folder or an fsspec URL, a miss reads the file there and stores it.
    """
    storage = {"reader": _Reader(Cache() if cache is None else cache, origin)}
    return StreamingDataset(Dir(path=None, url=f"{SCHEME}://{name}"), storage_options=storage, **options)


class _Reader:
    """A spawned worker imports this module when it unpickles this object, and so knows the downloader."""

    def __init__(self, cache: Cache, origin: Origin | None) -> None:
        self._cache, self._origin = cache, origin

    def read(self, name: str) -> bytes:
        if self._origin is not None:
            return self._cache.get_or_load(name, source_in(self._origin, name))
        with self._cache.open(name) as file:
            return file.read()

    def read_range(self, name: str, start: int, length: int) -> bytes:
        data = self._cache.get(name, start, start + length)
        return self.read(name)[start : start + length] if data is None else data


class KuraDownloader(Downloader):  # type: ignore[misc,unused-ignore]
    def __init__(self, remote_dir: str, cache_dir: str, chunks: list[dict[str, Any]], storage_options: Any = None, **_: Any) -> None:
        super().__init__(remote_dir, cache_dir, chunks, storage_options)
        self._reader: _Reader = self._storage_options["reader"]

    def download_file(self, remote_filepath: str, local_filepath: str) -> None:
        # Workers share the local folder.
        with contextlib.suppress(Timeout), FileLock(f"{local_filepath}.lock", timeout=MAX_LOCK_SECONDS):
            if os.path.exists(local_filepath):
                return
            data = self._reader.read(_name_of(remote_filepath))
            temporary = f"{local_filepath}.tmp.{os.getpid()}"
            with open(temporary, "wb") as file:
                file.write(data)
            os.replace(temporary, local_filepath)

    def download_bytes(self, remote_filepath: str, offset: int, length: int, local_chunkpath: str) -> bytes:
        return self._reader.read_range(_name_of(remote_filepath), offset, length)


def _name_of(address: str) -> str:
    return address.removeprefix(f"{SCHEME}://")


register_downloader(f"{SCHEME}://", KuraDownloader, overwrite=True)
