"""Autograd in forks of a process that has used autograd with a GPU, which torch refuses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from gptzoo.ablation.design.isolated_call import call_isolated
from gptzoo.errors import InputError
from gptzoo.testing.runner import check, find_component

# A process with a GPU, as seen by autograd's engine: a CUDA build of torch counts a fake one.
_WITH_A_GPU = """
import os, torch
from torch._subclasses.fake_tensor import FakeTensorMode
{before}
with FakeTensorMode():
    torch.empty(())
torch.ones((), requires_grad=True).backward()
if os.fork() == 0:
    from gptzoo.utils.forking import autograd_works
    os._exit(not autograd_works())
raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
_ALLOW = "from gptzoo.utils.forking import allow_autograd_in_forks; allow_autograd_in_forks()"


def exit_code(before: str) -> int:
    return subprocess.run([sys.executable, "-c", _WITH_A_GPU.format(before=before)]).returncode


def test_forks_can_use_autograd_if_it_was_allowed_before() -> None:
    assert exit_code(_ALLOW) == 0


@pytest.mark.skipif(not torch.version.cuda, reason="this build of torch knows no CUDA")
def test_a_fork_that_cannot_use_autograd_is_detected() -> None:
    assert exit_code("") == 1


def test_without_autograd_in_forks_the_call_runs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call_isolated({"there": os.getpid})["there"] != os.getpid()
    monkeypatch.setattr("gptzoo.ablation.design.isolated_call.autograd_works", lambda: False)
    assert call_isolated({"here": os.getpid, "too": os.getpid}) == {"here": os.getpid(), "too": os.getpid()}


def test_checks_that_forks_cannot_run_are_skipped_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptzoo.testing.properties.training.sharding.autograd_works", lambda: False)
    (verdict,) = check(find_component("attention:naive"), {}, only=["sharding"], slow=True)
    assert verdict.outcome == "skipped"
    assert "Set CUDA_VISIBLE_DEVICES= to hide" in verdict.text


def _crash() -> int:
    os._exit(3)


def test_many_calls_share_several_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    done: list[int] = []
    results = call_isolated({str(number): os.getpid for number in range(9)}, done.append)
    assert list(results) == [str(number) for number in range(9)]
    assert len({*results.values()}) == 2
    assert os.getpid() not in results.values()
    assert done == list(range(1, 10))


@pytest.mark.parametrize("index", [4, 7])
def test_the_call_that_crashes_one_of_several_forks_is_named(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    functions = {f"v{number}": _crash if number == index else os.getpid for number in range(9)}
    with pytest.raises(InputError, match=f"variant v{index}: .* exited with code 3"):
        call_isolated(functions)
