"""Fixtures. test/e2e/python-client.test.ts starts the real system and names it in the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_kura import FakeKura

import kura

for name in ("KURA_SERVER", "KURA_TOKEN_FILE", "KURA_PREFIX", "KURA_CA_FILE"):
    os.environ.pop(name, None)


@pytest.fixture
def fake() -> Iterator[FakeKura]:
    server = FakeKura()
    yield server
    server.stop()
    assert server.complaints == []


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("a-token\n")
    return file


@pytest.fixture
def make(fake: FakeKura, token_file: Path) -> Callable[..., kura.Cache]:
    """A cache of the fake server."""

    def create(**options: object) -> kura.Cache:
        settings = {"server": f"http://127.0.0.1:{fake.port}", "token_file": token_file, "prefix": "vision", **options}
        return kura.Cache(**settings)  # type: ignore[arg-type]

    return create


class System:
    """The real system."""

    def __init__(self) -> None:
        local = json.loads(Path(os.environ["KURA_TEST_LOCAL"]).read_text())
        self.server: str = local["url"]
        self.tokens: dict[str, str] = local["tokens"]

    def cache(self, prefix: str, workload: str = "vision/trainer", **options: object) -> kura.Cache:
        settings = {"server": self.server, "token_file": self.tokens[workload], "prefix": prefix, **options}
        return kura.Cache(**settings)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def system() -> System:
    if "KURA_TEST_LOCAL" not in os.environ:
        pytest.skip("KURA_TEST_LOCAL does not name the local.json of a running system")
    return System()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Each test has its own."""
    return f"vision/python/{request.node.name}/{os.urandom(4).hex()}"


@pytest.fixture
def origin(system: System) -> Path:
    """A new folder of the origin of vision/origin/. KURA_TEST_ORIGIN names the folder of the origin."""
    folder = Path(os.environ["KURA_TEST_ORIGIN"]) / os.urandom(4).hex()
    folder.mkdir()
    return folder
