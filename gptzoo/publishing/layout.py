"""The files of a model or a run in a repository on the hub.

A repository has one of two layouts. Both have a README.md, the model card.

    model   model.json, model.safetensors, tokenizer.json, and records of the run: run.json, metrics.jsonl, …
    run     run.json, metrics.jsonl, … and checkpoints/step-00001000/{model.json, …}: a run that can be resumed
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CARD = "README.md"
SPEC = "model.json"
WEIGHTS = "model.safetensors"
MODEL_FILES = (SPEC, WEIGHTS, "averages.safetensors", "tokenizer.json")
RUN_SPEC = "run.json"
ENVIRONMENT = "environment.json"
RECORD_FILES = (RUN_SPEC, ENVIRONMENT, "metrics.jsonl", "result.json", "status.json", "warnings.json")
CHECKPOINT_FILES = (*MODEL_FILES, "trained.safetensors", "optimizer.safetensors", "state.json", "manifest.json")

_IN_CHECKPOINT = re.compile(r"(checkpoints/step-\d{8,12})/([a-z.]+)")


def belongs_to_gptzoo(path: str) -> bool:
    """Return True for the path of a file that `push` may write, apart from the model card."""
    match = _IN_CHECKPOINT.fullmatch(path)
    return match[2] in CHECKPOINT_FILES if match else path in (*MODEL_FILES, *RECORD_FILES)


def checkpoints_in(paths: Iterable[str]) -> list[str]:
    """Return the checkpoint folders with a model, oldest first."""
    matches = (_IN_CHECKPOINT.fullmatch(path) for path in paths)
    return sorted({match[1] for match in matches if match and match[2] == SPEC})
