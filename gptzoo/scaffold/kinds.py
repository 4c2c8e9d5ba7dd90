"""The kinds that there is a template for, and how a spec uses a component of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TYPE = "new_part"  # stands for the component's name, in templates too


@dataclass(frozen=True)
class Template:
    """What is in the folder `templates/<kind>`, and where a spec says that it wants it."""

    idea: str  # the component in it, in a few words
    suffix: str  # of the name of its class
    model: Mapping[str, Any] = field(default_factory=dict)  # fields of the model spec that put it there
    run: Mapping[str, Any] = field(default_factory=dict)  # fields of the run spec
    sampling: Mapping[str, Any] = field(default_factory=dict)  # fields of a SamplingSpec

    @property
    def use(self) -> tuple[str, Mapping[str, Any]]:
        """Which spec names the component, in words, and by which fields."""
        if self.sampling:
            return "`gptzoo.SamplingSpec`, for `gptzoo.generate`", self.sampling
        return ("model spec", self.model) if self.model else ("run spec", self.run)


TEMPLATES = {
    "activation": Template("a smooth activation (mish) with an adjustable bend", "Activation", {"activation": TYPE}),
    "architecture": Template("the decoder with louder token embeddings", "Decoder", {"architecture": TYPE}),
    "attention": Template("attention whose scores are capped softly", "Attention", {"attention": TYPE}),
    "corpus": Template("a corpus of sums, to see a model learn to add", "Corpus", run={"corpus": TYPE}),
    "ffn": Template("a feed-forward network of maxout units", "FeedForward", {"ffn": TYPE}),
    "logits_processor": Template(
        "sampling from the tokens that are likely enough (epsilon sampling)",
        "Processor",
        sampling={"processors": [{"type": "temperature", "value": 1.5}, TYPE]},
    ),
    "norm": Template("pre-norm blocks whose sublayers learn how loud they are (LayerScale)", "Norm", {"norm": TYPE}),
    "norm_layer": Template(
        "RMSNorm over a part of the channels (pRMSNorm)", "NormLayer", {"norm": {"type": "pre_ln", "layer": TYPE}}
    ),
    "optimizer": Template(
        "Adam that warms itself up (RAdam)", "Optimizer", run={"optimizer": {"type": TYPE, "lr": 0.003}}
    ),
    "positional": Template(
        "scores that fall with the distance, linearly or by its log", "Positional", {"positional": TYPE}
    ),
    "schedule": Template(
        "a learning rate that falls along a straight line",
        "Schedule",
        run={"schedule": {"type": TYPE, "warmup_steps": 20}},
    ),
    "tokenizer": Template("ids for common words, bytes for the rest", "Tokenizer", run={"tokenizer": TYPE}),
    "tracker": Template("a page in Markdown with a line for each evaluation", "Tracker", run={"trackers": [TYPE]}),
}
