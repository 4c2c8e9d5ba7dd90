"""Device and precision of a run. torch's answers about GPUs are patched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.errors import InputError
from gptzoo.training.hardware.device import choose_device, choose_precision, preserve_rng_state

CUDA = torch.device("cuda")


@pytest.mark.parametrize("name", ["xpu", "meta"])
def test_an_unsupported_device_is_rejected(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}': gptzoo does not support it. Supported devices: auto, cpu,"):
        choose_device(name)


def test_mps_is_accepted_where_torch_has_it_and_is_not_chosen_by_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch finds no MPS device, the GPU of a Mac"):
        choose_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps") == torch.device("mps")
    assert choose_device("auto").type != "mps"
    assert choose_precision("auto", torch.device("mps")) == "fp32"
    with pytest.raises(InputError, match="tf32: needs a CUDA device"):
        choose_precision("tf32", torch.device("mps"))


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_on_a_gpu_with_native_bf16_only(
    native: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert choose_precision("auto", CUDA) == chosen
    assert choose_precision("bf16", CUDA) == "bf16"  # emulated bf16 is slow, but allowed


class Gpus:
    """Four fake GPUs, each with a generator state."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, in_use: bool):
        self.states = dict.fromkeys(range(4), 0)
        self.was_read = False
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
        monkeypatch.setattr(torch.cuda, "get_rng_state", self.get)
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, index: self.states.update({index: state}))

    def get(self, index: int) -> int:
        self.was_read = True
        return self.states[index]


@pytest.mark.filterwarnings("error")  # torch warns about many GPUs if none are given
def test_a_run_restores_the_generators_of_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Gpus(monkeypatch, in_use=False)
    with preserve_rng_state(CUDA):
        gpus.states = dict.fromkeys(range(4), 7)  # as torch.manual_seed does
    assert gpus.states == dict.fromkeys(range(4), 0)


@pytest.mark.parametrize("in_use", [False, True])
def test_a_run_on_the_cpu_does_not_initialise_cuda(
    in_use: bool, run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = Gpus(monkeypatch, in_use=in_use)
    before = torch.get_rng_state()
    gptzoo.train({**run_spec, "steps": 1}, tmp_path / "run", quiet=True)
    assert gpus.was_read == in_use
    assert torch.equal(torch.get_rng_state(), before)
