"""The client of `npm run bench:images`: one loader at a time reads and decodes JPEG files. It writes a line of JSON for each run."""

import io
import json
import os
import resource
import statistics
import sys
import time
import warnings

import kura
import kura.webdataset
import numpy
import urllib3
import webdataset
from kura.torch import KuraDataset
from PIL import Image
from torch.utils.data import DataLoader, Dataset

options = json.loads(sys.argv[1])
FOLDER, NGINX, WORKERS, ROUNDS = (options[name] for name in ("folder", "nginx", "workers", "rounds"))
SHARDS = 8
warnings.simplefilter("ignore")
cache = kura.Cache(prefix="vision/images", strict=True)


def picture(random, width, height, noise):
    """A smooth picture with noise, which decides the size of the file."""
    coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=numpy.uint8))
    smooth = numpy.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=numpy.float32)
    noisy = smooth + random.normal(0, noise, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def decode(data):
    return Image.open(io.BytesIO(data)).convert("RGB").size


def decode_named(_, data):
    return decode(data)


def decode_sample(sample):
    return decode(sample["jpg"])


class Local(Dataset):
    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        with open(os.path.join(FOLDER, "www", self.names[index]), "rb") as file:
            return decode(file.read())


class Nginx(Local):
    pool = None

    def __getitem__(self, index):
        if self.pool is None:  # Once in each worker.
            self.pool = urllib3.PoolManager()
        response = self.pool.request("GET", f"{NGINX}/{self.names[index]}")
        assert response.status == 200
        return decode(response.data)


def no_origin(name):
    raise LookupError(f"{name} is not in the cache")


def as_shards(pattern):
    return webdataset.WebDataset(pattern, shardshuffle=False).map(decode_sample)


def place(name, body):
    path = os.path.join(FOLDER, "www", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(body)
    cache.put(name, body)


def run(source, loader):
    """Images, seconds, and CPU seconds of the loader and of the servers."""
    servers, own, began, count = server_seconds(source), own_seconds(), time.perf_counter(), 0
    for batch in loader:
        count += len(batch[0])
    seconds = time.perf_counter() - began
    del loader
    return count, seconds, own_seconds() - own, server_seconds(source) - servers


def own_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def server_seconds(source):
    ticks = 0
    for pid in options["pids"].get(source, []):
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def compare(case, count, kind, datasets):
    results = {source: [] for source in datasets}
    for number in range(ROUNDS + 1):
        for source, make in datasets.items():
            images, seconds, own, servers = run(source, DataLoader(make(), batch_size=32, num_workers=WORKERS))
            assert images == count, (source, images, count)
            if number > 0:  # The first round fills the page cache.
                results[source].append({"rate": images / seconds, "own": own / images * 1000, "servers": servers / images * 1000})
    # A pair of runs that follow each other has the same neighbours on the machine.
    ratio = statistics.median(ours["rate"] / theirs["rate"] for ours, theirs in zip(results["kura"], results["nginx"], strict=True))
    row = {source: {field: statistics.median(each[field] for each in runs) for field in runs[0]} for source, runs in results.items()}
    print(json.dumps({"case": f"{kind}, {case}", "ratio": ratio, **row}), flush=True)


random = numpy.random.default_rng(7)
for label, count, size in (("112", options["count"], (500, 375, 26)), ("20", 2 * options["count"], (256, 192, 10))):
    # Few pictures are made, and many files are written: making one takes longer than decoding it.
    pictures = [picture(random, *size) for _ in range(50)]
    case = f"JPEG files of {sum(map(len, pictures)) / len(pictures) / 1024:.0f} KiB"
    names = [f"{label}/{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        place(name, pictures[number % len(pictures)])
    for shard in range(SHARDS):
        tar = io.BytesIO()
        with webdataset.TarWriter(tar) as sink:
            for number in range(shard, count, SHARDS):
                sink.write({"__key__": f"{number:06}", "jpg": pictures[number % len(pictures)]})
        place(f"{label}/train-{shard}.tar", tar.getvalue())
    kura.webdataset.register(cache)
    tars = f"{label}/train-{{0..{SHARDS - 1}}}.tar"
    compare(
        case,
        count,
        "map dataset",
        {
            "nginx": lambda names=names: Nginx(names),
            "kura": lambda names=names: KuraDataset(names, no_origin, decode_named, cache),
            "disk": lambda names=names: Local(names),
        },
    )
    compare(
        case,
        count,
        "WebDataset",
        {
            "nginx": lambda tars=tars: as_shards(f"{NGINX}/{tars}"),
            "kura": lambda tars=tars: as_shards(f"kura://{tars}"),
            "disk": lambda tars=tars: as_shards(os.path.join(FOLDER, "www", tars)),
        },
    )
