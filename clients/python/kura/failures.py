"""Words for what went wrong with a request. They never contain a URL, because it can hold a ticket."""

from __future__ import annotations

import json
import ssl

from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError, SSLError
from urllib3.response import BaseHTTPResponse

from .errors import CacheError

MAX_PROBLEM_BYTES = 65_536


def connection_error(error: Exception, host: str, is_tls: bool) -> CacheError:
    reason = reason_of(error)
    if isinstance(error, SSLError):
        cause = error.args[0] if error.args else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CacheError(f"the certificate of {host} is not valid: {cause.verify_message} (KURA_CA_FILE)", "certificate")
        return CacheError(f"no TLS with {host}: {reason} (does the server use TLS? KURA_SERVER begins with https://)", "tls")
    if isinstance(error, ConnectTimeoutError | NewConnectionError):
        return CacheError(f"cannot connect to {host}: {reason}", "unreachable", 0.0)
    if isinstance(error, ReadTimeoutError):
        return CacheError(f"no response of {host} in time", "unreachable", 0.0)
    hint = "" if is_tls else " (if the server uses TLS, KURA_SERVER must begin with https://)"
    return CacheError(f"{host} closed the connection without a response: {reason}{hint}", "unreachable", 0.0)


def reason_of(error: BaseException) -> str:
    """The words of the operating system, where there are some."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        if isinstance(inner, TimeoutError):
            return "timed out"
        inner = next((each for each in inner.args if isinstance(each, BaseException)), inner.__cause__)
    return "it took too long" if isinstance(error, ConnectTimeoutError | ReadTimeoutError) else type(error).__name__


def read_problem(response: BaseHTTPResponse) -> tuple[str, str]:
    """Code and detail of a failure (RFC 9457)."""
    try:
        raw = response.read(MAX_PROBLEM_BYTES)
        response.drain_conn()
        problem = json.loads(raw)
        return str(problem["code"])[:64], str(problem.get("detail", ""))[:1000]
    except (HTTPError, OSError, ValueError, KeyError, TypeError):
        return "", ""


def retry_after(response: BaseHTTPResponse) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else 0.0
