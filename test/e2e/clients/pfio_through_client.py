"""pfio as its users have it, with a cache that fetches misses itself."""
import os
import sys

from pfio.v2 import from_url

folder = sys.argv[1]
cache = os.environ["KURA_SERVER"] + "/through/" + os.environ["KURA_PREFIX"]
with from_url(folder, http_cache=cache) as files:
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as original, files.open(name, "rb") as file:
            assert file.read() == original.read(), name
