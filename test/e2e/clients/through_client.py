"""kura-client and fsspec over aiohttp, with a cache that fetches misses itself. Nothing is uploaded."""
import os
import sys

import fsspec
import kura
import kura.webdataset
import webdataset
from kura.fsspec import KuraFileSystem
from kura.torch import KuraDataset

# The folder of the origin has a subfolder for each client, so that each client finds an empty cache.
folder = sys.argv[1]
names = sorted(name for name in os.listdir(os.path.join(folder, "get")) if name.endswith(".bin"))
originals = [open(os.path.join(folder, "get", name), "rb").read() for name in names]
empty = os.path.join(folder, "empty")


def through(client):
    return kura.Cache(prefix=os.environ["KURA_PREFIX"] + client, through=True, strict=True)


def same(found):
    assert list(found) == originals


cache = through("get")
assert cache.stat(names[-1]).size == len(originals[-1]), "HEAD asks the origin"
same(cache.get(name) for name in names)
assert cache.get("absent") is None
same(cache.get(name) for name in names)

cache = through("open")
for name, original in zip(names, originals):
    with cache.open(name, block_bytes=100_000) as file:
        assert file.size == len(original)
        file.seek(len(original) // 2)
        assert file.read() == original[len(original) // 2 :]
        file.seek(0)
        assert file.read() == original
try:
    cache.open("absent")
    raise SystemExit("no error for what is not there")
except FileNotFoundError:
    pass

same(data for _, data in through("many").get_many(names))

own = KuraFileSystem(prefix=os.environ["KURA_PREFIX"] + "fsspec", through=True)
same(own.cat_file(name) for name in names)

# The folder that the dataset knows is empty, so all bytes come from kura.
same(KuraDataset(names, empty, cache=through("dataset")).__getitems__(range(len(names))))
dataset = KuraDataset(names, empty, cache=through("dataset"))
same(dataset[index] for index in range(len(names)))
assert dataset.cache.counters().hits == len(names)

kura.webdataset.register(through("webdataset"))
same(sample["bin"] for sample in webdataset.WebDataset("kura://all.tar", shardshuffle=False))

headers = {"Authorization": "Bearer " + open(os.environ["KURA_TOKEN_FILE"]).read()}
files = fsspec.filesystem("http", headers=headers, client_kwargs={"headers": headers})
base = os.environ["KURA_SERVER"] + "/through/" + os.environ["KURA_PREFIX"] + "http/"
for name, original in zip(names, originals):
    with files.open(base + name, "rb", block_size=4096) as file:
        assert file.read() == original
assert not files.exists(base + "absent")

url = os.environ["KURA_SERVER"] + "/through/" + os.environ["KURA_PREFIX"] + "curl/all.tar"
pipe = f"pipe:curl --silent --fail --header 'Authorization: {headers['Authorization']}' '{url}'"
same(sample["bin"] for sample in webdataset.WebDataset(pipe, shardshuffle=False))
