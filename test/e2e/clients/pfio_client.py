"""pfio as its users have it: from_url with http_cache, members of a zip file, and a token that is replaced in mid-run."""
import os
import sys
import zipfile

from pfio.v2 import from_url

folder, rotated = sys.argv[1:]
cache = os.environ["KURA_SERVER"] + "/objects/" + os.environ["KURA_PREFIX"]
names = sorted(os.listdir(folder))
originals = {name: open(os.path.join(folder, name), "rb").read() for name in names}


def read(url, prefix=""):
    with from_url(url, http_cache=cache) as files:
        for name in names:
            with files.open(prefix + name, "rb") as file:
                assert file.read() == originals[name], name


archive = folder + ".zip"
with zipfile.ZipFile(archive, "w") as zipped:
    for name in names:
        zipped.write(os.path.join(folder, name), "members/" + name)
read(folder)
read(archive, "members/")
os.replace(rotated, os.environ["PFIO_HTTP_BEARER_TOKEN_PATH"])

# Nothing but the cache has the right bytes now.
for name in names:
    open(os.path.join(folder, name), "wb").write(b"not these")
with zipfile.ZipFile(archive, "w") as zipped:
    for name in names:
        zipped.writestr("members/" + name, b"nor these")
read(folder)
read(archive, "members/")
