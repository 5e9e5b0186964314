"""The token of this Pod. The kubelet replaces its file long before the token expires."""

from __future__ import annotations

import os
import re
import threading

from .errors import AccessError


class TokenFile:
    """Reads the file again when it changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version: tuple[int, ...] | None = None
        self._token = ""

    def read(self) -> str:
        try:
            status = os.stat(self._path)
            # The kubelet replaces a link, so the inode changes even when time and size do not.
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            with self._lock:
                if version != self._version:
                    self._token = self._load()
                    self._version = version
                return self._token
        except FileNotFoundError:
            raise AccessError(f"the token file {self._path} does not exist (KURA_TOKEN_FILE)", "token-file") from None
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, AccessError):
                raise
            raise AccessError(f"the token file {self._path} cannot be read: {_reason(error)}", "token-file") from None

    def _load(self) -> str:
        with open(self._path, encoding="ascii") as file:
            token = file.read(65_536).strip()
        if token == "":
            raise AccessError(f"the token file {self._path} is empty", "token-file")
        if re.fullmatch(r"[A-Za-z0-9\-._~+/]+=*", token) is None:
            raise AccessError(f"the token file {self._path} holds no bearer token: it must be one line without spaces", "token-file")
        return token


def _reason(error: Exception) -> str:
    # The text of a UnicodeDecodeError contains bytes of the file.
    return error.strerror or "unknown" if isinstance(error, OSError) else "it is not ASCII"
