"""Every part of a model that is registered, by itself: on CUDA it computes what it computes on the CPU."""

from __future__ import annotations

import random
from typing import Any

import pytest
from cuda.model_check import check_on_cuda
from support import small, types_with_defaults

import gptzoo
from gptzoo.errors import SpecError

pytestmark = pytest.mark.cuda

N_QUICK = 8
KINDS = ("attention", "positional", "norm", "norm_layer", "ffn", "activation")
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped heads": {"attention": {"type": "sdpa", "n_kv_heads": 2}, "positional": "rope"},
    "grouped heads with a bias": {"attention": {"type": "sdpa", "n_kv_heads": 2}, "positional": "alibi"},
    "grouped heads with a window": {"attention": {"type": "sdpa", "n_kv_heads": 1, "window": 3}, "positional": "rope"},
    "window": {"attention": {"type": "sdpa", "window": 3}, "positional": "rope"},
    "softcap": {"attention": {"type": "sdpa", "softcap": 5.0}},
    "sinks": {"attention": {"type": "sdpa", "sinks": True, "n_kv_heads": 2}},
    "untied": {"tie_embeddings": False, "bias": False},
}


def spec_with(kind: str, name: str) -> dict[str, Any]:
    """Return a spec with this part, and with parts beside it that fit."""
    choices: dict[str, Any] = {kind: name}
    if kind == "norm_layer":
        choices = {"norm": {"type": "pre_ln", "layer": name}}
    for positional in ("rope", "learned", "none"):
        spec = small(**{"positional": positional, **choices})
        try:
            gptzoo.load_model_spec(spec)
        except SpecError:
            continue
        return spec
    raise AssertionError(f"no spec has {kind} {name}")


def _positional(spec: dict[str, Any]) -> str:
    return spec.get("positional", "learned")


def cases() -> list[Any]:
    """Return all parts and some options. Those outside of a seeded sample are slow."""
    parts = [(kind, name) for kind in KINDS for name in types_with_defaults(kind)]
    specs: dict[str, tuple[str | None, str]] = {f"{kind}-{name}": (kind, name) for kind, name in parts}
    positionals = types_with_defaults("positional")
    specs |= {name: (None, name) for name, spec in VARIANTS.items() if _positional(spec) in positionals}
    quick = set(random.Random(18).sample(sorted(specs), N_QUICK))
    return [
        pytest.param(case, id=name, marks=[] if name in quick else pytest.mark.slow) for name, case in specs.items()
    ]


@pytest.mark.parametrize("case", cases())
def test_a_part_computes_on_cuda_what_it_computes_on_the_cpu(case: tuple[str | None, str]) -> None:
    kind, name = case
    check_on_cuda(small(**VARIANTS[name]) if kind is None else spec_with(kind, name))
