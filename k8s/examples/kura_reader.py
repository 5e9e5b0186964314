"""Reads files through kura, with nothing but Python's standard library: from the cache where it has them, otherwise from where they are, and then into the cache.

    from kura_reader import Kura
    kura = Kura()                                  # KURA_SERVER, KURA_TOKEN_FILE and KURA_PREFIX, as in the Pod of the README
    data = kura.read("/mnt/imagenet/a.jpg")        # key <prefix>/mnt/imagenet/a.jpg

The cache is never in the way: whatever goes wrong with it, the file is read from its place. One connection per thread; safe to use in forked DataLoader workers.
"""
import http.client
import os
import re
import threading
import urllib.parse

# What a path segment may hold literally (RFC 3986), and the separator.
LITERAL = "/!$&'()*+,;=:@-._~"


def canonical_key(text):
    """The one spelling of a key, which Envoy gives it too (services/shared/key.ts). None when Envoy rejects it."""
    path, question, rest = text.partition("?")
    if re.search(r"%(?![0-9A-Fa-f]{2})|%(2F|5C|00)|(^|/)(\.?%2E|%2E\.|%2E%2E)(?=/|\Z)", path, re.IGNORECASE):
        return None

    def spell(escape):
        character = chr(int(escape[1], 16))
        return character if character.isascii() and (character.isalnum() or character in LITERAL) else escape[0].upper()

    return re.sub(r"%([0-9A-Fa-f]{2})", spell, path) + question + rest


class Kura:
    def __init__(self, server=None, token_file=None, prefix=None, timeout=3.0):
        url = urllib.parse.urlsplit(server or os.environ["KURA_SERVER"])
        self._host, self._port = url.hostname, url.port or 80
        self._token_file = token_file or os.environ["KURA_TOKEN_FILE"]
        given = prefix or os.environ["KURA_PREFIX"]
        self._prefix = (canonical_key(given) or given).strip("/")
        self._timeout = timeout
        self._local = threading.local()
        self.hits = self.misses = 0

    def read(self, path):
        """The bytes of a file. Raises what open() raises when it is neither in the cache nor in its place."""
        key = self._prefix + "/" + urllib.parse.quote(path.lstrip("/"), safe=LITERAL)
        status, data = self._request("GET", key)
        if status == 200:
            self.hits += 1
            return data
        with open(path, "rb") as file:
            data = file.read()
        self.misses += 1
        if status == 404:
            self._request("PUT", key, data)
        return data

    def _request(self, method, key, body=None):
        """Status and body of an answer; (None, b"") when there is none."""
        # A connection that was closed while it was idle shows only when it is used: a second one is not.
        for _ in range(2):
            connection = self._connection()
            fresh = connection.sock is None
            try:
                # The kubelet replaces the token's file long before the token ends.
                with open(self._token_file) as file:
                    headers = {"Authorization": "Bearer " + file.read().strip()}
                connection.request(method, "/objects/" + key, body=body, headers=headers)
                answer = connection.getresponse()
                # A body that is shorter than announced raises IncompleteRead: half an object is never returned.
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if fresh:
                    break
        return None, b""

    def _connection(self):
        if getattr(self._local, "pid", None) != os.getpid():  # after a fork a connection would be shared with the parent
            self._local.connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            self._local.pid = os.getpid()
        return self._local.connection
