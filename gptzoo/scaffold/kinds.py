"""The kinds that have a template, and how a spec selects the component of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLACEHOLDER = "new_part"  # stands for the name of the component, here and in the templates


@dataclass(frozen=True)
class Template:
    """The template in the folder `templates/<kind>`, and the spec fields that select its component."""

    summary: str  # of the component, as a noun phrase
    class_suffix: str  # of the name of its class
    model: Mapping[str, Any] = field(default_factory=dict)  # fields of the model spec
    run: Mapping[str, Any] = field(default_factory=dict)  # fields of the run spec
    sampling: Mapping[str, Any] = field(default_factory=dict)  # fields of a SamplingSpec

    @property
    def usage(self) -> tuple[str, Mapping[str, Any]]:
        """The name of the spec that selects the component, and the fields that do so."""
        if self.sampling:
            return "`gptzoo.SamplingSpec`, for `gptzoo.generate`", self.sampling
        return ("model spec", self.model) if self.model else ("run spec", self.run)


TEMPLATES = {
    "activation": Template(
        "a smooth activation (mish) with adjustable sharpness", "Activation", {"activation": PLACEHOLDER}
    ),
    "architecture": Template(
        "the built-in decoder with scaled token embeddings", "Decoder", {"architecture": PLACEHOLDER}
    ),
    "attention": Template("multi-head attention with soft-capped scores", "Attention", {"attention": PLACEHOLDER}),
    "corpus": Template("a corpus of sums, to see a model learn to add", "Corpus", run={"corpus": PLACEHOLDER}),
    "ffn": Template("a feed-forward network of maxout units", "FeedForward", {"ffn": PLACEHOLDER}),
    "logits_processor": Template(
        "epsilon sampling: keep tokens above a minimum probability",
        "Processor",
        sampling={"processors": [{"type": "temperature", "value": 1.5}, PLACEHOLDER]},
    ),
    "norm": Template("pre-norm blocks with learned gains (LayerScale)", "Norm", {"norm": PLACEHOLDER}),
    "norm_layer": Template(
        "RMSNorm over a fraction of the channels (pRMSNorm)",
        "NormLayer",
        {"norm": {"type": "pre_ln", "layer": PLACEHOLDER}},
    ),
    "optimizer": Template("rectified Adam (RAdam)", "Optimizer", run={"optimizer": {"type": PLACEHOLDER, "lr": 0.003}}),
    "positional": Template("an attention penalty that grows with distance", "Positional", {"positional": PLACEHOLDER}),
    "schedule": Template(
        "linear decay of the learning rate after warmup",
        "Schedule",
        run={"schedule": {"type": PLACEHOLDER, "warmup_steps": 20}},
    ),
    "tokenizer": Template(
        "a tokenizer of common words, with bytes for the rest", "Tokenizer", run={"tokenizer": PLACEHOLDER}
    ),
    "tracker": Template("a Markdown page with one line per evaluation", "Tracker", run={"trackers": [PLACEHOLDER]}),
}
