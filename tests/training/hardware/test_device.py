"""Where a run computes and how, also on GPUs that are not here: what torch says of them is put in its mouth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.errors import InputError
from gptzoo.training.hardware.device import choose_device, choose_precision, undisturbed_rng

CUDA = torch.device("cuda")


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "mps:0"])
def test_a_device_that_nothing_here_was_made_for_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}': gptzoo computes on cpu and cuda alone"):
        choose_device(name)


@pytest.mark.parametrize(("own", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_where_the_gpu_has_it_and_not_where_torch_emulates_it(
    own: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: own or including_emulation)
    assert choose_precision("auto", CUDA) == chosen
    assert choose_precision("bf16", CUDA) == "bf16"  # asked for, it is slow and right


class Gpus:
    """Four GPUs whose random numbers have a state each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, in_use: bool):
        self.states = dict.fromkeys(range(4), 0)
        self.touched = False
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
        monkeypatch.setattr(torch.cuda, "get_rng_state", self.get)
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, index: self.states.update({index: state}))

    def get(self, index: int) -> int:
        self.touched = True
        return self.states[index]


@pytest.mark.filterwarnings("error")  # torch warns of many GPUs that nobody named
def test_a_run_leaves_the_random_numbers_of_every_gpu_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Gpus(monkeypatch, in_use=False)
    with undisturbed_rng(CUDA):
        gpus.states = dict.fromkeys(range(4), 7)  # as torch.manual_seed does
    assert gpus.states == dict.fromkeys(range(4), 0)


@pytest.mark.parametrize("in_use", [False, True])
def test_a_run_on_the_cpu_starts_no_gpu(
    in_use: bool, run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = Gpus(monkeypatch, in_use=in_use)
    before = torch.get_rng_state()
    gptzoo.train({**run_spec, "steps": 1}, tmp_path / "run", quiet=True)
    assert gpus.touched == in_use
    assert torch.equal(torch.get_rng_state(), before)
