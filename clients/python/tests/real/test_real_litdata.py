"""kura.litdata with the real litData: an optimized dataset is read from its origin once, and then from kura."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import System
from litdata import StreamingDataLoader, optimize
from litdata.streaming.downloader import get_downloader

import kura
from kura.litdata import streaming_dataset

SAMPLES = 500
WORKERS = 4


def sample(index: int) -> dict[str, Any]:
    return {"index": index, "data": index.to_bytes(4, "big") * 500}


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("optimized")
    optimize(sample, list(range(SAMPLES)), str(folder), chunk_bytes="64KB", num_workers=2, start_method="spawn")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[str]:
    """Local folders of litData, which would otherwise find the chunks of the epoch before."""
    return (str(tmp_path / f"local-{number}") for number in range(100))


def indices(dataset: Any, method: str | None) -> list[int]:
    options: dict[str, Any] = {} if method is None else {"num_workers": WORKERS, "multiprocessing_context": method}
    found = []
    for batch in StreamingDataLoader(dataset, batch_size=20, **options):
        for index, data in zip(batch["index"].tolist(), batch["data"], strict=True):
            assert data == index.to_bytes(4, "big") * 500
            found.append(index)
    return found


@pytest.mark.parametrize("method", [None, "fork", "spawn", "forkserver"])
def test_chunks_come_from_the_origin_once(method: str | None, system: System, prefix: str, optimized: Path, folders: Iterator[str]) -> None:
    cache = system.cache(prefix)
    assert cache.get("absent") is None, "the parent has an open connection"
    with pytest.raises(FileNotFoundError):
        streaming_dataset(optimized.name, cache, cache_dir=next(folders))
    first = streaming_dataset(optimized.name, cache, origin=optimized.parent, cache_dir=next(folders), shuffle=True)
    assert sorted(indices(first, method)) == list(range(SAMPLES))
    again = streaming_dataset(optimized.name, cache, cache_dir=next(folders), shuffle=True)
    assert sorted(indices(again, method)) == list(range(SAMPLES)), "kura alone has every chunk"


def test_a_range_of_a_chunk_needs_no_other_bytes(system: System, prefix: str, optimized: Path, tmp_path: Path) -> None:
    """litData 0.2.76 reads ranges for `dataset[index]`, but not of datasets that it stores in columns, such as this one."""
    cache = system.cache(prefix)
    dataset = streaming_dataset(optimized.name, cache, origin=optimized.parent, cache_dir=str(tmp_path / "index"))
    downloader = get_downloader(dataset.input_dir.url, str(tmp_path), [{"filename": "chunk-0-0.bin"}], dataset.storage_options)
    chunk = (optimized / "chunk-0-0.bin").read_bytes()
    assert downloader.download_chunk_bytes_from_index(0, 100, 50) == chunk[100:150], "a miss reads the origin"
    read = cache.counters().bytes_read
    assert downloader.download_chunk_bytes_from_index(0, 100, 50) == chunk[100:150]
    assert cache.counters().bytes_read == read + 50


def test_a_rejected_token_is_a_permission_error(system: System, folders: Iterator[str]) -> None:
    with pytest.raises(PermissionError, match="403 forbidden"):
        streaming_dataset("train", system.cache("nlp/x"), cache_dir=next(folders))


def test_the_cache_may_be_away(optimized: Path, system: System, folders: Iterator[str]) -> None:
    away = kura.Cache("http://127.0.0.1:1", system.tokens["vision/trainer"], "vision", max_retry_seconds=0.1)
    dataset = streaming_dataset(optimized.name, away, origin=optimized.parent, cache_dir=next(folders))
    assert sorted(indices(dataset, None)) == list(range(SAMPLES))
