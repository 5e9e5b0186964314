"""When to try again, and when to stop asking a server that is away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .errors import CacheError

T = TypeVar("T")
MAX_ATTEMPTS = 5
FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 2.0
MAX_AWAY_SECONDS = 30.0


class Patience:
    """The attempts of one operation."""

    def __init__(self, max_seconds: float, max_attempts: int) -> None:
        self._max_seconds = max_seconds
        self._max_attempts = max_attempts
        self.progressed()

    def progressed(self) -> None:
        """A body that comes in many parts may break many times."""
        self._attempts = 0
        self._deadline = time.monotonic() + self._max_seconds

    def wait(self, error: CacheError) -> None:
        """Returns after a pause when another attempt can help. Raises `error` otherwise."""
        # A rate limit is flow control, which only the deadline ends.
        self._attempts += 0 if error.kind.startswith("429") else 1
        if error.retry_after is None or self._attempts >= self._max_attempts:
            raise error
        backoff = min(FIRST_BACKOFF_SECONDS * 2**self._attempts, MAX_BACKOFF_SECONDS)
        # The jitter keeps the workers of a job apart, also after a Retry-After that all of them received.
        pause = error.retry_after + random.uniform(backoff / 2, backoff)
        if time.monotonic() + pause > self._deadline:
            raise error
        time.sleep(pause)


class Breaker:
    """Fails requests at once while the server is away, so that a job does not wait for it at each file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away_seconds = 0.0
        self._away_until = 0.0
        self._reason = ""

    def run(self, operation: Callable[[Patience], T], max_seconds: float, is_read: bool) -> T:
        with self._lock:
            was_away = self._away_seconds > 0
            if was_away and time.monotonic() < self._away_until:
                raise CacheError(f"{self._reason} (not tried again for {self._away_seconds:.0f} s)", "away")
        try:
            # A server that was away gets one attempt.
            result = operation(Patience(max_seconds, 1 if was_away else MAX_ATTEMPTS))
        except CacheError as error:
            # Envoy moves a read to another shard, so a 503 concerns all keys. For a write, it concerns one shard.
            if error.kind == "unreachable" or (is_read and error.kind.startswith("503")):
                self._trip(str(error))
            raise
        if was_away:
            with self._lock:
                self._away_seconds = 0.0
        return result

    def _trip(self, reason: str) -> None:
        now = time.monotonic()
        with self._lock:
            if now < self._away_until:
                return
            self._away_seconds = min(max(1.0, self._away_seconds * 2), MAX_AWAY_SECONDS)
            self._away_until = now + self._away_seconds
            self._reason = reason
