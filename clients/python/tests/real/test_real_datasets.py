"""The recipe of docs/use.md for Hugging Face datasets, with its real release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import System
from datasets import Dataset, load_dataset

ROWS = [{"number": number, "text": f"row {number}"} for number in range(1000)]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("form", ["json", "parquet"])
def test_a_named_file_is_loaded(form: str, streaming: bool, system: System, prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "train"
    if form == "json":
        file.write_text("\n".join(map(json.dumps, ROWS)))
    else:
        Dataset.from_list(ROWS).to_parquet(str(file))
    assert system.cache(prefix).put(f"train.{form}", file.read_bytes())
    options = {"server": system.server, "token_file": system.tokens["vision/trainer"], "prefix": prefix}
    dataset = load_dataset(
        form,
        data_files=f"kura://train.{form}",
        split="train",
        streaming=streaming,
        storage_options=options,
        cache_dir=str(tmp_path / "local"),
    )
    assert list(dataset) == ROWS
