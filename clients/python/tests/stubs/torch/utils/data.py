"""https://docs.pytorch.org/docs/stable/data.html"""

from __future__ import annotations

from dataclasses import dataclass


class Dataset:
    pass


class IterableDataset(Dataset):
    pass


@dataclass
class WorkerInfo:
    id: int
    num_workers: int


worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    return worker_info
