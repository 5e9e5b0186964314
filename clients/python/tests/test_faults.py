"""What a job sees when something breaks, with a server that breaks on demand."""

from __future__ import annotations

import io
import logging
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kura import FakeKura, cut_after, drop, refuse

import kura
from kura import counters

Make = Callable[..., kura.Cache]
BODY = bytes(range(256)) * 16_000


def test_a_broken_body_is_resumed_from_the_break(fake: FakeKura, make: Make) -> None:
    fake.store("vision/a", BODY)
    fake.faults.extend([cut_after(1_500_000), cut_after(1_100_000)])
    cache = make()
    assert cache.get("a") == BODY
    ranges = [headers.get("Range") for _, _, headers in fake.requests]
    assert ranges[0] is None and ranges[1:] != [None, None]
    assert all(headers["If-Range"] == fake.objects["vision/a"][1] for _, _, headers in fake.requests[1:])
    assert cache.counters() == kura.Counters(hits=1, bytes_read=len(BODY))


def test_a_broken_range_is_resumed_inside_the_range(fake: FakeKura, make: Make) -> None:
    fake.store("vision/a", BODY)
    fake.faults.append(cut_after(1_200_000))
    assert make().get("a", 1000, 3_000_000) == BODY[1000:3_000_000]
    assert all(headers["Range"].endswith("-2999999") for _, _, headers in fake.requests)


def test_an_object_that_was_replaced_during_a_break_is_returned_whole(fake: FakeKura, make: Make) -> None:
    def cut_and_replace(handler: object) -> None:
        cut_after(1_500_000)(handler)  # type: ignore[arg-type]
        fake.store("vision/a", BODY[::-1])

    fake.store("vision/a", BODY)
    fake.faults.append(cut_and_replace)
    assert make().get("a") == BODY[::-1]


def test_a_body_that_breaks_at_the_same_byte_again_and_again_ends(fake: FakeKura, make: Make) -> None:
    fake.store("vision/a", BODY)
    fake.faults.extend(cut_after(10) for _ in range(20))
    with pytest.raises(kura.CacheError, match="a body ended after") as caught:
        make(strict=True).get("a")
    assert caught.value.kind == "body-cut"
    assert 2 <= len(fake.requests) <= 5


def test_a_response_without_a_length_is_refused(fake: FakeKura, make: Make) -> None:
    def without_length(handler: object) -> None:
        handler.send_response(200)  # type: ignore[attr-defined]
        handler.send_header("x-kura-shard", "fake")  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.wfile.write(b"half")  # type: ignore[attr-defined]
        handler.close_connection = True  # type: ignore[attr-defined]

    for operation in (make(strict=True).get, make(strict=True).stat):
        fake.faults.append(without_length)
        with pytest.raises(kura.CacheError, match="a response has no Content-Length: is a proxy between"):
            operation("a")


def test_a_connection_that_drops_is_tried_again(fake: FakeKura, make: Make) -> None:
    cache = make()
    fake.faults.extend([drop, drop])
    assert cache.put("a", io.BytesIO(b"skipped, stored")) is True
    assert fake.objects["vision/a"][0] == b"skipped, stored"
    fake.faults.append(drop)
    assert cache.get("a") == b"skipped, stored"
    assert cache.counters().errors == {}


def test_a_file_is_stored_from_its_position(fake: FakeKura, make: Make) -> None:
    file = io.BytesIO(b"head, body")
    file.seek(6)
    fake.faults.append(drop)
    assert make().put("a", file)
    assert fake.objects["vision/a"][0] == b"body"
    assert make().put("b", memoryview(b"view"))
    with pytest.raises(TypeError, match="put takes bytes or a binary file that can seek, not generator"):
        make().put("c", (b"" for _ in range(2)))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status: int, fake: FakeKura, make: Make) -> None:
    fake.store("vision/a", b"x")
    fake.faults.append(refuse(status, "slow-down", "", {"Retry-After": "1"}))
    began = time.monotonic()
    assert make().get("a") == b"x"
    assert time.monotonic() - began >= 1


def test_a_retry_after_beyond_the_deadline_fails_at_once(fake: FakeKura, make: Make) -> None:
    fake.faults.append(refuse(429, "too-many-requests", "the policy limits vision", {"Retry-After": "3600"}))
    with pytest.raises(kura.CacheError, match="429 too-many-requests: the policy limits vision"):
        make(strict=True).get("a")
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [400, 405, 412, 413, 507])
def test_an_answer_that_cannot_change_is_not_tried_again(status: int, fake: FakeKura, make: Make) -> None:
    fake.faults.append(refuse(status, "reason", "why"))
    with pytest.raises(kura.CacheError, match=f"PUT vision/a: {status} reason: why"):
        make(strict=True).put("a", b"x")
    assert len(fake.requests) == 1


def test_a_404_that_no_shard_sent_is_an_error_and_not_a_miss(fake: FakeKura, make: Make) -> None:
    fake.faults.append(lambda handler: handler.answer(404, b"<h1>nginx</h1>"))
    cache = make()
    assert cache.get("a") is None
    assert cache.counters() == kura.Counters(errors={"404": 1})
    fake.faults.extend([lambda handler: handler.answer(404, b"<h1>nginx</h1>")])
    with pytest.raises(kura.CacheError, match=r"is not kura \(KURA_SERVER\)"):
        cache.check()


