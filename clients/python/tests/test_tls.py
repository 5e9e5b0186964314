"""KURA_TEST_TLS names a folder with two certificates for 127.0.0.1, each with its authority."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kura import FakeKura

import kura

Make = Callable[..., kura.Cache]


@pytest.fixture(scope="module")
def certificates() -> Path:
    if "KURA_TEST_TLS" not in os.environ:
        pytest.skip("KURA_TEST_TLS does not name a folder with certificates")
    return Path(os.environ["KURA_TEST_TLS"])


@pytest.fixture
def over_tls(fake: FakeKura, certificates: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "own" / "tls.crt", certificates / "own" / "tls.key")
    fake.use_tls(context)
    return f"https://127.0.0.1:{fake.port}"


def test_https_works_with_the_right_authority(fake: FakeKura, make: Make, over_tls: str, certificates: Path) -> None:
    cache = make(server=over_tls, ca_file=certificates / "own" / "ca.crt", strict=True)
    assert cache.put("a", b"x") and cache.get("a") == b"x"
    cache.check()


def test_a_wrong_authority_is_reported_once_and_the_token_is_not_sent(
    fake: FakeKura, make: Make, over_tls: str, certificates: Path
) -> None:
    for ca_file in (certificates / "other" / "ca.crt", None):
        with pytest.raises(kura.CacheError, match=r"the certificate of 127\.0\.0\.1:\d+ is not valid: .*\(KURA_CA_FILE\)"):
            make(server=over_tls, ca_file=ca_file, strict=True).get("a")
    assert fake.requests == []


def test_http_to_a_server_with_tls_is_reported(make: Make, over_tls: str) -> None:
    cache = make(server=over_tls.replace("https", "http"), strict=True, max_retry_seconds=0.5)
    with pytest.raises(kura.CacheError, match="if the server uses TLS, KURA_SERVER must begin with https://"):
        cache.get("a")


def test_https_to_a_server_without_tls_is_reported(fake: FakeKura, make: Make) -> None:
    cache = make(server=f"https://127.0.0.1:{fake.port}", strict=True, max_retry_seconds=0.5)
    with pytest.raises(kura.CacheError, match=r"no TLS with 127\.0\.0\.1:\d+: .*does the server use TLS\?"):
        cache.get("a")
    assert fake.requests == []
