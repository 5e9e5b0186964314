"""The datasets as DataLoader uses them: copied into worker processes, which know their number from get_worker_info."""

from __future__ import annotations

import functools
import multiprocessing
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import System
from fake_kura import FakeKura

import kura

STUBS = str(Path(__file__).parent / "stubs")
if STUBS not in sys.path:
    sys.path.insert(0, STUBS)

import torch.utils.data

from kura.torch import KuraDataset, KuraIterableDataset, read_names

Make = Callable[..., kura.Cache]
NAMES = [f"{number}.bin" for number in range(41)]
WORKERS = 4


@pytest.fixture(params=[False, True], ids=["plain", "through"])
def make(make: Make, request: pytest.FixtureRequest) -> Make:
    return functools.partial(make, through=request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
    return folder


def decode(name: str, data: bytes) -> str:
    assert data == name.encode()
    return data.decode()


def run_worker(arguments: tuple[Any, int, dict[str, int] | None, int | None]) -> tuple[list[str], dict[str, int], int]:
    """What a worker of StatefulDataLoader does: load its state, take samples, return its new state."""
    dataset, number, state, count = arguments
    torch.utils.data.worker_info = torch.utils.data.WorkerInfo(number, WORKERS)
    if isinstance(dataset, KuraDataset):
        own = range(len(dataset))[number::WORKERS]
        return dataset.__getitems__(own), {}, dataset.cache.counters().hits
    if state is not None:
        dataset.load_state_dict(state)
    iterator = iter(dataset)
    samples = [next(iterator) for _ in range(count)] if count is not None else list(iterator)
    return samples, dataset.state_dict(), dataset.cache.counters().hits


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_four_workers_read_each_sample_once_and_resume(method: str, fake: FakeKura, make: Make, folder: Path) -> None:
    dataset = KuraIterableDataset(NAMES, folder, decode, make(), shuffle=True, seed=7)
    single = KuraDataset(NAMES, folder, decode, make())
    assert single[0] == NAMES[0], "the parent has an open connection"
    with multiprocessing.get_context(method).Pool(WORKERS) as pool:
        first = pool.map(run_worker, [(dataset, number, None, 4) for number in range(WORKERS)], chunksize=1)
        rest = pool.map(run_worker, [(dataset, number, first[number][1], None) for number in range(WORKERS)], chunksize=1)
        again = pool.map(run_worker, [(dataset, number, None, None) for number in range(WORKERS)], chunksize=1)
        mapped = pool.map(run_worker, [(single, number, None, None) for number in range(WORKERS)], chunksize=1)
    for number in range(WORKERS):
        assert first[number][0] + rest[number][0] == again[number][0], "the order after a resume is the same"
        assert rest[number][1]["epoch"] == 1 and rest[number][1]["position"] == 0
    assert Counter(sample for samples, _, _ in again for sample in samples) == Counter(NAMES)
    assert sorted(sample for samples, _, _ in mapped for sample in samples) == sorted(NAMES)
    assert sum(hits for _, _, hits in mapped) == len(NAMES), "the second dataset reads what the first one stored"
    assert fake.methods().count("PUT") >= len(NAMES)


def shards(dataset_of: Callable[[int], KuraIterableDataset], ranks: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    parts = []
    for rank in range(ranks):
        dataset = dataset_of(rank)
        samples: list[str] = []
        for number in range(workers):
            monkeypatch.setattr(torch.utils.data, "worker_info", SimpleNamespace(id=number, num_workers=workers))
            dataset.set_epoch(0)
            samples += list(dataset)
        assert len(samples) == len(dataset)
        parts.append(samples)
    return parts


@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (3, 1), (3, 4), (50, 2)])
def test_ranks_get_equal_parts(ranks: int, workers: int, make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make()
    padded = shards(
        lambda rank: KuraIterableDataset(NAMES, folder, decode, cache, shuffle=True, rank=rank, world_size=ranks),
        ranks,
        workers,
        monkeypatch,
    )
    assert len({len(part) for part in padded}) == 1
    assert {sample for part in padded for sample in part} == set(NAMES)
    cut = shards(
        lambda rank: KuraIterableDataset(NAMES, folder, decode, cache, drop_last=True, rank=rank, world_size=ranks),
        ranks,
        workers,
        monkeypatch,
    )
    assert len({len(part) for part in cut}) == 1
    assert all(count == 1 for count in Counter(sample for part in cut for sample in part).values())


def test_epochs_differ_and_repeat(make: Make, folder: Path) -> None:
    dataset = KuraIterableDataset(NAMES, folder, decode, make(), shuffle=True)
    first, second = list(dataset), list(dataset)
    assert first != second and sorted(first) == sorted(second)
    dataset.set_epoch(0)
    assert list(dataset) == first
    iterator = iter(dataset)
    assert next(iterator) == second[0]
    assert list(dataset) == second, "a new iteration begins at the start"


def test_a_state_of_another_layout_is_refused(make: Make, folder: Path) -> None:
    state = KuraIterableDataset(NAMES, folder, cache=make()).state_dict()
    with pytest.raises(ValueError, match="the state was saved with world_size 1; this dataset has 2, so the order differs"):
        KuraIterableDataset(NAMES, folder, cache=make(), rank=0, world_size=2).load_state_dict(state)
    with pytest.raises(ValueError, match="saved with names 41; this dataset has 40"):
        KuraIterableDataset(NAMES[1:], folder, cache=make()).load_state_dict(state)
    with pytest.raises(ValueError, match="rank is 2; it must be from 0 to 1"):
        KuraIterableDataset(NAMES, folder, cache=make(), rank=2, world_size=2)


def test_the_rank_comes_from_torch_or_from_torchrun(make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert list(KuraIterableDataset(NAMES, folder, decode, make())) == (NAMES + NAMES[:1])[1::3]
    group = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 1, get_world_size=lambda: 2)
    monkeypatch.setitem(sys.modules, "torch.distributed", group)
    assert list(KuraIterableDataset(NAMES, folder, decode, make())) == (NAMES + NAMES[:1])[1::2]


def test_a_manifest_names_the_samples(make: Make, folder: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_bytes(b"0.bin\r\n\n1.bin\nnot utf-8 \xff\n")
    assert read_names(manifest) == ["0.bin", "1.bin", "not utf-8 \udcff"]
    dataset = KuraDataset(manifest, lambda name: name.encode("utf-8", "surrogateescape"), cache=make())
    assert len(dataset) == 3 and dataset[2] == b"not utf-8 \xff"
    assert dataset.__getitems__([1, 0]) == [b"1.bin", b"0.bin"]


def test_the_cache_may_be_away(fake: FakeKura, make: Make, folder: Path) -> None:
    fake.stop()
    assert list(KuraIterableDataset(NAMES, folder, decode, make())) == NAMES


def test_datasets_work_without_torch(make: Make, folder: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from kura.torch import KuraIterableDataset as D; print(D.__bases__)"
    assert "object" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert issubclass(KuraIterableDataset, torch.utils.data.IterableDataset)


def test_a_dataset_reads_files_that_only_the_origin_of_kura_has(system: System, origin: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (origin / name).write_bytes(name.encode())
    cache = system.cache(f"vision/origin/{origin.name}", through=True)
    dataset = KuraDataset(NAMES, tmp_path, decode, cache)
    assert dataset.__getitems__(range(len(NAMES))) == NAMES
    assert cache.counters().hits == len(NAMES) and cache.counters().loads == 0
