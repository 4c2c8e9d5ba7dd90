"""The decoding strategy under test, with a tiny model and its tokenizer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.errors import InputError
from gptzoo.model.build import build
from gptzoo.sampling.search.strategies import Beams, Contrastive
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.strategies import Sampling, Speculative
from gptzoo.sampling.strategy import Strategy
from gptzoo.strict_model import did_you_mean
from gptzoo.testing.at_size.effort import QUICK, Effort
from gptzoo.testing.tiny_model import TINY_MODEL, add_weight_noise

CHARACTERS = "abcdefghij .,"  # of the tokenizer; each has an id
assert len(CHARACTERS) == TINY_MODEL["vocab_size"]
_OWN_ARGUMENTS = ("self", "loaded", "spec", "draft", "fit_length", "n_top_logprobs")


class StrategyUnderTest:
    """A strategy class and keyword arguments of its constructor. Raises InputError for an unknown argument."""

    kind = "strategy"
    effort: Effort = QUICK
    """How many cases beyond toy sizes a property tries."""

    def __init__(self, component: type[Strategy], options: Mapping[str, object]):
        self.component, self.options = component, dict(options)
        self.label = f"strategy:{component.__name__.lower()}"
        self.parameters = inspect.signature(component).parameters
        for name in options:
            if name not in self.parameters:
                raise InputError(f"{self.label}: no argument {name!r}{did_you_mean(name, self.parameters)}")

    def create(
        self, spec: SamplingSpec, options: Mapping[str, object] | None = None, *, fit_length: bool = False
    ) -> Strategy:
        """Create the strategy for a tiny model, and a smaller one with the same tokenizer where it takes a draft."""
        arguments: dict[str, Any] = {**self.options, **(options or {})}
        if "draft" in self.parameters:
            arguments["draft"] = _load(positional="rope", n_layers=1)
        positional = "learned" if fit_length else "rope"  # only learned positions limit the length
        return self.component(_load(positional=positional), spec, fit_length=fit_length, **arguments)

    def other_options(self) -> Iterator[Mapping[str, object]]:
        """Yield no options, then other values of each argument that is a number."""
        yield {}
        for name, parameter in self.parameters.items():
            default = parameter.default
            if name in (*_OWN_ARGUMENTS, *self.options) or isinstance(default, bool):
                continue
            if isinstance(default, int):
                yield from ({name: value} for value in (1, 2 * default + 1))
            elif isinstance(default, float):
                yield from ({name: value} for value in (0.1 * default, 0.9 * default))


def find_strategy(name: str) -> type[Strategy]:
    """Return the built-in strategy of a name, such as `beams`. Raises InputError if there is none."""
    known = {strategy.__name__.lower(): strategy for strategy in (Sampling, Speculative, Contrastive, Beams)}
    if name not in known:
        raise InputError(f"no strategy named {name!r}{did_you_mean(name, known)}  (known: {', '.join(sorted(known))})")
    return known[name]


def _load(**changes: object) -> LoadedModel:
    """Return a tiny model in double precision, in which a batch and a single row round to the same tokens."""
    model = build({**TINY_MODEL, "context_length": 48, **changes}).eval()
    add_weight_noise(model)
    return LoadedModel(model.to(torch.float64), CharTokenizer(CharTokenizer.Config(), CHARACTERS), Path("tiny-model"))
