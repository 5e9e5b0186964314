"""kura:// for fsspec, and so for pandas, pyarrow, zarr and Hugging Face datasets. A path is a name below the prefix."""

from __future__ import annotations

import errno
import io
import os
from typing import Any, BinaryIO

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
        """An object, or a folder with objects below it. Without the right LIST, there are no folders."""
        name = self._strip_protocol(path)
        found = self._object(name) or self._folder(name)
        if found is None:
            raise _absent(name)
        return found

    def exists(self, path: str, **_: Any) -> bool:
        """Raises PermissionError for a rejected token, where the inherited method returns False."""
        name = self._strip_protocol(path)
        return (self._object(name) or self._folder(name)) is not None

    def isfile(self, path: str) -> bool:
        return self._object(self._strip_protocol(path)) is not None

    def isdir(self, path: str) -> bool:
        """Whether there are objects below the path. kura has no empty folders, except the root."""
        return self._folder(self._strip_protocol(path)) is not None

    def _object(self, name: str) -> dict[str, Any] | None:
        stat = self.cache.stat(name) if name.strip("/") else None
        return None if stat is None else self._info(name, stat.size, stat.modified, stat.etag)

    def _folder(self, name: str) -> dict[str, Any] | None:
        is_root = not name.strip("/")
        return {"name": name, "type": "directory", "size": 0} if is_root or self.cache.has_below(name) else None

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
        if mode == "create" and self.isfile(rpath):
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

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The objects and folders directly below a path. It reads the list of everything below the path."""
        folder = self._strip_protocol(path).strip("/")
        below = {name: info for name, info in self._below(folder).items() if _depth(name, folder) == 1}
        if not below and folder:
            info = self._object(folder)
            if info is None:
                raise _absent(folder)
            below = {folder: info}
        return list(below.values()) if detail else list(below)

    def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_: Any) -> Any:
        if maxdepth is not None and maxdepth < 1:
            raise ValueError(f"maxdepth is {maxdepth}; it must be at least 1")
        folder = self._strip_protocol(path).strip("/")
        found = {
            name: info
            for name, info in self._below(folder).items()
            if (withdirs or info["type"] == "file") and (maxdepth is None or _depth(name, folder) <= maxdepth)
        }
        if not found and folder and (info := self._object(folder)) is not None:
            found = {folder: info}
        return found if detail else list(found)

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """A name without wildcards needs no list. Libraries call it for each path that they receive."""
        if has_magic(path):
            return super().glob(path, maxdepth=maxdepth, **options)
        name = self._strip_protocol(path)
        info = self._object(name)
        found = {} if info is None else {name: info}
        return found if options.get("detail") else list(found)

    def du(self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **_: Any) -> Any:
        sizes = {name: info["size"] for name, info in self.find(path, maxdepth, withdirs, detail=True).items()}
        return sum(sizes.values()) if total else sizes

    def expand_path(self, path: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any) -> Any:
        """Without folders, because kura has none: what is copied or removed is an object."""
        if not recursive:
            return super().expand_path(path, recursive, maxdepth, **options)
        paths = [path] if isinstance(path, str) else path
        starts = [start for each in paths for start in (self.glob(each) if has_magic(each) else [each])]
        found = {name for start in starts for name in self.find(start, maxdepth)}
        if not found:
            raise _absent(str(path))
        return sorted(found)

    def _below(self, folder: str) -> dict[str, dict[str, Any]]:
        """Everything below a folder, sorted by name. kura has no folders: they are parts of names."""
        found: dict[str, dict[str, Any]] = {}
        for entry in self.cache.list(folder):
            found[entry.name] = self._info(entry.name, entry.size, entry.modified, None)
            parent = entry.name
            while "/" in parent:
                parent = parent.rpartition("/")[0]
                if len(parent) <= len(folder) or parent in found:
                    break
                found[parent] = {"name": parent, "type": "directory", "size": 0}
        return dict(sorted(found.items()))

    @staticmethod
    def _info(name: str, size: int, modified: float | None, etag: str | None) -> dict[str, Any]:
        return {"name": name, "type": "file", "size": size, "mtime": modified} | ({} if etag is None else {"ETag": etag})


def _depth(name: str, folder: str) -> int:
    below = name[len(folder) :].strip("/")
    return below.count("/") + 1


def _absent(name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "the object is not in the cache", name)
