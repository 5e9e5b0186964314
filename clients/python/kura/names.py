"""Keys from names. The `kura` command makes the same key from the same name: test/vectors/names.json."""

from __future__ import annotations

import os
import re

from .errors import NameTooLongError

MAX_KEY_BYTES = 1024
# What a path segment may hold literally (RFC 3986, section 3.3), and the separator.
_LITERAL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/"
# Envoy rejects %5C, so a backslash is escaped by the byte 7F, and that byte by itself.
_ESCAPED_BY_7F = b"\x5c\x7f"
_SPELLING = [chr(byte) if byte in _LITERAL else f"%7F{byte:02X}" if byte in _ESCAPED_BY_7F else f"%{byte:02X}" for byte in range(256)]


def key_of(name: str | bytes | os.PathLike[str], prefix: str = "") -> str:
    """The key of a file name below a prefix. Every byte that a key cannot hold is percent-encoded, `%` included."""
    text = os.fspath(name)
    key = _encode(text).lstrip("/")
    if key == "":
        raise ValueError(f"{text!r} is not the name of an object: it is empty")
    start = _encode(prefix).strip("/")
    if start:
        key = f"{start}/{key}"
    for segment in key.split("/"):
        if segment in (".", ".."):
            raise ValueError(f"{text!r} contains the segment {segment!r}, which a key cannot hold: use os.path.abspath")
    if "%00" in key:
        raise ValueError(f"{text!r} contains a zero byte, which a key cannot hold")
    if len(key) > MAX_KEY_BYTES:
        raise NameTooLongError(f"the key of {text!r} has {len(key)} bytes; it must have at most {MAX_KEY_BYTES}", "name-too-long")
    return key


def prefix_of(name: str | bytes | os.PathLike[str], prefix: str = "") -> str:
    """The prefix of all keys below a folder name: empty, or with a slash at its end."""
    text = os.fspath(name)
    folder = text.strip("/") if isinstance(text, str) else text.strip(b"/")
    if folder:
        return key_of(folder, prefix) + "/"
    return f"{key_of(prefix)}/" if prefix.strip("/") else ""


def name_of(key: str) -> str:
    """The name whose key this is. A byte that is not UTF-8 becomes a surrogate, as in file names."""
    raw = re.sub(rb"%7F(5C|7F)|%([0-9A-Fa-f]{2})", lambda match: bytes.fromhex((match[1] or match[2]).decode()), key.encode("ascii"))
    return raw.decode("utf-8", "surrogateescape")


def _encode(name: str | bytes) -> str:
    # A file name that is not UTF-8 reaches Python with surrogates (PEP 383).
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    return "".join([_SPELLING[byte] for byte in raw])
