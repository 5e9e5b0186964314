"""The cache as a training job uses it."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, TypeVar

from .counters import Counters
from .errors import CacheError
from .names import key_of, name_of, prefix_of
from .object_file import ObjectFile
from .settings import read_settings
from .transport import Stat, Transport

Name = str | bytes | os.PathLike[str]
#: A local path, a URL for fsspec, or a function that returns the bytes for a name.
Source = Name | Callable[[Any], bytes]
#: A folder or URL that holds the files of a dataset, or a function that returns the bytes of a name.
Origin = str | os.PathLike[str] | Callable[[str], bytes]
T = TypeVar("T")
N = TypeVar("N", bound=Name)
A = TypeVar("A")
DEFAULT_BLOCK_BYTES = 4 << 20
DEFAULT_WORKERS = 16
KINDS_OF_NO_LIST = ("403 ", "404 ", "incomplete")
# Closing a pool of the parent takes its lock, which a thread of the parent may have held at the fork.
_of_parents: list[Transport] = []


@dataclass(frozen=True)
class Listed:
    """An object of a list."""

    #: Below the prefix.
    name: str
    size: int
    #: Seconds since 1970, by the clock of the shard.
    modified: float


class Cache:
    """Objects below a prefix.

    A failure of the cache never fails the job: a method returns what it returns for a miss, counts the error and logs
    its reason. With `strict=True` it raises the CacheError instead. Wrong arguments always raise.

    One Cache serves all threads of a process. It can be pickled, and a forked process opens its own connections.
    """

    def __init__(
        self,
        server: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        prefix: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        *,
        strict: bool = False,
        direct: bool = False,
        through: bool = False,
        timeout_seconds: float | None = None,
        max_retry_seconds: float = 10.0,
    ) -> None:
        """Defaults: KURA_SERVER, KURA_TOKEN_FILE, KURA_PREFIX, KURA_CA_FILE. With `direct`, shards send large bodies.

        With `through`, kura fetches a miss from the origin of its key, once for all clients.
        """
        self._settings = read_settings(server, token_file, prefix, ca_file, timeout_seconds, max_retry_seconds, direct, through, strict)
        self._own = Transport(self._settings)

    def get(self, name: Name, start: int = 0, end: int | None = None) -> bytes | None:
        """The object, or the part from `start` to `end` (not included). None for a miss."""
        if start < 0:
            raise ValueError(f"start is {start}; it must not be negative")
        return self._forgive(lambda: self._get(self.key(name), start, end), None)

    def put(self, name: Name, data: bytes | bytearray | memoryview | BinaryIO, content_type: str | None = None) -> bool:
        """Stores bytes, or an open binary file from its position to its end. Returns whether the object is stored."""
        body, length = _body_of(data)
        return self._forgive(lambda: self._put(self.key(name), body, length, content_type), False)

    def stat(self, name: Name) -> Stat | None:
        """Size and version of the object. None for a miss."""
        return self._forgive(lambda: self._transport.stat(self.key(name)), None)

    def delete(self, name: Name) -> bool:
        """Returns whether an object was removed."""
        return self._forgive(lambda: self._transport.delete(self.key(name)), False)

    def open(self, name: Name, block_bytes: int = DEFAULT_BLOCK_BYTES) -> ObjectFile:
        """A seekable file that reads blocks ahead. Raises FileNotFoundError for a miss, and CacheError for a failure."""
        key = self.key(name)
        stat = self._raise(lambda: self._transport.stat(key))
        if stat is None:
            self._transport.recorder.add(misses=1)
            raise FileNotFoundError(errno.ENOENT, "the object is not in the cache", key)

        etag = stat.etag

        def fetch(start: int, end: int) -> bytes:
            nonlocal etag
            # An object that is being fetched from its origin has no version until it is whole.
            etag = etag or self._raise(lambda: self._version_of(key, stat))
            data = self._raise(lambda: self._transport.get(key, start, end, etag))
            if data is None:
                raise CacheError(f"GET {key}: the object was removed while it was read", "changed")
            self._transport.recorder.add(bytes_read=len(data))
            return data

        self._transport.recorder.add(hits=1)
        return ObjectFile(stat, fetch, block_bytes)

    def get_or_load(self, name: Name, source: Source | None = None) -> bytes:
        """The object, or the bytes of the source, which are then stored. The default source is the file `name`."""
        found = self.find(name)
        return found if isinstance(found, bytes) else self.load(name, source, found)

    def find(self, name: Name) -> bytes | Literal["miss", "failure"]:
        """The first half of get_or_load: the object, or why it must be loaded."""
        try:
            data = self._raise(lambda: self._get(self.key(name)))
            return "miss" if data is None else data
        except CacheError:
            if self._settings.strict:
                raise
            return "failure"

    def load(self, name: Name, source: Source | None, reason: Literal["miss", "failure"]) -> bytes:
        """The second half of get_or_load: reads the source and, after a miss, stores its bytes."""
        loaded = _load(name, source)
        self._transport.recorder.add(loads=1)
        # After a failure, a PUT would fail too and take its time.
        if reason == "miss":
            self._forgive(lambda: self._put(self.key(name), loaded, len(loaded)), False)
        return loaded

    def get_many(self, names: Iterable[N], workers: int = DEFAULT_WORKERS) -> Iterator[tuple[N, bytes | None]]:
        """The objects in the order of their names. At most 2 × `workers` objects are held in memory."""
        return map_in_threads(self.get, names, workers)

    def list(self, folder: Name = "") -> Iterator[Listed]:
        """The objects below a folder, in no order. It needs the right LIST. Raises CacheError for any failure.

        The last element is followed by a CacheError if the list is not complete, because a shard does not answer.
        """
        start = len(prefix_of("", self._settings.prefix))
        entries = self._transport.keys(prefix_of(folder, self._settings.prefix))
        while (entry := self._raise(lambda: next(entries, None))) is not None:
            yield Listed(name_of(entry.key[start:]), entry.size, entry.modified)

    def has_below(self, folder: Name) -> bool | None:
        """Whether there is an object below a folder. None: not known.

        A job without the right LIST and a cluster without the console do not know it. A shard that is away counts as
        empty, as it does for a read.
        """
        try:
            return next(self._transport.keys(prefix_of(folder, self._settings.prefix), 1), None) is not None
        except CacheError as error:
            if error.kind.startswith(KINDS_OF_NO_LIST):
                return None
            self._transport.recorder.error(error.kind, str(error))
            raise

    def check(self) -> None:
        """Raises CacheError with the reason when this job cannot read from the cache. Call it at the start of a job."""
        self._transport.check(self.key("kura-check"))

    def counters(self) -> Counters:
        """Counts of this process since it opened the cache."""
        return self._transport.recorder.snapshot()

    def key(self, name: Name) -> str:
        """The key of a name, for other clients."""
        return key_of(name, self._settings.prefix)

    @property
    def _transport(self) -> Transport:
        if self._own.pid != os.getpid():  # After a fork, connections and locks would be shared with the parent.
            _of_parents.append(self._own)
            self._own = Transport(self._settings)
        return self._own

    def _get(self, key: str, start: int = 0, end: int | None = None) -> bytes | None:
        data = self._transport.get(key, start, end)
        self._transport.recorder.add(**({"misses": 1} if data is None else {"hits": 1, "bytes_read": len(data)}))
        return data

    def _version_of(self, key: str, opened: Stat) -> str:
        stat = self._transport.stat(key)
        if stat is None or stat.size != opened.size:
            raise CacheError(f"GET {key}: the object changed while it was read", "changed")
        return stat.etag

    def _put(self, key: str, body: Any, length: int, content_type: str | None = None) -> bool:
        is_stored = self._transport.put(key, body, length, content_type)
        self._transport.recorder.add(**({"stored": 1, "bytes_written": length} if is_stored else {"not_stored": 1}))
        return is_stored

    def _raise(self, operation: Callable[[], T]) -> T:
        try:
            return operation()
        except CacheError as error:
            self._transport.recorder.error(error.kind, str(error))
            raise

    def _forgive(self, operation: Callable[[], T], otherwise: T) -> T:
        try:
            return self._raise(operation)
        except CacheError:
            if self._settings.strict:
                raise
            return otherwise

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._settings = state["settings"]
        self._own = Transport(self._settings)

    def __repr__(self) -> str:
        return f"Cache({self._settings.server!r}, prefix={self._settings.prefix!r})"


def map_in_threads(function: Callable[[A], T], arguments: Iterable[A], workers: int) -> Iterator[tuple[A, T]]:
    """Results in the order of the arguments, with at most 2 × `workers` calls ahead of the consumer."""
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    pending: deque[tuple[A, Future[T]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="kura")
    try:
        for argument in arguments:
            pending.append((argument, pool.submit(function, argument)))
            if len(pending) >= 2 * workers:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def source_in(origin: Origin, name: str) -> Source:
    return origin if callable(origin) else f"{os.fspath(origin).rstrip('/')}/{name}"


def _body_of(data: bytes | bytearray | memoryview | BinaryIO) -> tuple[bytes | memoryview | BinaryIO, int]:
    if isinstance(data, bytes):
        return data, len(data)
    if isinstance(data, bytearray | memoryview):
        view = memoryview(data).cast("B")
        return view, len(view)
    try:
        start = data.tell()
        end = data.seek(0, os.SEEK_END)
        data.seek(start)
    except (AttributeError, OSError):
        raise TypeError(f"put takes bytes or a binary file that can seek, not {type(data).__name__}") from None
    return data, end - start


def _load(name: Name, source: Source | None) -> bytes:
    if callable(source):
        return source(name)
    path = os.fspath(name if source is None else source)
    if isinstance(path, str) and "://" in path:
        try:
            import fsspec  # type: ignore[import-untyped]
        except ImportError:
            raise ImportError(f"the source {path} needs fsspec: pip install kura-client[fsspec]") from None
        with fsspec.open(path, "rb") as remote:
            return bytes(remote.read())
    with open(path, "rb") as file:
        return file.read()
