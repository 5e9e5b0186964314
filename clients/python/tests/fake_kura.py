"""A server with the contract of kura, for faults that the real system does not make on demand. It checks the requests itself."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Handles one request in place of the server. Returns whether it did.
Fault = Callable[["Handler"], None]


class FakeKura:
    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: deque[Fault] = deque()
        self.complaints: list[str] = []
        self.tls: Any = None
        self.redirect_to: str | None = None
        self.serve(0)

    def serve(self, port: int) -> None:
        handler = type("BoundHandler", (Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def use_tls(self, context: Any) -> None:
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()

    def store(self, key: str, body: bytes) -> None:
        self.objects[key] = (body, f'"{len(self.requests)}-{len(body)}"')

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for request in list(self._open):
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # A client that goes away is part of the tests.


class Handler(BaseHTTPRequestHandler):
    fake: FakeKura
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, announced: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def problem(self, status: int, code: str, detail: str = "", headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"status": status, "code": code, "detail": detail}).encode()
        self.answer(status, body, {"Content-Type": "application/problem+json", **(headers or {})})

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        fake = self.fake
        fake.requests.append((self.command, self.path, dict(self.headers.items())))
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if len(self.body) < length:
            self.close_connection = True
            return
        if fake.faults:
            fake.faults.popleft()(self)
        else:
            self._serve()
        self.wfile.flush()

    def _serve(self) -> None:
        _, way, key = self.path.split("/", 2)
        if way == "ticket":
            if "Authorization" in self.headers:
                self.fake.complaints.append("the token was sent to a shard")
        elif not self.headers.get("Authorization", "").startswith("Bearer "):
            return self.problem(401, "unauthenticated", "no token")
        if way == "direct" and self.fake.redirect_to is not None:
            return self.answer(307, b"", {"Location": f"{self.fake.redirect_to}/ticket/{key}", "x-kura-shard": "fake"})
        shard = {"x-kura-shard": "fake"}
        if self.command == "PUT":
            self.fake.store(key, self.body)
            return self.answer(201, b"", shard)
        if key not in self.fake.objects:
            return self.problem(404, "miss", "The object is not stored.", shard)
        if self.command == "DELETE":
            del self.fake.objects[key]
            return self.answer(204, b"", shard)
        body, tag = self.fake.objects[key]
        headers = {**shard, "ETag": tag}
        if self.headers.get("If-Match", tag) != tag:
            return self.problem(412, "precondition-failed", "The version differs.", shard)
        wanted = self.headers.get("Range")
        if wanted is None or self.command == "HEAD" or self.headers.get("If-Range", tag) != tag:
            return self.answer(200, body, headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(body)), len(body) - 1)
        if start >= len(body):
            return self.problem(416, "range-not-satisfiable", "", {**shard, "Content-Range": f"bytes */{len(body)}"})
        self.answer(206, body[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{len(body)}"})


def refuse(status: int, code: str, detail: str = "", headers: dict[str, str] | None = None) -> Fault:
    return lambda handler: handler.problem(status, code, detail, headers)


def drop(handler: Handler) -> None:
    handler.close_connection = True


def cut_after(count: int) -> Fault:
    """Sends the head of the real response and `count` bytes of its body."""

    def fault(handler: Handler) -> None:
        real = handler.wfile

        class Cut:
            left: int | None = None

            def write(self, data: bytes) -> int:
                if self.left is None:  # The head is written in one piece.
                    self.left = count
                    return real.write(data)
                real.write(data[: self.left])
                self.left = max(0, self.left - len(data))
                return len(data)

            def flush(self) -> None:
                real.flush()

        handler.wfile = Cut()  # type: ignore[assignment]
        handler._serve()
        handler.wfile = real
        handler.close_connection = True

    return fault
