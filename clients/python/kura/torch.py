"""Datasets for torch.utils.data.DataLoader and torchdata's StatefulDataLoader. torch itself is not required to use them."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from .cache import Cache, Origin, map_in_threads, source_in

try:
    from torch.utils.data import Dataset, IterableDataset  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    Dataset = IterableDataset = object

#: A sequence of names, or a manifest: a text file with a name on each line.
Names = Sequence[str] | str | os.PathLike[str]
DEFAULT_THREADS = 8


class _Samples:
    """Sample i is `decode(name, data)` of name i, from the cache or from its origin. Without `decode`, it is the bytes."""

    def __init__(
        self,
        names: Names,
        origin: Origin,
        decode: Callable[[str, bytes], Any] | None = None,
        cache: Cache | None = None,
        threads: int = DEFAULT_THREADS,
    ) -> None:
        self.names = read_names(names)
        self.cache = Cache() if cache is None else cache
        self._origin, self._decode, self._threads = origin, decode, threads

    def _read(self, name: str) -> Any:
        return self._sample(name, self.cache.get_or_load(name, source_in(self._origin, name)))

    def _sample(self, name: str, data: bytes) -> Any:
        return data if self._decode is None else self._decode(name, data)


class KuraDataset(_Samples, Dataset):  # type: ignore[misc,unused-ignore]
    """A map-style dataset."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Any:
        return self._read(self.names[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A whole batch, which DataLoader requests where this method exists. `threads` threads load what is missing.

        One thread reads what is cached: threads would double the CPU time of these short reads.
        """
        names = [self.names[index] for index in indices]
        found = [self.cache.find(name) for name in names]
        missing = [(name, data) for name, data in zip(names, found, strict=True) if not isinstance(data, bytes)]
        loaded = (data for _, data in map_in_threads(self._load, missing, self._threads))
        return [self._sample(name, data if isinstance(data, bytes) else next(loaded)) for name, data in zip(names, found, strict=True)]

    def _load(self, missing: tuple[str, Literal["miss", "failure"]]) -> bytes:
        name, reason = missing
        return self.cache.load(name, source_in(self._origin, name), reason)


class KuraIterableDataset(_Samples, IterableDataset):  # type: ignore[misc,unused-ignore]
    """An iterable dataset that gives each name to one worker of one rank.

    Every rank gets the same number of samples, as with DistributedSampler: the first names of the order are repeated, or
    with `drop_last` the last ones are left out. Create it after torch.distributed.init_process_group.
    """

    def __init__(
        self,
        names: Names,
        origin: Origin,
        decode: Callable[[str, bytes], Any] | None = None,
        cache: Cache | None = None,
        threads: int = DEFAULT_THREADS,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(names, origin, decode, cache, threads)
        self._shuffle, self._seed, self._drop_last = shuffle, seed, drop_last
        # Here, because a worker process that was spawned does not know the process group.
        known_rank, known_size = _process_group()
        self._rank = known_rank if rank is None else rank
        self._world_size = known_size if world_size is None else world_size
        if not 0 <= self._rank < self._world_size:
            raise ValueError(f"rank is {self._rank}; it must be from 0 to {self._world_size - 1}, below world_size")
        self._epoch = 0
        self._position = 0
        self._first = 0

    def set_epoch(self, epoch: int) -> None:
        """Changes the order of the next epoch. A complete epoch adds 1 by itself in the process that iterates."""
        self._epoch = epoch

    def __len__(self) -> int:
        """The samples of this rank, by all its workers."""
        size, ranks = len(self.names), self._world_size
        return size // ranks if self._drop_last else -(-size // ranks)

    def __iter__(self) -> Iterator[Any]:
        self._position, self._first = self._first, 0
        worker, workers = _worker()
        own = self._order()[self._rank :: self._world_size][worker::workers]
        for _, sample in map_in_threads(self._read, own[self._position :], self._threads):
            # Before the yield: a state that is taken now includes this sample.
            self._position += 1
            yield sample
        self._epoch += 1
        self._position = 0

    def state_dict(self) -> dict[str, int]:
        """The place of this worker in its epoch. StatefulDataLoader keeps it for each worker."""
        return {"epoch": self._epoch, "position": self._position, **self._layout()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        for field, value in self._layout().items():
            if state[field] != value:
                raise ValueError(f"the state was saved with {field} {state[field]}; this dataset has {value}, so the order differs")
        self._epoch, self._first = state["epoch"], state["position"]
        self._position = self._first

    def _layout(self) -> dict[str, int]:
        """What decides which samples a worker gets."""
        return {"world_size": self._world_size, "workers": _worker()[1], "names": len(self.names), "seed": self._seed}

    def _order(self) -> Sequence[str]:
        order = list(self.names)
        if self._shuffle:
            random.Random(f"{self._seed}/{self._epoch}").shuffle(order)
        total = len(self) * self._world_size
        while 0 < len(order) < total:
            order += order[: total - len(order)]
        return order[:total]


def read_names(names: Names) -> Sequence[str]:
    if not isinstance(names, str | os.PathLike):
        return names
    with open(names, encoding="utf-8", errors="surrogateescape", newline="\n") as manifest:
        return [line.rstrip("\r\n") for line in manifest if line.strip()]


def _worker() -> tuple[int, int]:
    """Number of this DataLoader worker, and how many there are. torch is loaded in every worker."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (0, 1) if info is None else (info.id, info.num_workers)


def _process_group() -> tuple[int, int]:
    """Rank and world size, from torch or from the variables of torchrun."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
