"""The check for a CUDA toolkit, without which torch fails at the end of a compilation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch.utils.cpp_extension

from gptzoo.sampling.compile.decode_step import missing_for_cuda

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch needs a C++ compiler, and there is no g++")


def test_nothing_is_missing_with_both_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.cpp_extension, "CUDA_HOME", None)
    assert missing_for_cuda() == "torch finds no CUDA toolkit"
    monkeypatch.setattr(torch.utils.cpp_extension, "CUDA_HOME", str(tmp_path))
    assert missing_for_cuda() == f"{tmp_path} has no include/cuda.h"
    (tmp_path / "include/crt").mkdir(parents=True)
    (tmp_path / "include/cuda.h").touch()
    assert missing_for_cuda() == f"{tmp_path} has no include/crt/host_defines.h"  # as in torch's packages for pip
    (tmp_path / "include/crt/host_defines.h").touch()
    assert missing_for_cuda() is None


@pytest.mark.cuda
def test_steps_are_captured_without_a_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    from support import small

    import gptzoo

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    monkeypatch.setattr(torch.utils.cpp_extension, "CUDA_HOME", None)
    model = gptzoo.build(small()).cuda()
    with pytest.warns(
        UserWarning, match="only captured as CUDA graphs, not compiled, because torch finds no CUDA toolkit"
    ):
        gptzoo.prepare_for_inference(model, compile=True)
    expected = gptzoo.generate(gptzoo.build(small()), [[1, 2]], gptzoo.SamplingSpec(max_new_tokens=4))
    assert gptzoo.generate(model, [[1, 2]], gptzoo.SamplingSpec(max_new_tokens=4)) == expected
