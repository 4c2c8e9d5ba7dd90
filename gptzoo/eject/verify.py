"""Verification of an ejected file: in a process that cannot import gptzoo it must compute the same as the model."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gptzoo.eject.expected import expected_results, initial_values
from gptzoo.eject.names import ejected_tensors
from gptzoo.eject.refusal import EjectError
from gptzoo.model.decoder import Decoder
from gptzoo.terminal.activity import activity

TOLERANCE = 1e-6  # of loss and gradients relative to their size; kernels may sum in another order
CACHE_TOLERANCE = 1e-4  # of logits of a padded batch with a cache: the model skips slots that the file masks
_MAX_DEVIATION = 6.0  # of a mean or variance, in standard errors
_CHANCE = 1e-9  # probability that two samples of one distribution are taken for samples of two
_ENOUGH = 100  # values for an estimate of the error of a variance
_RUNNER = Path(__file__).with_name("runner.py")


def verify(text: str, model: Decoder, *, padding: bool = False) -> None:
    """Raise EjectError unless the file computes the same as the model, which must be on the CPU in float32.

    Logits must be bit-equal, also for a model that is built on the meta device, and with `padding` for a left-padded
    batch. Greedy tokens with a cache must be the same. The loss and the gradients of a training step with the same seed
    must be equal within TOLERANCE, and logits of a padded batch with a cache within CACHE_TOLERANCE. Initial values
    must have the same distributions as in the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, given, results = (Path(folder, name) for name in ("model.py", "inputs.pt", "results.pt"))
        file.write_text(text, encoding="utf-8")
        tensors = {name: tensor.contiguous() for name, tensor in ejected_tensors(model.state_dict(), model).items()}
        save_file(tensors, Path(folder, "model.safetensors"))
        inputs, expected = expected_results(model, padding=padding)
        torch.save(inputs, given)
        with activity("comparing the ejected file with the model"):
            command = [sys.executable, "-I", str(_RUNNER), str(file), str(given), str(results)]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["it was killed"]
            raise EjectError(f"the ejected file does not run: {last[0]}{_place(done.stderr, text)}")
        actual = torch.load(results)
    _compare(actual, expected)
    if padding:
        _compare_padded(actual, expected, inputs["positions"] >= 0)
    _compare_initial(actual["initial"], *initial_values(model))


def _compare(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    if not torch.equal(actual["logits"], expected["logits"]):
        difference = float((actual["logits"] - expected["logits"]).abs().max())
        raise EjectError(f"the logits of the ejected file differ by up to {difference:.1e}")
    if not torch.equal(actual["logits_from_meta"], expected["logits"]):
        raise EjectError("the logits of the ejected file differ if it is built on the meta device and then filled")
    if not torch.equal(actual["greedy"], expected["greedy"]):
        raise EjectError("the ejected file generates other tokens with its cache")
    if abs(float(actual["loss"] - expected["loss"])) > TOLERANCE * max(1.0, float(expected["loss"])):
        raise EjectError(f"the training loss of the ejected file is {actual['loss']:.7f}, not {expected['loss']:.7f}")
    for name, gradient in expected["gradients"].items():
        other = actual["gradients"].get(name)
        if other is None or float((other - gradient).abs().max()) > TOLERANCE * max(1.0, float(gradient.abs().max())):
            raise EjectError(f"the gradient of {name} differs in the ejected file")


def _compare_padded(actual: dict[str, Any], expected: dict[str, Any], real: Tensor) -> None:
    """Compare the logits of all tokens except padding, whose logits have no meaning."""
    cases = {"padded": ("of a padded batch", 0.0), "padded_cached": ("of a padded batch with a cache", CACHE_TOLERANCE)}
    for name, (case, tolerance) in cases.items():
        right = expected[name][real]
        difference = float((actual[name][real] - right).abs().max())
        if not difference <= tolerance * max(1.0, float(right.abs().max())):  # NaN is refused, too
            raise EjectError(f"the logits {case} differ by up to {difference:.1e} in the ejected file")


def _compare_initial(actual: dict[str, Tensor], first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Compare initial values: equal where they do not depend on the seed, else of the same distribution."""
    if missing := sorted(first.keys() ^ actual.keys()):
        raise EjectError(f"the ejected file has other tensors: {', '.join(missing)}")
    for name, values in actual.items():
        if torch.equal(first[name], second[name]):
            same = torch.equal(values, first[name])
        else:
            same = have_one_distribution(values, torch.cat([first[name], second[name]]))
        if not same:
            raise EjectError(f"the initial values of {name} differ in the ejected file")


def have_one_distribution(a: Tensor, b: Tensor) -> bool:
    """Return False if two samples surely differ in mean, variance or distribution (Kolmogorov-Smirnov test)."""
    a, b = a.double().sort().values, b.double().sort().values
    points = torch.cat([a, b])
    error = (1 / len(a) + 1 / len(b)) ** 0.5
    variance = float(points.var(correction=0))
    if abs(float(a.mean() - b.mean())) > _MAX_DEVIATION * error * variance**0.5:
        return False
    if min(len(a), len(b)) >= _ENOUGH and variance > 0:
        kurtosis = float(((points - points.mean()) ** 4).mean()) / variance**2
        largest_ratio = _MAX_DEVIATION * error * max(kurtosis - 1, 0.1) ** 0.5
        if abs(float(a.var() - b.var())) > largest_ratio * variance:
            return False
    shares = [torch.searchsorted(x, points, right=True) / len(x) for x in (a, b)]
    largest = float((shares[0] - shares[1]).abs().max())
    return largest <= math.sqrt(-math.log(_CHANCE / 2) / 2 * (1 / len(a) + 1 / len(b)))


def _place(stderr: str, text: str) -> str:
    """Return the line of the file that an error came from."""
    numbers = [line.split("line ")[1].split(",")[0] for line in stderr.splitlines() if 'model.py", line ' in line]
    if not numbers or not numbers[-1].isdigit():
        return ""
    lines = text.splitlines()
    number = int(numbers[-1])
    classes = [line for line in lines[:number] if line.startswith(("class ", "def "))]
    owner = classes[-1].split("(")[0].split(":")[0].split()[-1] if classes else "the file"
    return f", in {owner}: {lines[number - 1].strip()}"