def test_a_page_of_another_server_is_an_error_and_not_an_object(fake: FakeKura, make: Make) -> None:
    fake.faults.extend([lambda handler: handler.answer(200, b"<h1>Log in</h1>")] * 3)
    cache = make()
    assert cache.get("a") is None and cache.put("a", b"x") is False
    assert cache.counters() == kura.Counters(errors={"200": 2})
    with pytest.raises(kura.CacheError, match=r"GET vision/kura-check: 200: http://127.0.0.1:\d+ is not kura \(KURA_SERVER\)"):
        cache.check()


class BrokenFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise OSError(5, "Input/output error")


def test_an_error_of_the_file_that_is_stored_is_not_one_of_the_cache(fake: FakeKura, make: Make) -> None:
    cache = make()
    with pytest.raises(OSError, match="Input/output error") as caught:
        cache.put("a", BrokenFile(b"x"))
    assert not isinstance(caught.value, kura.CacheError)
    assert cache.counters() == kura.Counters()
    assert cache.put("a", b"x"), "the connection that was cut is not used again"


def test_a_file_that_shrinks_while_it_is_stored_is_an_error(fake: FakeKura, make: Make) -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            self.truncate(10)
            return super().read(size)

    with pytest.raises(OSError, match="the file ended 90 bytes before its announced length of 100 bytes"):
        make().put("a", Shrinking(b"x" * 100))
    assert "vision/a" not in fake.objects


def test_the_reason_of_a_refused_head_is_known(fake: FakeKura, make: Make) -> None:
    fake.faults.extend([refuse(403, "forbidden", "not yours"), refuse(403, "forbidden", "not yours")])
    with pytest.raises(kura.AccessError, match="HEAD vision/a: 403 forbidden: not yours"):
        make(strict=True).stat("a")


