"""WebDataset: shards written through its curl pipe (chunked, Expect: 100-continue) and read through one."""
import os
import sys

import webdataset

folder, _ = sys.argv[1:]
base = os.environ["KURA_SERVER"] + os.environ["KURA_WAY"] + os.environ["KURA_PREFIX"] + "/webdataset/"
header = f"-H 'Authorization: Bearer {open(os.environ['KURA_TOKEN_FILE']).read()}'"
names = sorted(os.listdir(folder))
originals = [open(os.path.join(folder, name), "rb").read() for name in names]

for shard in range(2):
    with webdataset.TarWriter(f"pipe:curl -f -s -S -X PUT -L -T - {header} {base}train-{shard}.tar") as sink:
        for index in range(shard, len(names), 2):
            sink.write({"__key__": f"{index:04}", "bin": originals[index]})
url = f"pipe:curl -f -s -S -L {header} {base}train-{{0..1}}.tar"
for _ in range(2):
    dataset = webdataset.WebDataset(url, shardshuffle=False)
    found = {sample["__key__"]: sample["bin"] for sample in dataset}
    assert found == {f"{index:04}": data for index, data in enumerate(originals)}, sorted(found)
