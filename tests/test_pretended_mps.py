"""Training, evaluation and sampling on a pretended MPS device, which has no float64, as the GPU of a Mac."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pretended_cuda import device

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an MPS device"),
]

PROGRAM = """
from pretended_cuda.device import install_mps

install_mps()
import random, sys
from pathlib import Path

import torch

import gptzoo
from gptzoo.training.run.metrics_file import read_metrics

folder = Path(sys.argv[1])
words = random.Random(0).choices(["one", "red", "cat", "runs", "and", "then"], k=800)
(folder / "text.txt").write_text(" ".join(words))
spec = {
    "model": {"context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 2, "positional": "rope",
              "ffn": "glu", "norm": {"type": "pre_ln", "layer": "rmsnorm"}},
    "corpus": {"type": "text", "path": str(folder / "text.txt")},
    "tokenizer": "byte", "batch_size": 16, "micro_batch_size": 8, "steps": 6, "ema_decay": 0.9,
    "watch": {"every": 3}, "optimizer": {"type": OPTIMIZER, "lr": 0.003},
}

def rows(device, precision="fp32"):
    out = folder / f"{device}-{precision}"
    gptzoo.train({**spec, "device": device, "precision": precision}, out, quiet=True)
    return read_metrics(out / "metrics.jsonl"), out

(ours, run), (theirs, reference) = rows("mps"), rows("cpu")
for row, other in zip(ours, theirs, strict=True):
    for name in ("train/loss", "val/loss", "val/ema_loss", "grad_norm"):
        if other.get(name) is not None:
            assert abs(row[name] - other[name]) < 1e-4 * abs(other[name]), (name, row[name], other[name])
(half, _) = rows("mps", "bf16")
assert abs(half[-1]["train/loss"] - theirs[-1]["train/loss"]) < 0.05

loaded, on_cpu = gptzoo.load(run, device="mps"), gptzoo.load(run)
assert next(loaded.model.parameters()).device.type == "mps"
for options in ({}, {"type": "top_p", "p": 0.9}, {"type": "top_k", "k": 5}, {"type": "temperature", "value": 0}):
    spec_of_text = {"max_new_tokens": 12, "processors": [options] if options else [], "seed": 3}
    text = [model.generate("red cat", spec_of_text) for model in (loaded, on_cpu)]
    assert text[0] == text[1], text
measured = [gptzoo.evaluate(run, device=name).likelihood.loss for name in ("mps", "cpu")]
assert abs(measured[0] - measured[1]) < 1e-4
gptzoo.train({**spec, "device": "mps", "precision": "fp32", "steps": 8}, run, resume=True, extend=True, quiet=True)
assert read_metrics(run / "metrics.jsonl")[-1]["step"] == 8

profile = gptzoo.profile({**spec, "device": "mps", "precision": "fp32"}, steps=1)
assert profile.device.startswith("mps")
assert profile.limits.bytes_per_second > 0
print("same results")
"""


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_evaluation_and_sampling_give_the_results_of_the_cpu(tmp_path: Path, optimizer: str) -> None:
    if device.compiler() is None:
        pytest.skip("the pretended MPS device needs a C++ compiler, and there is no g++")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("OPTIMIZER", repr(optimizer)))
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "GPTZOO_PLUGINS": "none"}
    command = [sys.executable, str(program), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "same results" in result.stdout
