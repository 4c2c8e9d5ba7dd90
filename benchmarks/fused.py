"""The time of an optimizer step with torch's loop, foreach and fused implementations.

AdamW and SGD update the parameters of two models with random gradients. Before anything is timed, one step of each
implementation must give the same weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.case import Case, Mismatch, Options

MODELS = Path(__file__).parents[1] / "configs" / "models"
IMPLEMENTATIONS = {"loop": {"foreach": False, "fused": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    "adamw": ("AdamW", {"lr": 1e-3, "weight_decay": 0.1}),
    "sgd": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
}


def cases(options: Options) -> Iterator[Case]:
    import torch

    names = ("tiny",) if options.tiny else ("tiny", "small")
    for model, optimizer in itertools.product(names, OPTIMIZERS):
        steps = OptimizerSteps(model, optimizer, options)
        yield Case(
            f"{optimizer}, {model}",
            {name: partial(steps.step, name) for name in IMPLEMENTATIONS},
            steps.check,
            settings={"parameters": steps.n_parameters, **OPTIMIZERS[optimizer][1]},
            base="fused",
            rounds=30,
            untimed=0,
            warmup=5,
            wait=torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None,
        )


class OptimizerSteps:
    """The same parameters and gradients for each implementation of an optimizer."""

    def __init__(self, model: str, optimizer: str, options: Options):
        import torch

        import gptzoo

        sizes = ["vocab_size=8192"] + (["n_layers=1", "d_model=16", "vocab_size=64"] if options.tiny else [])
        spec = gptzoo.load_model_spec(MODELS / f"{model}.json", sizes)
        shapes = [parameter.shape for parameter in gptzoo.build(spec, device="meta").parameters()]
        self.n_parameters = sum(shape.numel() for shape in shapes)
        self.parameters: dict[str, list[Any]] = {}
        self.optimizers: dict[str, Any] = {}
        name, settings = OPTIMIZERS[optimizer]
        for implementation, flags in IMPLEMENTATIONS.items():
            torch.manual_seed(0)
            parameters = [torch.nn.Parameter(torch.randn(shape, device=options.device)) for shape in shapes]
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            self.parameters[implementation] = parameters
            self.optimizers[implementation] = getattr(torch.optim, name)(parameters, **settings, **flags)

    def step(self, implementation: str) -> None:
        self.optimizers[implementation].step()

    def check(self) -> None:
        import torch

        for implementation in IMPLEMENTATIONS:
            self.step(implementation)
        for implementation in ("foreach", "fused"):
            for one, other in zip(self.parameters["loop"], self.parameters[implementation], strict=True):
                try:
                    torch.testing.assert_close(one, other)
                except AssertionError as error:
                    raise Mismatch(f"{implementation} and the loop differ: {error}") from None
