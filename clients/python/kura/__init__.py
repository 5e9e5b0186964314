"""Client of kura, a distributed object cache for training data on Kubernetes."""

from .cache import Cache
from .counters import Counters
from .errors import AccessError, CacheError, ConfigError, NameTooLongError
from .names import key_of
from .transport import Stat

__all__ = ["AccessError", "Cache", "CacheError", "ConfigError", "Counters", "NameTooLongError", "Stat", "key_of"]
