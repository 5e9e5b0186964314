"""A loader over requests as people write them for PyTorch: a session in each worker process, streamed bodies, PUT from a file and from a generator."""
import os
import sys
from concurrent.futures import ProcessPoolExecutor

import requests

folder, _ = sys.argv[1:]
base = os.environ["KURA_SERVER"] + os.environ["KURA_WAY"] + os.environ["KURA_PREFIX"] + "/requests/"
names = sorted(os.listdir(folder))
session = None


def load(name):
    global session
    if session is None:
        session = requests.Session()
        session.headers["Authorization"] = "Bearer " + open(os.environ["KURA_TOKEN_FILE"]).read()
    path = os.path.join(folder, name)
    answer = session.get(base + name, stream=True, timeout=3)
    if answer.status_code == 200:
        data = b"".join(answer.iter_content(65536))
        assert data == open(path, "rb").read(), name
        return "hit"
    assert answer.status_code == 404, answer.text
    with open(path, "rb") as file:
        put = session.put(base + name, data=file if len(name) % 2 else iter(lambda: file.read(50_000), b""), timeout=3)
    assert put.status_code == 201, put.text
    return "miss"


if __name__ == "__main__":
    with ProcessPoolExecutor(4) as workers:
        assert list(workers.map(load, names)) == ["miss"] * len(names)
        assert list(workers.map(load, names)) == ["hit"] * len(names)
