"""The tests of CUDA on a pretended device, and the device itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pretended_cuda import device

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so use: pytest -m cuda")


@pytest.fixture(scope="session")
def cache() -> str:
    """The cache folder, in which the device is compiled; tests have folders of their own."""
    if device.compiler() is None:
        pytest.skip("the pretended CUDA device needs a C++ compiler, and there is no g++")
    return str(device.build().parent)


def run_on_device(cache: str, *options: str) -> None:
    """Run tests in a process in which torch has the device. Fail with their output if one fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, str(HERE / "pretended_cuda"), "-q", "-p", "no:cacheprovider", *options]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent, env={**environment, "GPTZOO_CACHE": cache}
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


@pytest.mark.slow
def test_all_tests_of_cuda(cache: str) -> None:
    run_on_device(cache, "-m", "cuda", str(HERE), f"--ignore={HERE / 'cuda' / 'test_pairs.py'}")


@pytest.mark.slow
def test_a_model_on_two_devices_fails_as_on_a_gpu(cache: str, tmp_path: Path) -> None:
    (tmp_path / "test_mistakes.py").write_text(
        """
import pytest, torch

def test_tensors_of_two_devices():
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.ones(2, device="cuda") + torch.ones(2)

def test_a_generator_of_the_cpu():
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.rand(2, device="cuda", generator=torch.Generator())

def test_a_capture_that_waits():
    x = torch.ones(2).cuda()
    with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            x.sum().item()
    assert torch.cuda.get_sync_debug_mode() == 0

def test_a_graph_reads_its_own_tensors_again_and_changes_nothing_when_it_is_captured():
    x, total, graph = torch.ones(2).cuda(), torch.zeros(2).cuda(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total += 2 * x
    assert total.tolist() == [0, 0]
    x.fill_(5)
    graph.replay()
    graph.replay()
    assert total.tolist() == [20, 20]
"""
    )
    run_on_device(cache, "-c", os.devnull, str(tmp_path))
