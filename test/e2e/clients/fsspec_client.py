"""fsspec over aiohttp: whole objects, random access by ranges, a cache of its own on top, and what it does at a miss."""
import os
import random
import sys

import fsspec

folder, _ = sys.argv[1:]
base = os.environ["KURA_SERVER"] + os.environ["KURA_WAY"] + os.environ["KURA_PREFIX"] + "/fsspec/"
token = open(os.environ["KURA_TOKEN_FILE"]).read()
headers = {"Authorization": "Bearer " + token}
files = fsspec.filesystem("http", headers=headers, client_kwargs={"headers": headers})
names = sorted(os.listdir(folder))
for name in names:
    files.put_file(os.path.join(folder, name), base + name, method="put")
for name in names:
    original = open(os.path.join(folder, name), "rb").read()
    assert files.cat_file(base + name) == original, name
    assert files.info(base + name)["size"] == len(original)
    with files.open(base + name, "rb", block_size=4096) as file:
        for _ in range(5):
            start = random.randint(0, max(0, len(original) - 1))
            file.seek(start)
            assert file.read(1000) == original[start : start + 1000], (name, start)
try:
    files.cat_file(base + "absent")
    raise SystemExit("no error for what is not there")
except FileNotFoundError:
    pass
assert not files.exists(base + "absent")
