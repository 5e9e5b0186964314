"""kura:// for fsspec, and so for pandas, pyarrow, zarr and Hugging Face datasets. A path is a name below the prefix."""

from __future__ import annotations

import errno
import io
import os
from typing import Any, BinaryIO, NoReturn

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]
from fsspec.callbacks import DEFAULT_CALLBACK  # type: ignore[import-untyped]
from fsspec.core import has_magic  # type: ignore[import-untyped]

from .cache import DEFAULT_BLOCK_BYTES, Cache
from .object_file import ObjectUpload


class KuraFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Takes the arguments of kura.Cache as `storage_options`. Raises FileNotFoundError for a miss only."""

    protocol = "kura"

    def __init__(
        self,
        server: str | None = None,
        token_file: str | None = None,
        prefix: str | None = None,
        ca_file: str | None = None,
        direct: bool = False,
        through: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.cache = Cache(server, token_file, prefix, ca_file, direct=direct, through=through, strict=True)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        stat = self.cache.stat(name)
        if stat is None:
            raise _absent(name)
        return {"name": name, "type": "file", "size": stat.size, "ETag": stat.etag, "mtime": stat.modified}

    def exists(self, path: str, **_: Any) -> bool:
        """Raises PermissionError for a rejected token, where the inherited method returns False."""
        return self.cache.stat(self._strip_protocol(path)) is not None

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def isdir(self, path: str) -> bool:
        """kura has no folders."""
        return False

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        name = self._strip_protocol(path)
        if (start or 0) < 0 or (end or 0) < 0:  # Counted from the end, so the size is needed.
            return bytes(super().cat_file(path, start, end))
        data = self.cache.get(name, start or 0, end)
        if data is None:
            raise _absent(name)
        return data

    def put_file(self, lpath: str, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **options: Any) -> None:
        if self._intrans or os.path.isdir(lpath):
            return super().put_file(lpath, rpath, callback, mode, **options)  # type: ignore[no-any-return]
        if mode == "create" and self.exists(rpath):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), rpath)
        with open(lpath, "rb") as file:
            self._store(self._strip_protocol(rpath), file)
            callback.set_size(file.tell())
            callback.relative_update(file.tell())

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, autocommit: bool = True, **_: Any) -> io.BufferedIOBase:
        if mode == "rb":
            return self.cache.open(path, block_size or DEFAULT_BLOCK_BYTES)
        if mode == "wb":
            return ObjectUpload(path, self._store, autocommit)
        raise ValueError(f"the mode is {mode!r}; it must be rb or wb, because kura stores whole objects")

    def _store(self, name: str, file: BinaryIO) -> None:
        if not self.cache.put(name, file):
            raise OSError(errno.ENOSPC, "the shard did not keep the object", name)

    def _rm(self, path: str) -> None:
        name = self._strip_protocol(path)
        if not self.cache.delete(name):
            raise _absent(name)

    def ls(self, path: str, detail: bool = True, **_: Any) -> NoReturn:
        raise _no_listing("ls", path)

    def find(self, path: str, *_: Any, **__: Any) -> NoReturn:
        raise _no_listing("find", path)

    def walk(self, path: str, *_: Any, **__: Any) -> NoReturn:
        raise _no_listing("walk", path)

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """Finds one object by its whole name. Libraries call it for each path that they receive."""
        if has_magic(path):
            raise _no_listing("glob", path)
        return super().glob(path, maxdepth=maxdepth, **options)

    def du(self, path: str, *_: Any, **__: Any) -> NoReturn:
        raise _no_listing("du", path)


def _absent(name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "the object is not in the cache", name)


def _no_listing(operation: str, path: str) -> NotImplementedError:
    return NotImplementedError(f"{operation} of {path!r}: kura cannot list objects. Name each file, for example from a manifest")
