"""What can go wrong. A miss is not an error."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting is missing or wrong. The message names the argument and the variable."""


class CacheError(OSError):
    """The cache did not answer a request, or rejected it. The job can read the source instead."""

    def __init__(self, message: str, kind: str = "other", retry_after: float | None = None) -> None:
        super().__init__(message)
        #: A short name for counters, such as "403 forbidden" or "unreachable".
        self.kind = kind
        #: Seconds before a retry can help. None: a retry gets the same result.
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[CacheError], tuple[str, str, float | None]]:
        return type(self), (str(self), self.kind, self.retry_after)


class NameTooLongError(CacheError, ValueError):
    """The key of a name is longer than a key can be, so the object cannot be cached."""


class AccessError(CacheError, PermissionError):
    """The token is missing or invalid (401), or the policy does not allow the request (403)."""
