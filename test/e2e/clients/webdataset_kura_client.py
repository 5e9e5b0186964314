"""WebDataset over kura:// of the package kura-client, with and without an origin."""
import os
import sys

import kura
import kura.webdataset
import webdataset

folder, rotated = sys.argv[1:]
originals = [open(os.path.join(folder, name), "rb").read() for name in sorted(os.listdir(folder))]
cache = kura.Cache(strict=True, direct=os.environ["KURA_WAY"] == "/direct/")
kura.webdataset.register(cache)


def read(pattern):
    return sorted(sample["bin"] for sample in webdataset.WebDataset(pattern, shardshuffle=False))


for shard in (0, 1):
    with webdataset.TarWriter(f"kura://train {shard}.tar") as sink:
        for index in range(shard, len(originals), 2):
            sink.write({"__key__": f"{index:04}", "bin": originals[index]})
os.replace(rotated, os.environ["KURA_TOKEN_FILE"])
assert read("kura://train {0..1}.tar") == sorted(originals)
assert cache.counters().errors == {} and cache.counters().stored == 2

try:
    with webdataset.TarWriter("kura://half.tar") as sink:
        sink.write({"__key__": "one", "bin": b"half"})
        raise RuntimeError("half")
except RuntimeError:
    pass
assert cache.stat("half.tar") is None

tar = os.path.join(folder, "other.tar")
with webdataset.TarWriter(tar) as sink:
    sink.write({"__key__": "one", "bin": b"from the origin"})
try:
    read("kura://other.tar")
    raise SystemExit("no error for what is not there")
except FileNotFoundError:
    pass
kura.webdataset.register(cache, origin=folder)
assert read("kura://other.tar") == [b"from the origin"]
os.remove(tar)
assert read("kura://other.tar") == [b"from the origin"]
away = kura.Cache(server="http://127.0.0.1:1", max_retry_seconds=0.1)
kura.webdataset.register(away, origin=folder)
with webdataset.TarWriter(tar) as sink:
    sink.write({"__key__": "one", "bin": b"without the cache"})
assert read("kura://other.tar") == [b"without the cache"]
assert sum(away.counters().errors.values()) > 0
