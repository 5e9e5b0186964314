"""fsspec finds kura:// by the entry point of the installed package."""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import System

import kura

fsspec = pytest.importorskip("fsspec")
BODY = random.Random(3).randbytes(500_000)


@pytest.fixture(params=[False, True], ids=["plain", "through"])
def options(system: System, prefix: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"server": system.server, "token_file": system.tokens["vision/trainer"], "prefix": prefix, "through": request.param}


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
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "a").write_bytes(b"a")
    files.put(str(tmp_path / "folder"), "folder", recursive=True)
    assert files.cat_file("folder/inner/a") == b"a"
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


def test_folders_are_listed(options: dict[str, Any], tmp_path: Path) -> None:
    files = fsspec.filesystem("kura", **options)
    names = ["a", "set/x/1.bin", "set/x/2 ü.bin", "set/y/3.bin", "set/back\\slash", "set/50%.bin"]
    files.pipe({name: b"abc" for name in names})
    assert files.find("") == sorted(names)
    assert files.ls("set", detail=False) == ["set/50%.bin", "set/back\\slash", "set/x", "set/y"]
    assert {info["name"]: (info["type"], info["size"]) for info in files.ls("kura://set")}["set/x"] == ("directory", 0)
    assert files.ls("set/x/1.bin", detail=False) == ["set/x/1.bin"]
    assert files.glob("set/*/*.bin") == ["set/x/1.bin", "set/x/2 ü.bin", "set/y/3.bin"]
    assert files.glob("set/**/3.bin") == ["set/y/3.bin"] and files.glob("none/*") == []
    assert files.find("set", maxdepth=1, withdirs=True) == ["set/50%.bin", "set/back\\slash", "set/x", "set/y"]
    assert files.du("set") == 15 and files.du("set/x", total=False) == {"set/x/1.bin": 3, "set/x/2 ü.bin": 3}
    assert [(path, sorted(folders)) for path, folders, _ in files.walk("set")][0] == ("set", ["x", "y"])
    assert files.cat("set/x/*") == {"set/x/1.bin": b"abc", "set/x/2 ü.bin": b"abc"}
    with pytest.raises(FileNotFoundError):
        files.ls("absent")
    files.get("set/x", str(tmp_path / "x"), recursive=True)
    assert sorted(file.name for file in (tmp_path / "x").rglob("*.bin")) == ["1.bin", "2 ü.bin"]
    files.rm("set", recursive=True)
    assert files.find("") == ["a"]


