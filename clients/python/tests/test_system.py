"""The package and the real system of `npm start`."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from conftest import System

import kura

BODY = random.Random(1).randbytes(3_000_000)


@pytest.mark.parametrize("direct", [False, True])
def test_an_object_is_stored_read_and_removed(direct: bool, system: System, prefix: str) -> None:
    cache = system.cache(prefix, strict=True, direct=direct)
    cache.check()
    assert cache.get("a b.bin") is None and cache.stat("a b.bin") is None
    assert cache.put("a b.bin", BODY, content_type="application/x-test")
    assert cache.get("a b.bin") == BODY
    assert cache.get("a b.bin", 1_000_000, 1_000_010) == BODY[1_000_000:1_000_010]
    assert cache.get("a b.bin", 2_999_990) == BODY[-10:]
    assert cache.get("a b.bin", 9_000_000) == b"" and cache.get("a b.bin", 5, 5) == b""
    stat = cache.stat("a b.bin")
    assert stat is not None and (stat.size, stat.content_type) == (len(BODY), "application/x-test")
    assert stat.modified is not None and abs(stat.modified - time.time()) < 3600
    assert cache.delete("a b.bin") and not cache.delete("a b.bin")
    assert cache.put("empty", b"") and cache.get("empty") == b""
    counts = cache.counters()
    assert (counts.misses, counts.errors, counts.stored) == (1, {}, 2)


@pytest.mark.parametrize("direct", [False, True])
def test_an_open_object_is_a_file(direct: bool, system: System, prefix: str) -> None:
    cache = system.cache(prefix, strict=True, direct=direct)
    cache.put("a", BODY)
    with cache.open("a", block_bytes=100_000) as file:
        assert file.readable() and file.seekable() and file.size == len(BODY) and file.read(7) == BODY[:7]
        chooser = random.Random(2)
        for _ in range(20):
            start, length = chooser.randrange(len(BODY)), chooser.randrange(300_000)
            assert file.seek(start) == start
            assert file.read(length) == BODY[start : start + length]
        assert file.seek(-5, os.SEEK_END) == len(BODY) - 5 and file.read() == BODY[-5:] and file.read(5) == b""
        file.seek(0)
        assert file.read() == BODY
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    with pytest.raises(FileNotFoundError, match="the object is not in the cache"):
        cache.open("absent")


def test_get_or_load_reads_the_source_once(system: System, prefix: str, tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("a", "my file, ü", "back\\slash", os.fsdecode(b"not utf-8 \xff"))]
    for name in names:
        name.write_bytes(os.fsencode(name))
    first, second = system.cache(prefix), system.cache(prefix)
    for name in names:
        assert first.get_or_load(name) == os.fsencode(name)
        assert second.get_or_load(os.fspath(name)) == os.fsencode(name)
    counts = first.counters()
    assert (counts.hits, counts.misses, counts.loads, counts.stored) == (0, 4, 4, 4)
    assert second.counters() == kura.Counters(hits=4, bytes_read=counts.bytes_written)
    assert second.get_or_load("from a function", lambda name: f"bytes of {name}".encode()) == b"bytes of from a function"
    assert second.get_or_load("from another file", names[0]) == os.fsencode(names[0])
    with pytest.raises(FileNotFoundError, match="/does/not/exist"):
        second.get_or_load("/does/not/exist")


def test_envoy_keeps_the_keys_of_the_package(system: System) -> None:
    cache = system.cache("vision", strict=True)
    token = Path(system.tokens["vision/trainer"]).read_text().strip()
    connection = http.client.HTTPConnection(system.server.removeprefix("http://"))
    for vector in json.loads(Path(os.environ["KURA_TEST_VECTORS"]).read_text()):
        name = bytes.fromhex(vector["bytes"]) if "bytes" in vector else vector["name"].encode()
        assert cache.put(name, name)
        connection.request("GET", f"/objects/{vector['key']}", headers={"Authorization": f"Bearer {token}"})
        assert connection.getresponse().read() == name, "another client finds it under the key of the vector"
    connection.close()


def test_a_token_that_is_replaced_is_taken_up(system: System, prefix: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    shutil.copy(system.tokens["nlp/trainer"], token)
    cache = kura.Cache(system.server, token, prefix)
    assert not cache.put("a", b"x")
    fresh = tmp_path / "fresh"
    shutil.copy(system.tokens["vision/trainer"], fresh)
    fresh.replace(token)
    assert cache.put("a", b"x")
    assert cache.counters().errors == {"403 forbidden": 1}


def test_the_prefix_of_another_namespace_is_reported(system: System) -> None:
    cache = system.cache("nlp/x")
    with pytest.raises(PermissionError, match="403 forbidden: .* vision/trainer to GET nlp/x/kura-check: it allows GET under vision/"):
        cache.check()
    assert cache.get("a") is None and cache.stat("a") is None and not cache.put("a", b"x")
    assert cache.counters().errors == {"403 forbidden": 3} and cache.counters().misses == 0


def with_claims(token: str, **claims: object) -> str:
    head, body, signature = token.split(".")
    payload = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip('=')}.{signature}"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 1_000_000_000}, "401 unauthenticated: the token has expired"),
        ({"nbf": 9_000_000_000, "exp": 9_000_000_100}, "401 unauthenticated: the token is not valid yet"),
        ({"aud": ["api"]}, "401 unauthenticated: the token has another audience"),
        ({"sub": "somebody else"}, "401 unauthenticated: the token is not signed by this cluster"),
    ],
)
def test_a_wrong_token_is_reported(claims: dict[str, object], message: str, system: System, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(with_claims(Path(system.tokens["vision/trainer"]).read_text().strip(), **claims))
    cache = kura.Cache(system.server, token, "vision")
    with pytest.raises(kura.AccessError, match=message):
        cache.check()


def test_a_dead_server_is_reported(token_file: Path) -> None:
    cache = kura.Cache("http://127.0.0.1:1", token_file, "vision", max_retry_seconds=0.5)
    with pytest.raises(kura.CacheError, match="cannot connect to 127.0.0.1:1: Connection refused"):
        cache.check()
    with pytest.raises(kura.CacheError, match="cannot connect to no-such-host.invalid: "):
        kura.Cache("http://no-such-host.invalid", token_file, "vision", max_retry_seconds=0.5).check()


def test_a_rate_limit_slows_the_job_and_loses_nothing(system: System) -> None:
    """test/e2e/python-client.test.ts gives nlp 20 requests a second and objects of at most 1 MiB."""
    cache = system.cache("nlp/limited", "nlp/trainer", max_retry_seconds=60)
    names = [f"file-{number}" for number in range(60)]
    assert dict(cache.get_many(names, workers=16)) == dict.fromkeys(names)
    assert cache.counters() == kura.Counters(misses=60)


def test_a_refused_upload_reports_the_limit(system: System) -> None:
    cache = system.cache("nlp/limited", "nlp/trainer", strict=True, max_retry_seconds=60)
    for _ in range(3):
        with pytest.raises(kura.CacheError, match="413 too-large: the policy limits an object to 1048576 bytes"):
            cache.put("large", b"x" * 30_000_000)
    assert cache.put("small", b"x" * 1_000_000)
