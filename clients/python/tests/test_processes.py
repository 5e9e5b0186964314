"""A cache in worker processes, and in many threads."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_kura import FakeKura

import kura

Make = Callable[..., kura.Cache]
NAMES = [f"file-{number}" for number in range(40)]


def read_all(cache: kura.Cache) -> tuple[int, int, dict[str, int]]:
    for name in NAMES:
        assert cache.get(name) == name.encode()
    counts = cache.counters()
    return os.getpid(), counts.hits, counts.errors


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_each_worker_opens_its_own_connections(method: str, fake: FakeKura, make: Make) -> None:
    cache = make()
    for name in NAMES:
        assert cache.put(name, name.encode())
    assert cache.get(NAMES[0]) is not None, "the parent has an open connection"
    with multiprocessing.get_context(method).Pool(4) as pool:
        results = pool.map(read_all, [cache] * 8, chunksize=1)
    assert all(errors == {} and hits >= len(NAMES) for _, hits, errors in results)
    assert read_all(cache)[1] == 1 + len(NAMES), "the counters of the parent are its own"


@pytest.mark.filterwarnings("ignore:This process")
def test_a_child_works_that_was_forked_while_threads_read(fake: FakeKura, make: Make) -> None:
    cache = make()
    for name in NAMES:
        cache.put(name, name.encode())
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            assert cache.get(NAMES[0]) == NAMES[0].encode()

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(4)]
        try:
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    try:
                        # The cache that the child inherits, with the locks and connections of its parent.
                        os._exit(0 if read_all(cache)[1] == len(NAMES) else 1)
                    finally:
                        os._exit(2)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
        for reader in readers:
            reader.result()


def test_get_many_keeps_the_order_and_its_bound(fake: FakeKura, make: Make) -> None:
    cache = make()
    for name in NAMES[:-1]:
        cache.put(name, name.encode())
    asked = len(fake.requests)
    results = cache.get_many(NAMES, workers=3)
    assert next(results) == (NAMES[0], NAMES[0].encode())
    results.close()
    assert len(fake.requests) - asked <= 7
    assert list(cache.get_many(iter(NAMES), workers=3)) == [(name, name.encode()) for name in NAMES[:-1]] + [(NAMES[-1], None)]
    with pytest.raises(ValueError, match="workers is 0; it must be at least 1"):
        list(cache.get_many(NAMES, workers=0))
    with pytest.raises(ValueError, match="contains the segment"):
        list(cache.get_many(["a/../b"]))
