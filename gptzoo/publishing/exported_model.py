"""A model in the form of a checkpoint of `transformers`: of a family, or with its own code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

from torch import Tensor

from gptzoo.eject.eject import eject_source
from gptzoo.eject.names import ejected_tensors
from gptzoo.interop.export import native_export
from gptzoo.interop.exporting.summary import summarise_export
from gptzoo.model.architecture import Architecture
from gptzoo.model.decoder import Decoder

REMOTE_CODE = "remote code"

_WRAPPER = "modeling_gptzoo"
_CLASS = "GptzooForCausalLM"


@dataclass(frozen=True)
class ExportedModel:
    """The content of a checkpoint, apart from the tokenizer."""

    family: str  # REMOTE_CODE for a model with its own code
    architecture: str  # the class of the model in transformers
    settings: dict[str, Any]  # of config.json, without data types and the model's token ids
    tensors: Iterable[tuple[str, Tensor]]
    code: Mapping[str, str]  # Python files by name; empty if transformers has the code
    notes: tuple[str, ...]  # for the user, such as options that are lost


def native_model(model: Architecture, family: str | None) -> ExportedModel:
    """Return a model as a checkpoint of a family. See `native_export`."""
    native = native_export(model.spec, family)
    tensors = native.tensors(model.state_dict())
    architecture = native.importer.architecture
    return ExportedModel(native.family, architecture, native.settings, tensors.items(), {}, native.notes)


def remote_code_model(model: Architecture) -> ExportedModel:
    """Return a model with its own code: the ejected file, and a wrapper for `transformers`.

    The tensors have the names that the function `load` of the ejected file expects. `transformers` adds the prefix of
    the wrapper. Raises EjectError if a part of the model cannot be ejected.
    """
    spec = model.spec
    wrapper = resources.files("gptzoo.publishing").joinpath("assets", f"{_WRAPPER}.py.txt")
    code = {"model.py": eject_source(spec, padding=True), f"{_WRAPPER}.py": wrapper.read_text(encoding="utf-8")}
    settings = {
        "architectures": [_CLASS],
        "model_type": "gptzoo",
        "auto_map": {
            "AutoConfig": f"{_WRAPPER}.GptzooConfig",
            "AutoModelForCausalLM": f"{_WRAPPER}.{_CLASS}",
        },
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.context_length,
        "hidden_size": spec.d_model,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads,
        "tie_word_embeddings": False,  # the code ties them by itself
    }
    notes = []
    if (family := summarise_export(spec).family) is not None:
        notes.append(f"{family} of transformers computes this model, too, without remote code")
    tensors = ejected_tensors(model.state_dict(), cast(Decoder, model))
    return ExportedModel(REMOTE_CODE, _CLASS, settings, tensors.items(), code, tuple(notes))
