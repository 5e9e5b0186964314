"""Counts of this process, and a log that repeats no error more than once a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

log = logging.getLogger("kura")
LOG_INTERVAL_SECONDS = 60.0
# Kinds come from responses, so they need a limit. Later ones are counted as "other".
MAX_KINDS = 64


@dataclass
class Counters:
    """What one process did. A DataLoader worker has its own."""

    hits: int = 0
    misses: int = 0
    #: By kind, such as {"401 unauthenticated": 3}. An error is not a miss.
    errors: dict[str, int] = field(default_factory=dict)
    #: Objects that a PUT stored, and objects that the shard accepted and did not keep.
    stored: int = 0
    not_stored: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    #: Reads of the source by get_or_load.
    loads: int = 0


class Recorder:
    """Counts and logs; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._logged: dict[str, tuple[float, int]] = {}

    def add(self, **amounts: int) -> None:
        with self._lock:
            self._counts.update(amounts)

    def error(self, kind: str, message: str) -> None:
        """Logs the first error of a kind with its reason, then one a minute."""
        now = time.monotonic()
        with self._lock:
            if kind not in self._errors and len(self._errors) >= MAX_KINDS:
                kind = "other"
            self._errors[kind] += 1
            count = self._errors[kind]
            last, before = self._logged.get(kind, (now - LOG_INTERVAL_SECONDS, 0))
            if now - last < LOG_INTERVAL_SECONDS:
                return
            self._logged[kind] = (now, count)
        suppressed = count - before - 1
        log.warning("kura: %s%s", message, f" ({suppressed} more of this kind since the last line)" if suppressed else "")

    def snapshot(self) -> Counters:
        with self._lock:
            return Counters(**self._counts, errors=dict(self._errors))
