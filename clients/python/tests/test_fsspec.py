"""fsspec finds kura:// by the entry point of the installed package."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import System

import kura

fsspec = pytest.importorskip("fsspec")
BODY = random.Random(3).randbytes(500_000)


@pytest.fixture
def options(system: System, prefix: str) -> dict[str, Any]:
    return {"server": system.server, "token_file": system.tokens["vision/trainer"], "prefix": prefix}


def test_files_are_written_and_read(options: dict[str, Any], tmp_path: Path) -> None:
    files = fsspec.filesystem("kura", **options)
    with fsspec.open("kura://a b.bin", "wb", **options) as file:
        file.write(BODY[:1000])
        file.write(BODY[1000:])
    with fsspec.open("kura://a b.bin", "rb", block_size=10_000, **options) as file:
        file.seek(123_456)
        assert file.read(50_000) == BODY[123_456:173_456]
    assert files.cat_file("a b.bin", 5, 10) == BODY[5:10] and files.cat_file("a b.bin", -5) == BODY[-5:]
    info = files.info("kura://a b.bin")
    assert (info["size"], info["type"], files.size("a b.bin")) == (len(BODY), "file", len(BODY))
    with fsspec.open("kura://text", "w", encoding="utf-8", **options) as file:
        file.write("ü\n")
    assert files.read_text("text", encoding="utf-8") == "ü\n"
    (tmp_path / "source").write_bytes(b"source")
    files.put(str(tmp_path / "source"), "copy")
    files.get("copy", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"source"
    files.pipe({"one": b"1", "two": b"2"})
    assert files.cat(["one", "two"]) == {"one": b"1", "two": b"2"}
    files.rm("one")
    assert files.exists("two") and not files.exists("one") and files.isfile("two") and not files.isdir("two")
    with pytest.raises(FileExistsError):
        files.put_file(str(tmp_path / "source"), "copy", mode="create")


def test_a_pickled_file_system_works(options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    files.pipe_file("a", b"x")
    assert pickle.loads(pickle.dumps(files)).cat_file("a") == b"x"


def test_a_miss_is_file_not_found(options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    for operation in (files.cat_file, files.info, files.open, files.rm_file):
        with pytest.raises(FileNotFoundError, match="the object is not in the cache"):
            operation("absent")


def test_a_rejected_request_is_a_permission_error_and_never_a_missing_file(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x.y.z")
    for wrong in ({"prefix": "nlp/x"}, {"token_file": str(tmp_path / "token")}, {"token_file": str(tmp_path / "absent")}):
        files = fsspec.filesystem("kura", **options | wrong)
        for operation in (files.cat_file, files.info, files.open, files.exists, files.isfile, files.rm_file):
            with pytest.raises(PermissionError):
                operation("a")
        with pytest.raises(PermissionError):
            files.pipe_file("a", b"x")


@pytest.mark.parametrize("operation", ["ls", "glob", "du", "find", "walk"])
def test_a_listing_is_a_clear_error(operation: str, options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    with pytest.raises(NotImplementedError, match="kura cannot list objects. Name each file, for example from a manifest"):
        getattr(files, operation)("folder/*")


def test_glob_finds_a_name_without_wildcards(options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    files.pipe_file("a", b"x")
    assert files.glob("kura://a") == ["a"] and files.glob("absent") == []
    assert files.glob("a", detail=True)["a"]["size"] == 1
    with pytest.raises(PermissionError):
        fsspec.filesystem("kura", **options | {"prefix": "nlp/x"}).glob("a")


def test_a_file_that_is_not_closed_properly_is_not_stored(options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    with pytest.raises(RuntimeError, match="half"), files.open("half", "wb") as file:
        file.write(b"half")
        raise RuntimeError("half")
    forgotten = files.open("half", "wb")
    forgotten.write(b"half")
    del forgotten
    assert not files.exists("half")
    with pytest.raises(ValueError, match="the mode is 'ab'; it must be rb or wb"):
        files.open("half", "ab")


def test_a_url_of_fsspec_is_a_source(system: System, prefix: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/source/a", b"from memory")
    cache = system.cache(prefix)
    assert cache.get_or_load("memory://source/a") == b"from memory"
    memory.rm_file("/source/a")
    assert cache.get_or_load("memory://source/a") == b"from memory"


def test_without_fsspec_a_url_names_the_extra(make: Callable[..., kura.Cache], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ImportError, match=r"the source s3://bucket/a needs fsspec: pip install kura-client\[fsspec\]"):
        make().get_or_load("s3://bucket/a")