def test_a_token_that_was_replaced_during_the_request_is_used_at_once(fake: FakeKura, make: Make, token_file: Path) -> None:
    def expire(handler: object) -> None:
        fresh = token_file.with_name("fresh")
        fresh.write_text("b-token")
        os.replace(fresh, token_file)
        refuse(401, "unauthenticated", "the token has expired")(handler)  # type: ignore[arg-type]

    fake.store("vision/a", b"x")
    fake.faults.append(expire)
    assert make().get("a") == b"x"
    assert [headers["Authorization"] for _, _, headers in fake.requests] == ["Bearer a-token", "Bearer b-token"]
    fake.faults.extend([refuse(401, "unauthenticated", "the token has expired")] * 2)
    with pytest.raises(PermissionError, match="401 unauthenticated: the token has expired"):
        make(strict=True).get("a")
    assert len(fake.requests) == 3, "the same token is not sent again"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"the token file \S+ does not exist \(KURA_TOKEN_FILE\)"),
        ("", r"the token file \S+ is empty"),
        ("\n \n", r"the token file \S+ is empty"),
        ("two words", r"the token file \S+ holds no bearer token: it must be one line"),
        ("sëcret", r"the token file \S+ cannot be read: it is not ASCII"),
    ],
)
def test_a_bad_token_file_is_reported_and_never_its_content(
    text: str | None, message: str, make: Make, token_file: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    token_file.unlink() if text is None else token_file.write_text(text)
    source = tmp_path / "source"
    source.write_bytes(b"data")
    cache = make()
    with pytest.raises(kura.AccessError, match=message):
        cache.check()
    assert cache.get_or_load(source) == b"data"
    assert cache.counters() == kura.Counters(errors={"token-file": 1}, loads=1)
    assert "token file" in caplog.text and "ecret" not in caplog.text


def test_the_first_error_of_a_kind_is_logged_and_then_one_a_minute(
    fake: FakeKura, make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    cache = make()
    fake.faults.extend([refuse(403, "forbidden", "not yours")] * 3 + [refuse(507, "no-room", "full")])
    assert [cache.get("a") for _ in range(3)] == [None] * 3
    assert cache.put("a", b"x") is False
    assert [record.getMessage() for record in caplog.records] == [
        "kura: GET vision/a: 403 forbidden: not yours",
        "kura: PUT vision/a: 507 no-room: full",
    ]
    later = time.monotonic() + counters.LOG_INTERVAL_SECONDS
    monkeypatch.setattr(counters.time, "monotonic", lambda: later)
    fake.faults.append(refuse(403, "forbidden", "not yours"))
    cache.get("a")
    assert caplog.records[-1].getMessage().endswith("not yours (2 more of this kind since the last line)")
    assert cache.counters().errors == {"403 forbidden": 4, "507 no-room": 1}


def test_kinds_of_errors_have_a_limit(fake: FakeKura, make: Make) -> None:
    fake.faults.extend(refuse(400, f"code-{number}") for number in range(100))
    cache = make()
    for _ in range(100):
        cache.get("a")
    assert len(cache.counters().errors) == counters.MAX_KINDS + 1
    assert cache.counters().errors["other"] == 100 - counters.MAX_KINDS


def test_a_server_that_goes_away_in_mid_epoch_costs_one_wait_and_no_file(
    fake: FakeKura, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make()
    names = [tmp_path / f"file-{number}" for number in range(50)]
    for name in names:
        name.write_bytes(name.name.encode())
    for name in names[:10]:
        assert cache.get_or_load(name) == name.name.encode()
    fake.stop()
    for name in names[10:]:
        assert cache.get_or_load(name) == name.name.encode()
    counts = cache.counters()
    assert counts.misses == 10 and counts.stored == 10 and counts.loads == 50
    assert counts.errors["unreachable"] + counts.errors["away"] == 40
    assert "cannot connect to 127.0.0.1" in caplog.text and "Connection refused" in caplog.text
    fake.serve(fake.port)
    deadline = time.monotonic() + 60
    while cache.get(names[0]) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert cache.get(names[1]) == names[1].name.encode()


def test_strict_raises_instead_of_reading_the_source(fake: FakeKura, make: Make, tmp_path: Path) -> None:
    fake.faults.append(refuse(403, "forbidden", "not yours"))
    (tmp_path / "a").write_bytes(b"data")
    cache = make(strict=True)
    with pytest.raises(kura.AccessError):
        cache.get_or_load(tmp_path / "a")
    assert cache.get_or_load(tmp_path / "a") == b"data", "a miss still reads the source"


def test_a_name_too_long_for_a_key_is_read_from_the_source(fake: FakeKura, make: Make, tmp_path: Path) -> None:
    file = tmp_path / ("ä" * 100) / ("ö" * 100)
    file.parent.mkdir()
    file.write_bytes(b"data")
    cache = make()
    assert cache.get_or_load(file) == b"data" and cache.get(file) is None and not cache.put(file, b"x")
    assert cache.counters() == kura.Counters(errors={"name-too-long": 3}, loads=1)
    assert fake.requests == []
    with pytest.raises(kura.CacheError, match="it must have at most 1024"):
        make(strict=True).get_or_load(file)


def test_a_range_that_comes_as_the_whole_object_is_cut(fake: FakeKura, make: Make) -> None:
    fake.faults.append(lambda handler: handler.answer(200, BODY, {"ETag": '"1"', "x-kura-shard": "fake"}))
    assert make().get("a", 0, 10) == BODY[:10]


def test_a_range_of_an_object_that_was_replaced_during_a_break_is_an_error(fake: FakeKura, make: Make) -> None:
    def cut_and_replace(handler: object) -> None:
        cut_after(1_500_000)(handler)  # type: ignore[arg-type]
        fake.store("vision/a", BODY[::-1])

    fake.store("vision/a", BODY)
    fake.faults.append(cut_and_replace)
    with pytest.raises(kura.CacheError, match="the object changed while it was read"):
        make(strict=True).get("a", 10, 3_000_000)


def test_an_error_can_be_pickled(make: Make) -> None:
    error = pickle.loads(pickle.dumps(kura.AccessError("why", "403 forbidden")))
    assert (type(error), str(error), error.kind) == (kura.AccessError, "why", "403 forbidden")


def test_an_open_file_reads_one_version(fake: FakeKura, make: Make) -> None:
    fake.store("vision/a", BODY)
    file = make().open("a", block_bytes=65_536)
    assert file.read(10) == BODY[:10]
    fake.store("vision/a", BODY)
    with pytest.raises(kura.CacheError, match="412 precondition-failed"):
        file.seek(1_000_000)
        file.read(10)
    del fake.objects["vision/a"]
    with pytest.raises(kura.CacheError, match="the object was removed while it was read"):
        file.read(10)


def test_a_redirect_is_followed_without_the_token(fake: FakeKura, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shard = FakeKura()
    fake.redirect_to = f"http://127.0.0.1:{shard.port}"
    shard.store("vision/a", BODY)
    shard.faults.append(cut_after(2_000_000))
    cache = make(direct=True)
    assert cache.get("a") == BODY
    assert cache.get("b") is None
    assert shard.complaints == [] and len(shard.requests) == 3
    assert all("Authorization" not in headers for _, _, headers in shard.requests)
    fake.store("vision/a", b"through Envoy")
    shard.faults.append(refuse(403, "bad-ticket"))
    assert cache.get("a") == b"through Envoy"
    assert cache.counters().errors == {}
    shard.stop()
    assert cache.get("a") == b"through Envoy"
    asked = len(fake.requests)
    assert cache.get("a") == b"through Envoy"
    assert [path for _, path, _ in fake.requests[asked:]] == ["/objects/vision/a"], "no more redirects for a minute"
    assert cache.counters().errors == {"direct": 1}
    assert "/direct/vision/a" in caplog.text and "/ticket/" not in caplog.text and "a-token" not in caplog.text


def test_a_redirect_to_another_scheme_is_not_followed(fake: FakeKura, make: Make) -> None:
    fake.redirect_to = "file://"
    fake.store("vision/a", b"x")
    cache = make(direct=True)
    assert cache.get("a") == b"x"
    assert cache.counters().errors == {"direct": 1}
