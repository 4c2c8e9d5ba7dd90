"""The GPU of each process of a machine."""

from __future__ import annotations

import pytest
import torch

from gptzoo.errors import InputError
from gptzoo.training.distributed.process_group import rank_device


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", number)
        assert rank_device("auto") == torch.device(f"cuda:{number}")


def test_processes_without_a_number_on_their_machine_do_not_share_a_gpu() -> None:
    with pytest.raises(InputError, match=r"LOCAL_RANK is not set.*Start the processes with torchrun"):
        rank_device("cuda")
    assert rank_device("cpu") == torch.device("cpu")
