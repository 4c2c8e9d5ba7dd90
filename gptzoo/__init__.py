"""gptzoo: one JSON spec in, a GPT out; every part of it is a plugin.

    model = gptzoo.build("configs/models/tiny.json")     # a torch module
    logits, _ = model(tokens)
    _, loss = model(tokens, targets)

The names below are the public API; a test pins them. They are imported on first use, so that `import gptzoo` and
`gptzoo --help` do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    # describing and building
    "ModelSpec": "gptzoo.spec.model",
    "RunSpec": "gptzoo.spec.run",
    "load_model_spec": "gptzoo.spec.files",
    "load_run_spec": "gptzoo.spec.files",
    "build": "gptzoo.model.build",
    "initialise": "gptzoo.model.initialise",
    # training, measuring, keeping, sampling
    "train": "gptzoo.training.trainer",
    "evaluate": "gptzoo.training.evaluation",
    "load": "gptzoo.checkpoint.folder",
    "generate": "gptzoo.sampling.generate",
    "stream": "gptzoo.sampling.generate",
    "prepare_for_inference": "gptzoo.sampling.packed",
    "SamplingSpec": "gptzoo.sampling.spec",
    # comparing
    "AblationSpec": "gptzoo.spec.ablation",
    "load_ablation_spec": "gptzoo.spec.files",
    "variants": "gptzoo.ablation.variants",
    "ablate": "gptzoo.ablation.ablate",
    "read_outcome": "gptzoo.ablation.folder",
    # writing components
    "hookimpl": "gptzoo.hooks",
    "Component": "gptzoo.component",
    "Config": "gptzoo.component",
    "inherited": "gptzoo.component",
    "Reference": "gptzoo.reference",
    "PerLayer": "gptzoo.reference",
    "by_default": "gptzoo.reference",
    "Dims": "gptzoo.spec.model",
    "Part": "gptzoo.components.base",
    "Sublayer": "gptzoo.components.base",
    "ColumnParallel": "gptzoo.components.tensor_parallel",
    "RowParallel": "gptzoo.components.tensor_parallel",
    "Sharded": "gptzoo.components.tensor_parallel",
    "Replicated": "gptzoo.components.tensor_parallel",
    "Attention": "gptzoo.components.base",
    "MultiHeadAttention": "gptzoo.components.attention",
    "FeedForward": "gptzoo.components.base",
    "Activation": "gptzoo.components.base",
    "Architecture": "gptzoo.components.base",
    "Primed": "gptzoo.components.base",
    "Stack": "gptzoo.model.stack",
    "Decoder": "gptzoo.model.decoder",
    "Positional": "gptzoo.components.positional",
    "Norm": "gptzoo.components.norm",
    "NormLayer": "gptzoo.components.norm",
    "Step": "gptzoo.components.base",
    "Emit": "gptzoo.components.base",
    "Observations": "gptzoo.components.base",
    "new_cache": "gptzoo.components.cache",
    "extend": "gptzoo.components.cache",
    "Tokenizer": "gptzoo.data.tokenizers",
    "Corpus": "gptzoo.data.corpora",
    "TokenStore": "gptzoo.data.store",
    "Batching": "gptzoo.data.batching",
    "Optimizer": "gptzoo.training.optimizers",
    "Schedule": "gptzoo.training.schedules",
    "Tracker": "gptzoo.training.tracker",
    "RunView": "gptzoo.training.run_view",
    "LogitsProcessor": "gptzoo.sampling.processors",
    "Executor": "gptzoo.ablation.executor",
    "Job": "gptzoo.ablation.executor",
    "Row": "gptzoo.sampling.row",
    "Importer": "gptzoo.interop.importer",
    "Weight": "gptzoo.interop.importer",
    "Settings": "gptzoo.interop.settings",
    # finding components
    "registered": "gptzoo.registry",
    "load_plugin": "gptzoo.registry",
    # what can go wrong
    "GptzooError": "gptzoo.errors",
    "InputError": "gptzoo.errors",
    "SpecError": "gptzoo.errors",
    "PluginError": "gptzoo.errors",
    "DataError": "gptzoo.errors",
    "FolderError": "gptzoo.errors",
    "StopRun": "gptzoo.errors",
    "Diverged": "gptzoo.errors",
    "Interrupted": "gptzoo.errors",
    "VersionWarning": "gptzoo.errors",
}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gptzoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
