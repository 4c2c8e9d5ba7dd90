"""The script that runs an ejected file. It imports nothing from gptzoo, and prevents the file from doing so."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

BLOCKED = ("gptzoo", "pydantic", "pluggy")


class Blocker:
    """An import hook under which gptzoo, its plugins and its dependencies do not exist."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ImportError for a module that does not exist."""
        if name.partition(".")[0].startswith(BLOCKED):
            raise ImportError(f"the file must not import {name}")


def sample(tensor: Tensor) -> Tensor:
    """Return at most about 20,000 values of a tensor, evenly spread."""
    values = tensor.detach().flatten()
    return values[:: max(1, len(values) // 20_000)].clone()


def main(file: str, inputs: str, results: str) -> None:
    """Run the model of `file` on the inputs and write the results."""
    sys.meta_path.insert(0, Blocker())
    import torch

    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("ejected_model", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ejected_model"] = module
    spec.loader.exec_module(module)
    given = torch.load(inputs)
    tokens = given["tokens"]
    n_prompt = tokens.shape[1] - given["n_new"]
    torch.manual_seed(given["seed"])
    found: dict[str, Any] = {"initial": {name: sample(tensor) for name, tensor in module.GPT().state_dict().items()}}
    model = module.load(file.replace("model.py", "model.safetensors"))
    from_meta = built_on_meta(module.GPT, model.state_dict())
    with torch.no_grad():
        found["logits"] = model(tokens)
        found["logits_from_meta"] = from_meta(tokens)
        if "positions" in given:
            found |= padded(model, tokens, given["positions"], n_prompt)
    found["greedy"] = model.generate(tokens[:, :n_prompt], given["n_new"], temperature=0)[:, n_prompt:]
    model.train()
    torch.manual_seed(given["seed"])
    loss = model(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    found["loss"] = loss.detach()
    found["gradients"] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    torch.save(found, results)


def built_on_meta(model_class: Callable[[], nn.Module], state: dict[str, Tensor]) -> nn.Module:
    """Return a model that was built without values, as libraries build large ones, and then filled."""
    import torch

    with torch.device("meta"):
        model = model_class()
    model.to_empty(device="cpu")
    for part in model.modules():
        reset: Any = getattr(part, "reset_buffers", None)
        if reset is not None:
            reset()
    model.load_state_dict(state)
    return model.eval()


def padded(model: Callable[..., Tensor], tokens: Tensor, positions: Tensor, n_prompt: int) -> dict[str, Tensor]:
    """Return the logits of a padded batch, whole and with a cache: a prompt, and then token by token."""
    import torch

    length = tokens.shape[1]
    states = model.new_states(*tokens.shape)  # type: ignore[attr-defined]
    chunks = [slice(0, n_prompt), *(slice(at, at + 1) for at in range(n_prompt, length))]
    cached = [model(tokens[:, chunk], states=states, positions=positions[:, chunk]) for chunk in chunks]
    return {"padded": model(tokens, positions=positions), "padded_cached": torch.cat(cached, dim=1)}


if __name__ == "__main__":
    main(*sys.argv[1:])
