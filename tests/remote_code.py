"""The use of an exported model with remote code by transformers, in a process that cannot import gptzoo.

python remote_code.py FOLDER INPUTS.json RESULTS.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class NoGptzoo:
    """An import hook under which gptzoo and its packages do not exist."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0].startswith(("gptzoo", "pydantic", "pluggy")):
            raise ImportError(f"{name} does not exist in this process")


def use_in_transformers(folder: Path, **inputs: Any) -> dict[str, Any]:
    """Return what a process without gptzoo computes with the model in `folder`. See `main`."""
    inputs_file, results_file = folder.with_name("inputs.json"), folder.with_name("results.json")
    inputs_file.write_text(json.dumps(inputs))
    done = subprocess.run(
        [sys.executable, "-I", __file__, str(folder), str(inputs_file), str(results_file)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_MODULES_CACHE": str(folder.with_name("modules")), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(results_file.read_text())
    return results


def main(folder: str, inputs_file: str, results_file: str) -> None:
    """Write the results for a prompt of token ids and texts of different lengths."""
    sys.meta_path.insert(0, NoGptzoo())  # type: ignore[arg-type]
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    torch.set_num_threads(1)
    inputs = json.loads(Path(inputs_file).read_text())
    texts, tokens = inputs["texts"], {"input_ids": torch.tensor([inputs["prompt"]])}

    def load(folder: str, **options: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options)

    def generate(given: Any, n: int, **options: Any) -> list[list[int]]:
        torch.manual_seed(0)
        chosen = {"do_sample": False, "max_new_tokens": n, "min_new_tokens": n, **options}
        return model.generate(**given, **chosen)[:, given["input_ids"].shape[1] :].tolist()

    model, loading = load(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    output = model(**tokens, labels=tokens["input_ids"])
    output.loss.backward()
    again = folder + "-again"
    model.save_pretrained(again)
    tokenizer.save_pretrained(again)
    beams = {"num_beams": 3, "num_return_sequences": 2}
    with torch.no_grad():
        results = {
            "loading": {name: sorted(map(str, found)) for name, found in loading.items()},
            "dtype": str(model.dtype),
            "logits": output.logits.tolist(),
            "again": load(again)(**tokens).logits.tolist(),
            "loss": output.loss.item(),
            "without_gradient": [name for name, p in model.named_parameters() if p.grad is None],
            "ids": tokenizer(texts)["input_ids"],
            "greedy": generate(tokens, 30),
            "greedy_without_cache": generate(tokens, 30, use_cache=False),
            "batch": generate(batch, 20),
            "alone": [generate(tokenizer(text, return_tensors="pt"), 20)[0] for text in texts],
            "beams": generate(batch, 12, **beams),
            "beams_without_cache": generate(batch, 12, use_cache=False, **beams),
            "samples": generate(batch, 5, do_sample=True, num_return_sequences=3),
            "pipeline": pipeline("text-generation", model=again, trust_remote_code=True)(
                texts[0], max_new_tokens=5, do_sample=False, return_full_text=False
            )[0]["generated_text"],
            "text": tokenizer.decode(generate(tokenizer(texts[0], return_tensors="pt"), 5)[0]),
        }
        half = load(folder, dtype=torch.bfloat16)
        results["bfloat16"] = half(**tokens).logits.float().tolist()
        half.save_pretrained(folder + "-half")
        results["dtype_of_half"] = str(load(folder + "-half").dtype)
        model.train()
        torch.manual_seed(0)
        results["training_loss"] = model(**tokens, labels=tokens["input_ids"]).loss.item()
    Path(results_file).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
