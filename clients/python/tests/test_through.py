"""Read-through: an object that kura is fetching has no version until it is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import System
from fake_kura import FakeKura, Fault, Handler, cut_after

import kura

Make = Callable[..., kura.Cache]
BODY = bytes(range(256)) * 16_000


def during_fill(fault: Fault) -> Fault:
    """The response to a request that joined a fill: without an ETag."""

    def respond(handler: Handler) -> None:
        send = handler.send_header
        handler.send_header = lambda name, value: None if name == "ETag" else send(name, value)  # type: ignore[method-assign]
        fault(handler)
        handler.send_header = send  # type: ignore[method-assign]

    return respond


def test_every_request_uses_the_path_of_read_through(fake: FakeKura, make: Make) -> None:
    cache = make(through=True, strict=True)
    assert cache.put("a", b"x")
    assert cache.get("a") == b"x"
    assert cache.stat("a") is not None
    assert cache.delete("a")
    assert cache.get("a") is None
    assert {path for _, path, _ in fake.requests} == {"/through/vision/a"}


def test_a_broken_body_of_a_fill_starts_again(fake: FakeKura, make: Make) -> None:
    def cut_and_replace(handler: Handler) -> None:
        during_fill(cut_after(1_500_000))(handler)
        fake.store("vision/a", BODY[::-1])

    fake.store("vision/a", BODY)
    fake.faults.append(cut_and_replace)
    assert make(through=True, strict=True).get("a", 1000, 3_000_000) == BODY[::-1][1000:3_000_000]
    assert [headers.get("Range") for _, _, headers in fake.requests] == ["bytes=1000-2999999"] * 2


def test_a_file_that_is_opened_during_a_fill_reads_the_version_that_results(fake: FakeKura, make: Make) -> None:
    fake.store("vision/a", BODY)
    fake.faults.append(during_fill(Handler._serve))
    with make(through=True).open("a", 1 << 20) as file:
        assert file.read(10) == BODY[:10]
        fake.store("vision/a", BODY[::-1])
        with pytest.raises(kura.CacheError, match="412"):
            file.read(2 << 20)


def test_a_redirect_and_read_through_exclude_each_other(make: Make) -> None:
    with pytest.raises(kura.ConfigError, match="exclude each other"):
        make(through=True, direct=True)


def test_the_system_fetches_what_the_cache_misses(system: System, origin: Path) -> None:
    (origin / "a b.bin").write_bytes(BODY)
    (origin / "empty").write_bytes(b"")
    cache = system.cache(f"vision/origin/{origin.name}", through=True, strict=True)
    stat = cache.stat("a b.bin")
    assert stat is not None and stat.size == len(BODY)
    assert cache.get("a b.bin", 1_000_000, 1_000_010) == BODY[1_000_000:1_000_010]
    assert cache.get("a b.bin") == BODY and cache.get("empty") == b""
    assert cache.get("absent") is None and cache.stat("absent") is None
    assert cache.counters().stored == 0


def test_a_file_of_the_origin_is_opened_while_it_is_fetched(system: System, origin: Path) -> None:
    (origin / "a").write_bytes(BODY)
    with system.cache(f"vision/origin/{origin.name}", through=True).open("a", block_bytes=100_000) as file:
        assert file.seek(2_000_000) == 2_000_000
        assert file.read() == BODY[2_000_000:]
        file.seek(0)
        assert file.read() == BODY
