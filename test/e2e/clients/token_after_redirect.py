"""Whether clients send their token on when they follow a redirect: to another port of the same host, and to another host."""
import asyncio
import json
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import fsspec
import requests

headers = {"Authorization": "Bearer secret"}
seen = []


class Shard(BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(self.headers.get("Authorization"))
        self.send_response(200)
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"x")

    def log_message(self, *_):
        pass


class Envoy(Shard):
    def do_GET(self):
        self.send_response(307)
        self.send_header("Location", f"http://{self.path[1:]}:{shard.server_port}/x")
        self.send_header("Content-Length", "0")
        self.end_headers()


def start(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


shard, envoy = start(Shard), start(Envoy)


async def by_aiohttp(url):
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url, headers=headers) as answer:
        return await answer.read()


clients = {
    "curl": lambda url: subprocess.run(["curl", "-fsSL", "-H", "Authorization: Bearer secret", url], check=True, capture_output=True).stdout,
    "requests": lambda url: requests.get(url, headers=headers, timeout=3).content,
    "aiohttp": lambda url: asyncio.run(by_aiohttp(url)),
    "fsspec": lambda url: fsspec.filesystem("http", headers=headers, client_kwargs={"headers": headers}).cat_file(url),
    "urllib": lambda url: urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=3).read(),
}
found = {}
for name, get in clients.items():
    found[name] = {}
    for what, host in (("other port", "127.0.0.1"), ("other host", "localhost")):
        seen.clear()
        assert get(f"http://127.0.0.1:{envoy.server_port}/{host}") == b"x", name
        found[name][what] = "dropped" if seen == [None] else "sent"
print(json.dumps(found))
