import pickle
from pathlib import Path

import pytest

import kura


def test_the_environment_has_the_defaults(monkeypatch: pytest.MonkeyPatch, token_file: Path) -> None:
    monkeypatch.setenv("KURA_SERVER", "http://kura.kura-system/")
    monkeypatch.setenv("KURA_TOKEN_FILE", str(token_file))
    monkeypatch.setenv("KURA_PREFIX", "vision/imagenet-v1/")
    cache = kura.Cache()
    assert repr(cache) == "Cache('http://kura.kura-system', prefix='vision/imagenet-v1')"
    assert cache.key("/mnt/a.jpg") == "vision/imagenet-v1/mnt/a.jpg"
    assert kura.Cache(prefix="nlp").key("a") == "nlp/a"
    assert pickle.loads(pickle.dumps(cache)).key("a") == "vision/imagenet-v1/a"


def test_a_missing_variable_is_named(token_file: Path) -> None:
    with pytest.raises(kura.ConfigError, match="no server: set KURA_SERVER"):
        kura.Cache()
    with pytest.raises(kura.ConfigError, match="no token file: set KURA_TOKEN_FILE"):
        kura.Cache("http://localhost")


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("ftp://host", "is 'ftp://host'; it must be http://HOST"),
        ("host:80", "is 'host:80'; it must be http://HOST"),
        ("kura.kura-system", "it must be http://HOST"),
        ("http://", "it must be http://HOST"),
        ("http://host/objects/vision", "it must end after the host and port: use prefix= for a path"),
        ("http://user:secret@host", "it must end after the host and port"),
        ("http://host:99999", "Port out of range"),
    ],
)
def test_a_wrong_server_is_an_error(server: str, message: str, token_file: Path) -> None:
    with pytest.raises(kura.ConfigError, match=message):
        kura.Cache(server, token_file)


def test_a_prefix_with_dots_is_an_error(token_file: Path) -> None:
    with pytest.raises(kura.ConfigError, match=r"the prefix \(KURA_PREFIX\) is wrong: .* contains the segment"):
        kura.Cache("http://host", token_file, "vision/../nlp")


def test_a_ca_file_that_is_missing_or_empty_is_an_error(token_file: Path) -> None:
    with pytest.raises(kura.ConfigError, match=r"absent \(KURA_CA_FILE\) cannot be used: No such file"):
        kura.Cache("https://host", token_file, ca_file=token_file.parent / "absent")
    with pytest.raises(kura.ConfigError, match="cannot be used: it holds no certificate in PEM form"):
        kura.Cache("https://host", token_file, ca_file=token_file)
