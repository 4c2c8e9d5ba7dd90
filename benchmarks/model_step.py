"""A training step of the model alone, against the one-file reference and other libraries.

Cases are named SHAPE, PRECISION, dropout D, eager or compiled. Before anything is timed, gptzoo, the reference and
`transformers` get the same weights, and must have the same loss and gradients. Of other libraries the number of
parameters and the loss before the first step are checked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.case import OURS, Case, LeftOut, Mismatch, Options
from benchmarks.harness.worker import Worker, start_worker
from benchmarks.peers import PEERS, Peer, Setting, worker_arguments

BASE = Setting(65, 64, 128, 4, 4, batch_size=12, dropout=0.0, precision="fp32", compile=False)
SHAPES = {
    "0.8M": BASE,
    "10.7M": replace(BASE, context_length=256, d_model=384, n_layers=6, n_heads=6, batch_size=64),
    "124M": replace(BASE, vocab_size=50257, context_length=1024, d_model=768, n_layers=12, n_heads=12, batch_size=8),
}
ROUNDS = {"0.8M": 60, "10.7M": 20, "124M": 12}
TINY = {"tiny": replace(BASE, context_length=16, d_model=16, n_layers=2, n_heads=2, batch_size=2)}
TOLERANCE = 1e-3  # relative, of losses and gradients in float32
SAME_SIZE = 0.03  # relative difference of the number of parameters, where libraries differ in small vectors
INITIAL_LOSS = 0.5  # nats around log(vocab_size)


def cases(options: Options) -> Iterator[Case | LeftOut]:
    shapes = TINY if options.tiny else SHAPES
    precisions = ("fp32",) if options.tiny else ("fp32", "bf16")
    compiles = (False,) if options.tiny else (False, True)
    for (name, shape), precision, dropout, compile in itertools.product(
        shapes.items(), precisions, (0.0, 0.2), compiles
    ):
        setting = replace(shape, precision=precision, dropout=dropout, compile=compile, device=options.device)
        case_name = f"{name}, {precision}, dropout {dropout:g}, {'compiled' if compile else 'eager'}"
        with contextlib.ExitStack() as stack:  # ends the workers of a case before the next one
            comparison = Comparison(setting, options, stack)
            yield Case(
                name=case_name,
                sides={peer: partial(comparison.step, peer) for peer in comparison.names},
                check=comparison.check,
                settings=asdict(setting),
                rounds=ROUNDS.get(name, 3),
                wait=setting.wait,
            )
    for peer, (module, _) in PEERS.items():
        if not _is_installed(module) and peer not in options.pythons:
            yield LeftOut(peer, f"{module} is not installed here. Give its environment: --python {peer}=PATH")


class Comparison:
    """The peers of one case, made when it is checked."""

    def __init__(self, setting: Setting, options: Options, stack: contextlib.ExitStack):
        self.setting, self.options, self.stack = setting, options, stack
        self.names = [name for name, (module, _) in PEERS.items() if _is_installed(module) or name in options.pythons]
        self.peers: dict[str, Peer] = {}
        self.workers: dict[str, Worker] = {}

    def step(self, name: str) -> float | None:
        if name in self.workers:
            return float(self.workers[name].ask("step"))
        self.peers[name].step()
        return None

    def check(self) -> None:
        for name in self.names:
            if name in self.options.pythons:
                worker = start_worker(
                    self.options.pythons[name], "benchmarks.peers", worker_arguments(name, self.setting)
                )
                self.workers[name] = self.stack.enter_context(worker)
            else:
                self.peers[name] = PEERS[name][1](self.setting)
        reference = self.peers["reference"]
        size = reference.facts()["parameters"]
        for name in self.names:
            facts = self.workers[name].ask("facts") if name in self.workers else self.peers[name].facts()
            check_facts(name, facts, size, self.setting)
        for name, copy_weights in (("transformers", to_transformers), (OURS, to_gptzoo)):
            if name in self.peers:
                copy_weights(self.peers[name].model, reference.model)
                check_same(name, self.peers[name], reference)


def check_facts(name: str, facts: dict[str, float], size: float, setting: Setting) -> None:
    """Raise Mismatch for a model of another size, or with an initial loss far from that of uniform predictions.

    A library may give the output head weights of its own, which changes neither the work nor the time of a product.
    """
    sizes = (size, size + setting.vocab_size * setting.d_model)
    if all(abs(facts["parameters"] - expected) > SAME_SIZE * expected for expected in sizes):
        raise Mismatch(f"{name} has {facts['parameters']:,.0f} parameters, and the reference {size:,.0f}")
    if abs(facts["loss"] - (expected := math.log(setting.vocab_size))) > INITIAL_LOSS:
        raise Mismatch(f"{name} has an initial loss of {facts['loss']:.3f}, expected about {expected:.3f}")


def check_same(name: str, peer: Peer, reference: Peer) -> None:
    """Raise Mismatch unless a peer with the weights of the reference has its loss, and gradients of the same norm."""
    results = []
    for one in (peer, reference):
        loss = one.loss()
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in one.model.parameters() if p.grad is not None])
        one.model.zero_grad(set_to_none=True)
        results.append((loss.item(), norm.item()))
    for what, theirs, expected in zip(("loss", "gradient norm"), *results, strict=True):
        if abs(theirs - expected) > TOLERANCE * abs(expected):
            raise Mismatch(f"{name} has a {what} of {theirs:.6g}, and the reference with its weights {expected:.6g}")


def to_gptzoo(model: Any, reference: Any) -> None:
    """Copy the weights of the reference into gptzoo's decoder."""
    names = {
        "norm_1": "norm.layers.attention",
        "norm_2": "norm.layers.ffn",
        "qkv": "attention.qkv",
        "out": "attention.out",
        "up": "ffn.up",
        "down": "ffn.down",
    }
    outer = {"tokens": "embed", "positions": "positionals.0.table", "norm": "exit"}
    _copy(model.model, reference, names, outer, "blocks", lambda name, tensor: tensor)


def to_transformers(model: Any, reference: Any) -> None:
    """Copy the weights of the reference into the GPT-2 of `transformers`, which stores matrices transposed."""
    names = {
        "norm_1": "ln_1",
        "norm_2": "ln_2",
        "qkv": "attn.c_attn",
        "out": "attn.c_proj",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    }
    outer = {"tokens": "wte", "positions": "wpe", "norm": "ln_f"}

    def transpose(name: str, tensor: Tensor) -> Tensor:
        return tensor.T if tensor.ndim == 2 and "blocks" in name else tensor

    _copy(model.model.transformer, reference, names, outer, "h", transpose)


@torch.no_grad()
def _copy(model: Any, reference: Any, names: dict[str, str], outer: dict[str, str], blocks: str, convert: Any) -> None:
    targets = dict(model.named_parameters())
    for name, tensor in reference.named_parameters():
        parts = name.split(".")
        if parts[0] == "blocks":
            target = f"{blocks}.{parts[1]}.{names[parts[2]]}.{parts[3]}"
        else:
            target = f"{outer[parts[0]]}.{parts[1]}"
        targets.pop(target).copy_(convert(name, tensor))
    if targets:
        raise Mismatch(f"weights without a counterpart in the reference: {', '.join(targets)}")


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