def test_a_folder_is_a_name_with_objects_below_it(options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    files.pipe({"set/x/1": b"abc", "set/x": b"a file of the same name", "set.bin": b"1"})
    for folder in ("set", "set/", "kura://set"):
        assert files.isdir(folder) and files.exists(folder) and not files.isfile(folder), folder
        assert files.info(folder) == {"name": "set", "type": "directory", "size": 0}
    assert files.isdir("") and files.exists("/") and not files.isfile("") and files.info("kura://")["type"] == "directory"
    # An object and a folder can have one name. A read returns the object, so it comes first.
    assert files.isfile("set/x") and files.isdir("set/x") and files.info("set/x")["type"] == "file"
    assert files.find("set/x", detail=True)["set/x/1"]["size"] == 3 and files.find("set.bin") == ["set.bin"]
    for name in ("se", "set/x/1", "set.bin", "absent"):
        assert not files.isdir(name), name
    assert not files.exists("se") and files.find("absent") == [] and files.ls("set.bin", detail=False) == ["set.bin"]
    with pytest.raises(FileNotFoundError):
        files.info("se")
    files.rm("set", recursive=True)
    assert not files.isdir("set") and not files.exists("set/x") and files.find("") == ["set.bin"]


def test_without_the_right_to_list_there_are_objects_and_no_folders(options: dict[str, Any], prefix: str) -> None:
    """test/e2e/python-client.test.ts denies LIST below vision/no-list."""
    files = fsspec.filesystem("kura", **options | {"prefix": prefix.replace("vision/", "vision/no-list/", 1)})
    files.pipe({"set/1": b"abc"})
    assert files.exists("set/1") and files.isfile("set/1") and files.info("set/1")["size"] == 3
    assert not files.isdir("set/1") and not files.isdir("set") and not files.exists("set") and files.isdir("")
    with pytest.raises(FileNotFoundError):
        files.info("set")
    for operation in (files.find, files.ls, files.du):
        with pytest.raises(PermissionError):
            operation("set")


@pytest.mark.parametrize("operation", ["ls", "du", "find"])
def test_a_list_needs_its_right(operation: str, options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options | {"prefix": "nlp/x"})
    with pytest.raises(PermissionError):
        getattr(files, operation)("folder")


def test_glob_finds_a_name_without_wildcards(options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    files.pipe_file("a", b"x")
    assert files.glob("kura://a") == ["a"] and files.glob("absent") == []
    assert files.glob("a", detail=True)["a"]["size"] == 1
    with pytest.raises(PermissionError):
        fsspec.filesystem("kura", **options | {"prefix": "nlp/x"}).glob("a")


def write_half(file: Any, half: Any) -> None:
    file.write(half)
    raise RuntimeError("half")


def test_an_exception_stores_nothing(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    files = fsspec.filesystem("kura", **options)
    half = "kura://half"
    for file, data in (
        (files.open("half", "wb"), b"half"),
        (files.open("half", "w"), "half"),
        (files.open("half", "wb", compression="gzip"), b"half"),
        (fsspec.open(half, "wb", **options), b"half"),
        (fsspec.open(half, "w", **options), "half"),
        (fsspec.open(half, "w", compression="gzip", **options), "half"),
        (contextlib.closing(files.open("half", "wb")), b"half"),
    ):
        with pytest.raises(RuntimeError, match="half"), file as opened:
            write_half(opened, data)
        assert not files.exists("half"), file
    assert "half was not stored: it was closed while RuntimeError was handled" in caplog.text

    def generate() -> Iterator[int]:
        with fsspec.open(half, "wb", **options) as file:
            file.write(b"half")
            yield 1

    unfinished = generate()
    next(unfinished)
    unfinished.close()
    assert not files.exists("half")


def test_a_file_can_be_written_while_an_older_exception_is_handled(options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    try:
        raise RuntimeError("older")
    except RuntimeError:
        with fsspec.open("kura://report", "w", **options) as file:
            file.write("older")
        with pytest.raises(RuntimeError, match="half"), fsspec.open("kura://half", "wb", **options) as file:
            write_half(file, b"half")
    assert files.cat_file("report") == b"older" and not files.exists("half")


def test_a_forgotten_file_stores_nothing(options: dict[str, Any]) -> None:
    files = fsspec.filesystem("kura", **options)
    forgotten = files.open("half", "wb")
    forgotten.write(b"half")
    del forgotten
    gc.collect()
    discarded = files.open("half", "wb")
    discarded.write(b"half")
    discarded.discard()
    discarded.close()
    assert not files.exists("half")
    with pytest.raises(ValueError, match="the mode is 'ab'; it must be rb or wb"):
        files.open("half", "ab")


def test_a_transaction_stores_all_files_or_none(options: dict[str, Any], tmp_path: Path) -> None:
    files = fsspec.filesystem("kura", **options)
    with files.transaction:
        with files.open("one", "wb") as file:
            file.write(b"1")
        files.pipe_file("two", b"2")
        assert not files.exists("one") and not files.exists("two")
    assert files.cat(["one", "two"]) == {"one": b"1", "two": b"2"}
    (tmp_path / "source").write_bytes(b"source")
    with pytest.raises(RuntimeError, match="half"), files.transaction:
        files.put_file(str(tmp_path / "source"), "seven")
        files.pipe_file("three", b"3")
        with files.open("four", "wb") as file:
            write_half(file, b"4")
    assert not any(files.exists(name) for name in ("three", "four", "seven"))
    with pytest.raises(RuntimeError, match="half"), files.transaction:
        try:
            with files.open("five", "wb") as file:
                write_half(file, b"5")
        finally:
            files.pipe_file("six", b"6")
    assert not files.exists("five") and not files.exists("six")


class Interrupted(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 100_000:
            raise KeyboardInterrupt
        return super().read(size)


def test_an_interrupted_upload_stores_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = fsspec.filesystem("kura", **options)
    (tmp_path / "half").write_bytes(BODY)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kura.fsspec.open", lambda *_: Interrupted(BODY), raising=False)
        files.put_file(str(tmp_path / "half"), "half")
    assert not files.exists("half")
    files.pipe_file("half", b"whole")
    assert files.cat_file("half") == b"whole"


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
