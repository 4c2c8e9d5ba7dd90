"""The cost of a case, in counts that do not depend on the machine: modules, weights and computed elements."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from gptzoo.model.build import build_on_meta
from gptzoo.model.shapes.eager_mode import EagerMode
from gptzoo.model.stack import Stack
from gptzoo.testing.at_size.case import Case
from gptzoo.testing.at_size.effort import QUICK, Effort
from gptzoo.testing.at_size.trial import Trial
from gptzoo.testing.component_under_test import ModelPartUnderTest

MAX_MODULES = 160  # such as of 16 experts in each of two layers
MAX_WEIGHTS = 1_200_000
MAX_ELEMENTS = 150_000_000  # of all tensors that a forward pass computes
_USUAL_ELEMENTS = 12_000  # per token, of a component that gets all cases of a quick check
_COUNTED_TOKENS = 8


def is_affordable(subject: ModelPartUnderTest, case: Case) -> bool:
    """Return True unless options make the model so large that one case would take most of the time."""
    n_elements = _elements_per_token(
        subject, json.dumps(case.options), case.partner, case.shape, case.resolved_context_length
    )
    return n_elements * case.batch_size * case.length <= MAX_ELEMENTS


def quick_effort(subject: object) -> Effort:
    """Return the effort of a quick check. A component that computes more gets fewer cases, at least half of them."""
    if not isinstance(subject, ModelPartUnderTest):
        return QUICK
    n_elements = _elements_per_token(subject, "{}", "", 0, _COUNTED_TOKENS)
    share = min(1.0, max(0.5, _USUAL_ELEMENTS / max(n_elements, 1)))
    return replace(QUICK, n_planned=math.ceil(share * QUICK.n_planned), n_random=math.ceil(share * QUICK.n_random))


@functools.lru_cache(maxsize=4096)
def _elements_per_token(
    subject: ModelPartUnderTest, options: str, partner: str, shape: int, context_length: int
) -> float:
    """Return the elements that a forward pass computes, infinity for too many modules or weights.

    Return 0 for a model that raises an error, which the property reports.
    """
    case = Case((_COUNTED_TOKENS,), 1, context_length, json.loads(options), partner, shape)
    trial = Trial(subject, case)
    try:
        model = build_on_meta(subject.spec(trial.config, **trial.model_fields))
        if sum(1 for _ in model.modules()) > MAX_MODULES or sum(map(torch.numel, model.parameters())) > MAX_WEIGHTS:
            return math.inf
        return _count_elements(trial.model(), trial.tokens(1)) / _COUNTED_TOKENS
    except Exception:
        return 0.0


@torch.no_grad()
def _count_elements(model: Stack, tokens: Tensor) -> int:
    with _ElementCounter() as counter:
        model(tokens)
    return counter.n_elements


class _ElementCounter(EagerMode):
    """Counts the elements of all tensors that operations return."""

    n_elements = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        self.n_elements += sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result
