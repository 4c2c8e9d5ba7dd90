"""CPU time per valid variant of a design with four axes, against reading each spec by itself and a limit.

Some points of the design are excluded by a condition, others because they are no valid spec, and each excluded point
has its reason. "gptzoo" enumerates the design by `gptzoo.variants`, from the JSON of the base to named variants. "one
by one" reads the JSON of each valid variant by `RunSpec.model_validate`, without names, hashes and exclusions. Before
anything is timed, the specs of both are compared. "0.5 ms" is the limit: 2,000 valid variants per second. Values are
CPU time of the process, so that other load on the machine affects them less. Only built-in components are loaded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.harness.case import OURS, Case, Mismatch, Options

BASE: dict[str, Any] = {
    "model": {"context_length": 64, "d_model": 64, "n_layers": 4, "n_heads": 4},
    "corpus": "tinyshakespeare",
    "tokenizer": "byte",
    "batch_size": 8,
    "steps": 100,
}
AXES: dict[str, Any] = {
    "model.positional": ["learned", "sinusoidal", "rope", "none"],
    "model.activation": ["relu", "gelu", "silu"],
    "model.n_heads": [1, 2, 3, 4, 8],  # 3 does not divide d_model
    "optimizer.lr": [round(1e-4 * 1.05**power, 8) for power in range(60)],
}
EXCLUDE = [{"when": {"model.positional": "none", "model.activation": "relu"}, "because": "measured before"}]
LIMIT_MS = 0.5


def cases(options: Options) -> Iterator[Case]:
    design = Design(n_rates=2 if options.tiny else 60)
    yield Case(
        "four axes",
        {OURS: design.enumerate, "one by one": design.read, f"{LIMIT_MS} ms": lambda: LIMIT_MS},
        design.check,
        settings={"variants": len(design.texts), "exclusions": len(design.found.exclusions)},
        unit="ms",
        rounds=9,
        untimed=0,
        warmup=1,
    )


class Design:
    """The design, and the JSON of its valid variants."""

    def __init__(self, n_rates: int):
        import gptzoo
        from gptzoo import registry

        self.builtin = registry.discover("none")
        self.axes = {**AXES, "optimizer.lr": AXES["optimizer.lr"][:n_rates]}
        with registry.use(self.builtin):
            self.found = gptzoo.variants(BASE, self.axes, exclude=EXCLUDE)
        self.texts = [json.dumps(variant.spec.resolved()) for variant in self.found]

    def check(self) -> None:
        read = [self._read(text).resolved() for text in self.texts]
        if read != [variant.spec.resolved() for variant in self.found]:
            raise Mismatch("the specs of variants are not those that are read one by one")
        if not all(exclusion.reason for exclusion in self.found.exclusions):
            raise Mismatch("an excluded point has no reason")

    def enumerate(self) -> float:
        """Return the CPU milliseconds of each variant."""
        import gptzoo
        from gptzoo import registry

        with registry.use(self.builtin):
            started = time.process_time()
            gptzoo.variants(BASE, self.axes, exclude=EXCLUDE)
            return 1000 * (time.process_time() - started) / len(self.texts)

    def read(self) -> float:
        """Return the CPU milliseconds of each spec."""
        started = time.process_time()
        for text in self.texts:
            self._read(text)
        return 1000 * (time.process_time() - started) / len(self.texts)

    def _read(self, text: str) -> Any:
        import gptzoo
        from gptzoo import registry

        with registry.use(self.builtin):
            return gptzoo.RunSpec.model_validate(json.loads(text))
