"""The example of k8s/examples: a folder read twice, with a token that is replaced in between, and from forked workers."""
import os
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "..", "k8s", "examples"))
from kura_reader import Kura

folder, rotated = sys.argv[1:]
open(os.path.join(folder, "my file, ü.bin"), "wb").write(b"a name that a key cannot hold")
names = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
originals = [open(name, "rb").read() for name in names]


def epoch(kura):
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(kura.read, names)) == originals


first = Kura()
epoch(first)
assert (first.hits, first.misses) == (0, len(names)), (first.hits, first.misses)
os.replace(rotated, os.environ["KURA_TOKEN_FILE"])
epoch(first)
assert first.hits == len(names)

child = os.fork()
if child == 0:
    worker = Kura()
    epoch(worker)
    os._exit(0 if worker.hits == len(names) else 1)
assert os.waitpid(child, 0)[1] == 0

away = Kura(server="http://127.0.0.1:1")
assert away.read(names[0]) == originals[0]
try:
    first.read("/does/not/exist")
    raise SystemExit("no error")
except FileNotFoundError:
    pass
