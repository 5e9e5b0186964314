import json
import os
from pathlib import Path

import pytest

from kura import key_of

VECTORS = json.loads(Path(os.environ["KURA_TEST_VECTORS"]).read_text()) if "KURA_TEST_VECTORS" in os.environ else []


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["key"])
def test_a_name_has_the_key_that_the_command_gives_it(vector: dict[str, str]) -> None:
    raw = bytes.fromhex(vector["bytes"]) if "bytes" in vector else vector["name"].encode()
    assert key_of(raw, "vision") == vector["key"]
    assert key_of(raw.decode("utf-8", "surrogateescape"), "vision") == vector["key"]


def test_the_vectors_are_there() -> None:
    if "KURA_TEST_VECTORS" in os.environ:
        assert len(VECTORS) > 10


def test_a_prefix_is_a_name_too() -> None:
    assert key_of("/mnt/a b", "vision/ü/") == "vision/%C3%BC/mnt/a%20b"
    assert key_of(Path("a/b")) == "a/b"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/../b", r"'a/../b' contains the segment '\.\.', which a key cannot hold: use os.path.abspath"),
        ("./a", r"'\./a' contains the segment '\.'"),
        ("", "'' is not the name of an object: it is empty"),
        ("/", "'/' is not the name of an object"),
        ("a\0b", "contains a zero byte"),
        ("ä" * 200, "has 1207 bytes; it must have at most 1024"),
    ],
)
def test_a_name_that_no_key_can_hold_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        key_of(name, "vision")
