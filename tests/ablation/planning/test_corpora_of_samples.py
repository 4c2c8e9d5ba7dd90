"""Ablations over a corpus of samples: declared metrics are accuracies, and its held-out samples are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import admit
from toy_task import Echo, echo_run

import gptzoo
from gptzoo import registry


@pytest.mark.parametrize("metric", ["val/accuracy", "val/long/accuracy"])
def test_a_metric_that_is_higher_for_better_models_is_refused(
    metric: str, tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    design: dict[str, Any] = {"base": echo_run(), "axes": {"model.norm": ["pre_ln", "post_ln"]}, "metric": metric}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.metric: .* is higher for better models; .* Use val/loss"):
        gptzoo.ablate(design, tmp_path / "out")


def test_an_axis_over_corpora_gives_each_its_own_tokenizer_and_batching(fresh_registry: registry.Registry) -> None:
    admit(Echo)
    variants = gptzoo.variants(echo_run(), {"corpus": ["echo", "stories"]})
    partners = {
        variant.spec.corpus.type: (variant.spec.tokenizer.type, variant.spec.batching.type) for variant in variants
    }
    assert partners == {"echo": ("char", "samples"), "stories": ("byte", "windows")}


@pytest.mark.parametrize(("corpus", "held_out"), [("echo", "stories"), ("stories", "echo")])
def test_generated_samples_take_no_other_held_out_text(
    corpus: str, held_out: str, tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    base = echo_run(corpus=corpus)
    design: dict[str, Any] = {"base": base, "axes": {"model.norm": ["pre_ln", "post_ln"]}, "held_out": held_out}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.held_out: corpus 'echo' generates its own held-out samples. Rem"):
        gptzoo.ablate(design, tmp_path / "out")
