"""Where the cache is and how to use it: arguments first, then the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from .errors import ConfigError
from .names import key_of

TIMEOUT_SECONDS = 5.0
THROUGH_TIMEOUT_SECONDS = 35.0


@dataclass(frozen=True)
class Settings:
    server: str
    token_file: str
    prefix: str
    ca_file: str | None
    #: For each socket operation. A failure of kura takes at most 2.5 s to arrive, and with `through` 30 s.
    timeout_seconds: float
    #: Time in which an operation may begin another attempt, counted from its last progress.
    max_retry_seconds: float
    direct: bool
    #: kura fetches a miss from the origin of its key.
    through: bool
    strict: bool

    @property
    def is_tls(self) -> bool:
        return self.server.startswith("https://")


def read_settings(
    server: str | None,
    token_file: str | os.PathLike[str] | None,
    prefix: str | None,
    ca_file: str | os.PathLike[str] | None,
    timeout_seconds: float | None,
    max_retry_seconds: float,
    direct: bool,
    through: bool,
    strict: bool,
) -> Settings:
    address = server or os.environ.get("KURA_SERVER") or ""
    if not address:
        raise ConfigError("no server: set KURA_SERVER, such as http://kura.kura-system, or pass server=")
    token = os.fspath(token_file or os.environ.get("KURA_TOKEN_FILE") or "")
    if not token:
        raise ConfigError("no token file: set KURA_TOKEN_FILE, such as /var/run/secrets/kura/token, or pass token_file=")
    authority = os.fspath(ca_file or os.environ.get("KURA_CA_FILE") or "") or None
    start = (os.environ.get("KURA_PREFIX") or "" if prefix is None else prefix).strip("/")
    if start:
        try:
            key_of(start)
        except ValueError as error:
            raise ConfigError(f"the prefix (KURA_PREFIX) is wrong: {error}") from None
    if direct and through:
        raise ConfigError("direct and through exclude each other: kura sends no redirect for an object that it may fetch")
    timeout = timeout_seconds or (THROUGH_TIMEOUT_SECONDS if through else TIMEOUT_SECONDS)
    return Settings(_checked_server(address), token, start, authority, timeout, max_retry_seconds, direct, through, strict)


def _checked_server(address: str) -> str:
    try:
        url = urlsplit(address)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ConfigError(f"the server (KURA_SERVER) is {address!r}: {error}") from None
    if url.scheme not in ("http", "https") or not host:
        raise ConfigError(f"the server (KURA_SERVER) is {address!r}; it must be http://HOST[:PORT] or https://HOST[:PORT]")
    if url.path.strip("/") or url.query or url.fragment or "@" in url.netloc:
        raise ConfigError(f"the server (KURA_SERVER) is {address!r}; it must end after the host and port: use prefix= for a path")
    bracketed = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{bracketed}" + (f":{port}" if port is not None else "")
