"""kura.torch with the real torch and torchdata: four workers under each start method, and the resume of an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import System
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import kura
from kura.torch import KuraDataset, KuraIterableDataset

NAMES = [f"{number}.bin" for number in range(203)]
METHODS = ["fork", "spawn", "forkserver"]
WORKERS = 4


def decode(name: str, data: bytes) -> str:
    assert data == name.encode() * 1000
    return name


def originals(name: str) -> bytes:
    return name.encode() * 1000


def no_origin(name: str) -> bytes:
    raise AssertionError(f"{name} was read from its origin")


@pytest.fixture
def cache(system: System, prefix: str) -> kura.Cache:
    cache = system.cache(prefix)
    assert cache.get("absent") is None, "the parent has an open connection"
    return cache


def flat(batches: Any) -> list[str]:
    return [name for batch in batches for name in batch]


@pytest.mark.parametrize("method", METHODS)
def test_a_map_dataset_is_stored_once_and_then_read(method: str, cache: kura.Cache) -> None:
    options: dict[str, Any] = {"batch_size": 10, "num_workers": WORKERS, "multiprocessing_context": method, "shuffle": True}
    assert sorted(flat(DataLoader(KuraDataset(NAMES, originals, decode, cache), **options))) == sorted(NAMES)
    assert sorted(flat(DataLoader(KuraDataset(NAMES, no_origin, decode, cache), **options))) == sorted(NAMES)


@pytest.mark.parametrize("method", METHODS)
def test_an_iterable_dataset_resumes_in_the_middle_of_an_epoch(method: str, cache: kura.Cache) -> None:
    def loader(origin: Callable[[str], bytes], epoch: int = 0) -> StatefulDataLoader[Any]:
        dataset = KuraIterableDataset(NAMES, origin, decode, cache, shuffle=True, seed=7)
        dataset.set_epoch(epoch)
        return StatefulDataLoader(dataset, batch_size=5, num_workers=WORKERS, multiprocessing_context=method)

    whole = flat(loader(originals))
    assert Counter(whole) == Counter(NAMES)
    first = loader(no_origin)
    batches = iter(first)
    begun = flat(next(batches) for _ in range(17))
    state = first.state_dict()
    rest = loader(no_origin)
    rest.load_state_dict(state)
    assert begun + flat(rest) == whole
    rest.dataset.set_epoch(1)
    second = flat(rest)
    assert second != whole and Counter(second) == Counter(NAMES), "the next epoch has another order"
    assert second == flat(loader(no_origin, epoch=1))


def test_workers_that_persist_begin_a_new_epoch(cache: kura.Cache) -> None:
    dataset = KuraIterableDataset(NAMES, originals, decode, cache, shuffle=True)
    loader = DataLoader(dataset, batch_size=5, num_workers=WORKERS, persistent_workers=True)
    first, second = flat(loader), flat(loader)
    assert first != second and Counter(first) == Counter(second) == Counter(NAMES)


def test_the_order_of_ranks_comes_from_the_process_group(cache: kura.Cache, tmp_path: Path) -> None:
    import torch.distributed

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        assert list(KuraIterableDataset(NAMES, originals, decode, cache)) == NAMES
    finally:
        torch.distributed.destroy_process_group()
