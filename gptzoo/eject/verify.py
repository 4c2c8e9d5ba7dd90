"""Verification of an ejected file: in a process that cannot import gptzoo it must compute the same as the model."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.eject.names import ejected_tensors
from gptzoo.eject.refusal import EjectError
from gptzoo.model.decoder import Decoder

TOLERANCE = 1e-6  # of loss and gradients relative to their size; kernels may sum in another order
_MAX_LENGTH = 24
_SEED = 5
_RUNNER = Path(__file__).with_name("runner.py")


def verify(text: str, model: Decoder) -> None:
    """Raise EjectError unless the file computes the same as the model, which must be on the CPU in float32.

    Logits must be bit-equal, greedy tokens with a cache equal, and the loss and the gradients of a training step with
    the same seed equal within TOLERANCE.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, inputs, results = (Path(folder, name) for name in ("model.py", "inputs.pt", "results.pt"))
        file.write_text(text, encoding="utf-8")
        tensors = {name: tensor.contiguous() for name, tensor in ejected_tensors(model.state_dict(), model).items()}
        save_file(tensors, Path(folder, "model.safetensors"))
        expected = _expected(model)
        torch.save({"tokens": expected["tokens"], "n_new": expected["greedy"].shape[1], "seed": _SEED}, inputs)
        done = subprocess.run(
            [sys.executable, "-I", str(_RUNNER), str(file), str(inputs), str(results)], capture_output=True, text=True
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["it was killed"]
            raise EjectError(f"the ejected file does not run: {last[0]}{_place(done.stderr, text)}")
        _compare(torch.load(results), expected, model)


def _expected(model: Decoder) -> dict[str, Any]:
    """Return what the model itself computes on random tokens."""
    generator = torch.Generator().manual_seed(3)
    length = min(_MAX_LENGTH, model.spec.context_length)
    tokens = torch.randint(model.spec.vocab_size or 1, (2, length), generator=generator)
    was_training = model.training
    model.eval()
    n_prompt = max(1, length // 3)
    with torch.no_grad():
        logits, _ = model(tokens)
        greedy = _greedy(model, tokens[:, :n_prompt], length - n_prompt)
    model.train()
    torch.manual_seed(_SEED)
    model.zero_grad()
    auxiliary = AuxiliaryOutputs()
    _, loss = model(tokens[:, :-1], tokens[:, 1:], auxiliary=auxiliary)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.train(was_training)
    return {
        "tokens": tokens,
        "logits": logits,
        "greedy": greedy,
        "loss": loss.detach(),
        "gradients": ejected_tensors(gradients, model),
    }


def _greedy(model: Decoder, prompt: Tensor, n_new: int) -> Tensor:
    states = model.new_states(prompt.shape[0], prompt.shape[1] + n_new)
    logits, _ = model(prompt, states=states, no_past=True)
    new: list[Tensor] = []
    for _ in range(n_new):
        new.append(logits[:, -1].argmax(-1, keepdim=True))
        position = torch.tensor([[prompt.shape[1] + len(new) - 1]])
        logits, _ = model(new[-1], positions=position, states=states)
    return torch.cat(new, dim=1) if new else prompt[:, :0]


def _compare(actual: dict[str, Any], expected: dict[str, Any], model: Decoder) -> None:
    if not torch.equal(actual["logits"], expected["logits"]):
        difference = float((actual["logits"] - expected["logits"]).abs().max())
        raise EjectError(f"the logits of the ejected file differ by up to {difference:.1e}")
    if not torch.equal(actual["greedy"], expected["greedy"]):
        raise EjectError("the ejected file generates other tokens with its cache")
    if abs(float(actual["loss"] - expected["loss"])) > TOLERANCE * max(1.0, float(expected["loss"])):
        raise EjectError(f"the training loss of the ejected file is {actual['loss']:.7f}, not {expected['loss']:.7f}")
    for name, gradient in expected["gradients"].items():
        other = actual["gradients"].get(name)
        if other is None or float((other - gradient).abs().max()) > TOLERANCE * max(1.0, float(gradient.abs().max())):
            raise EjectError(f"the gradient of {name} differs in the ejected file")


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
