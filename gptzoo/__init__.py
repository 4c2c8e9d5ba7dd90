"""gptzoo: a model zoo for GPTs. One JSON spec describes a model, and every component is a plugin.

    model = gptzoo.build("@tiny")                          # a torch module
    logits, _ = model(tokens)
    _, loss = model(tokens[:, :-1], tokens[:, 1:])       # targets: the next tokens, which the model does not shift

The names below are the public API. They are imported on first use, so that `import gptzoo` and `gptzoo --help` do not
wait for torch.
"""

from __future__ import annotations

import importlib

_HOME = {
    # specs and building
    "ModelSpec": "gptzoo.spec.model",
    "RunSpec": "gptzoo.spec.run",
    "load_model_spec": "gptzoo.spec.files",
    "load_run_spec": "gptzoo.spec.files",
    "build": "gptzoo.model.build",
    "initialise": "gptzoo.model.initialise",
    "draw": "gptzoo.inspection.drawing.drawing",
    "to_html": "gptzoo.notebook.to_html",
    # training, evaluation, loading, sampling
    "train": "gptzoo.training.trainer",
    "evaluate": "gptzoo.training.evaluation.evaluate",
    "profile": "gptzoo.profiling.profile",
    "load": "gptzoo.sampling.text_model",
    "export_hf": "gptzoo.publishing.export_hf",
    "generate": "gptzoo.sampling.generate",
    "stream": "gptzoo.sampling.generate",
    "prepare_for_inference": "gptzoo.sampling.inference_weights",
    "SamplingSpec": "gptzoo.sampling.spec",
    # ablations
    "AblationSpec": "gptzoo.spec.ablation",
    "load_ablation_spec": "gptzoo.spec.files",
    "variants": "gptzoo.ablation.design.variants",
    "ablate": "gptzoo.ablation.ablate",
    "compare": "gptzoo.ablation.comparison.compare",
    "ladder": "gptzoo.ablation.scaling.ladder",
    "read_outcome": "gptzoo.ablation.planning.folder",
    # base classes and types for components
    "hookimpl": "gptzoo.hooks",
    "Component": "gptzoo.component",
    "Config": "gptzoo.component",
    "Inherited": "gptzoo.component",
    "inherited": "gptzoo.component",
    "Recommended": "gptzoo.component",
    "option_error": "gptzoo.strict_model",
    "PathOption": "gptzoo.spec.paths",
    "Reference": "gptzoo.reference",
    "PerLayer": "gptzoo.reference",
    "by_default": "gptzoo.reference",
    "Dims": "gptzoo.dims",
    "Part": "gptzoo.components.part",
    "FusedBlocks": "gptzoo.components.part",
    "Fans": "gptzoo.components.part",
    "TensorPlan": "gptzoo.components.part",
    "Rng": "gptzoo.components.part",
    "Sublayer": "gptzoo.components.sublayer",
    "State": "gptzoo.components.sublayer",
    "ColumnParallel": "gptzoo.components.tensor_plan",
    "RowParallel": "gptzoo.components.tensor_plan",
    "Sharded": "gptzoo.components.tensor_plan",
    "Replicated": "gptzoo.components.tensor_plan",
    "Attention": "gptzoo.components.multi_head_attention",
    "MultiHeadAttention": "gptzoo.components.multi_head_attention",
    "SdpaAttention": "gptzoo.components.attention",
    "fused_attention": "gptzoo.components.attention",
    "FeedForward": "gptzoo.components.ffn",
    "Activation": "gptzoo.components.activation",
    "Architecture": "gptzoo.model.architecture",
    "PrefillOutput": "gptzoo.model.architecture",
    "Stack": "gptzoo.model.stack",
    "Decoder": "gptzoo.model.decoder",
    "Positional": "gptzoo.components.positional",
    "RotaryPositional": "gptzoo.components.positional",
    "RopeScaling": "gptzoo.components.rope_scaling",
    "Norm": "gptzoo.components.norm",
    "NormLayer": "gptzoo.components.norm",
    "ForwardContext": "gptzoo.components.context",
    "SublayerOutput": "gptzoo.components.sublayer",
    "AuxiliaryOutputs": "gptzoo.components.sublayer",
    "new_cache": "gptzoo.components.cache",
    "extend": "gptzoo.components.cache",
    "Tokenizer": "gptzoo.data.tokenizers.tokenizer",
    "Corpus": "gptzoo.data.corpora.corpus",
    "SampleCorpus": "gptzoo.data.corpora.samples",
    "Sample": "gptzoo.data.corpora.samples",
    "Draws": "gptzoo.data.corpora.draws",
    "IGNORED_TARGET": "gptzoo.utils.targets",
    "TokenStore": "gptzoo.data.token_store",
    "Batching": "gptzoo.data.batching.batching",
    "Optimizer": "gptzoo.training.optim.optimizers",
    "NamedParameters": "gptzoo.training.named_parameters",
    "matrix_rows": "gptzoo.training.named_parameters",
    "GroupedOptimizer": "gptzoo.training.optim.optimizers",
    "MatrixOptimizer": "gptzoo.training.optim.matrix_optimizer",
    "Schedule": "gptzoo.training.optim.learning_rate_schedules",
    "Tracker": "gptzoo.training.tracking.tracker",
    "RunView": "gptzoo.training.run.run_view",
    "LogitsProcessor": "gptzoo.sampling.processors.processor",
    "Executor": "gptzoo.ablation.execution.executor",
    "Job": "gptzoo.ablation.execution.executor",
    "RemoteJob": "gptzoo.ablation.execution.remote_job",
    "run_remote_job": "gptzoo.ablation.execution.remote_job",
    "TokenSequence": "gptzoo.sampling.sequence",
    "Importer": "gptzoo.interop.importer",
    "Weight": "gptzoo.interop.importer",
    "source_rows": "gptzoo.interop.importer",
    "Settings": "gptzoo.interop.settings",
    "GgufArchitecture": "gptzoo.interop.gguf.architecture",
    "InterleavedLlama": "gptzoo.interop.gguf.architecture",
    "GgufMetadata": "gptzoo.interop.gguf.metadata",
    "read_rope": "gptzoo.interop.rope",
    "rope_parameters": "gptzoo.interop.exporting.common_settings",
    "read_ropes": "gptzoo.interop.rope",
    # the registry
    "registered": "gptzoo.registry",
    "load_plugin": "gptzoo.registry",
    # exceptions
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


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'gptzoo' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
