"""The script that runs an ejected file. It imports nothing from gptzoo, and prevents the file from doing so."""

from __future__ import annotations

import importlib.util
import sys

BLOCKED = ("gptzoo", "pydantic", "pluggy")


class Blocker:
    """An import hook under which gptzoo, its plugins and its dependencies do not exist."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ImportError for a module that does not exist."""
        if name.partition(".")[0].startswith(BLOCKED):
            raise ImportError(f"the file must not import {name}")


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
    model = module.load(file.replace("model.py", "model.safetensors"))
    with torch.no_grad():
        logits = model(tokens)
    n_prompt = tokens.shape[1] - given["n_new"]
    greedy = model.generate(tokens[:, :n_prompt], given["n_new"], temperature=0)[:, n_prompt:]
    model.train()
    torch.manual_seed(given["seed"])
    loss = model(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    torch.save({"logits": logits, "greedy": greedy, "loss": loss.detach(), "gradients": gradients}, results)


if __name__ == "__main__":
    main(*sys.argv[1:])
