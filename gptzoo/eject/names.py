"""Names in an ejected file: of norm layers and of tensors in the state dict."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gptzoo.model.decoder import Decoder


def norm_name(group: str, key: str) -> str:
    """Return the attribute of a block for an entry of a norm's module dict, such as `layers["attention"]`."""
    return f"{key}_norm" if group == "layers" else f"norm_{group}_{key}"


def ejected_name(name: str, model: Decoder) -> str:
    """Return the name that a tensor of the model's state dict has in the ejected file."""
    match name.split("."):
        case ["blocks", layer, "norm", group, key, *rest]:
            return ".".join(["blocks", layer, norm_name(group, key), *rest])
        case ["positionals", "0", *rest] if len(model.positionals) == 1:
            return ".".join(["positional", *rest])
        case ["entry", *rest]:
            return ".".join(["embed_norm", *rest])
        case ["exit", *rest]:
            return ".".join(["final_norm", *rest])
        case ["head", "bias"] if model.head.weight is None:
            return "head_bias"
    return name


def ejected_tensors(state_dict: Mapping[str, Tensor], model: Decoder) -> dict[str, Tensor]:
    """Return a state dict under the names that the ejected file uses."""
    return {ejected_name(name, model): tensor for name, tensor in state_dict.items()}
