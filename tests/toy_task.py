"""A corpus of samples for tests: each token asks for the one before it, at some positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

import gptzoo


class Echo(gptzoo.SampleCorpus):
    """Random tokens, of which half ask for the token before."""

    name = "echo"

    class Config(gptzoo.SampleCorpus.Config):
        length: int = Field(default=8, ge=2)
        """Tokens in a sample."""
        n_tokens: int = Field(default=6, ge=1)
        """Number of token ids."""

    config: Config

    @property
    def vocab_size(self) -> int:
        return self.config.n_tokens

    @property
    def sample_length(self) -> int:
        return self.config.length

    @property
    def chance(self) -> Mapping[str, float]:
        return {"accuracy": 1 / self.config.n_tokens}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        tokens = draws.below(self.config.n_tokens, self.config.length)
        targets = np.full(self.config.length, gptzoo.IGNORED_TARGET, dtype=np.int64)
        asked = 1 + draws.distinct(self.config.length - 1, max(1, self.config.length // 2))
        targets[asked] = tokens[asked - 1]
        return gptzoo.Sample(tokens, targets)


def echo_run(**changes: Any) -> dict[str, Any]:
    """Return a run of a few steps on the task, with a level of longer samples."""
    model = {"context_length": 8, "d_model": 16, "n_layers": 1, "n_heads": 2, "positional": "rope"}
    corpus = {"type": "echo", "n_train": 60, "n_val": 21, "levels": {"long": {"length": 20, "n_val": 10}}}
    run = {"model": model, "corpus": corpus, "steps": 4, "batch_size": 8, "device": "cpu", "precision": "fp32"}
    return {**run, "eval": {"every": 2}, "checkpoint": {"every": 2}, "watch": {"every": None}, **changes}
