"""Hints for a component name that is not registered: the line to write instead, or the package that has it.

The words of other projects are no second names: a spec with them is refused, and the error shows what to write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import PurePath

from gptzoo.strict_model import did_you_mean

_GLU = '"ffn": "glu", "activation": {}'
_RMSNORM = '"norm": {"type": "pre_ln", "layer": "rmsnorm"}'
_FLASH = '"attention": "sdpa", which uses a flash kernel where torch has one'

# For each kind, the words of other projects with what to write instead.
_WORDS: dict[str, dict[str, str]] = {
    "attention": {
        **dict.fromkeys(("flash", "flash_attn", "flash_attention", "flash_attention_2", "fa2", "fused"), _FLASH),
        **dict.fromkeys(("mha", "multi_head", "vanilla", "softmax", "causal", "full"), '"attention": "sdpa"'),
        **dict.fromkeys(("gqa", "grouped_query"), '"attention": {"type": "sdpa", "n_kv_heads": 2}'),
        **dict.fromkeys(("mqa", "multi_query"), '"attention": {"type": "sdpa", "n_kv_heads": 1}'),
        **dict.fromkeys(("swa", "local", "sliding_window", "window"), '"attention": {"type": "sdpa", "window": 256}'),
        **dict.fromkeys(("eager", "manual"), '"attention": "naive"'),
    },
    "positional": {
        **dict.fromkeys(("rotary", "rotary_embedding", "rotary_embeddings", "roformer"), '"positional": "rope"'),
        **dict.fromkeys(("absolute", "wpe", "learnt", "embedding"), '"positional": "learned"'),
        **dict.fromkeys(("sin", "sine", "sincos", "fourier"), '"positional": "sinusoidal"'),
        **dict.fromkeys(("nope", "no", "null"), '"positional": "none"'),
    },
    "norm": {
        **dict.fromkeys(("rmsnorm", "rms_norm", "rms"), _RMSNORM),
        **dict.fromkeys(
            ("layernorm", "layer_norm", "ln"), '"norm": {"type": "pre_ln", "layer": "layernorm"}, which is the default'
        ),
        **dict.fromkeys(("pre", "prenorm", "pre_norm", "preln"), '"norm": "pre_ln"'),
        **dict.fromkeys(("post", "postnorm", "post_norm", "postln"), '"norm": "post_ln"'),
    },
    "norm_layer": {
        **dict.fromkeys(("rms", "rms_norm"), '"rmsnorm"'),
        **dict.fromkeys(("ln", "layer_norm"), '"layernorm"'),
    },
    "ffn": {
        **dict.fromkeys(("swiglu", "swi_glu"), _GLU.format('"silu"')),
        **dict.fromkeys(("geglu", "ge_glu"), _GLU.format('"gelu"')),
        **dict.fromkeys(("reglu", "re_glu"), _GLU.format('"relu"')),
        **dict.fromkeys(("gated", "gated_mlp"), _GLU.format('"silu"')),
        **dict.fromkeys(("feedforward", "feed_forward", "ff", "dense"), '"ffn": "mlp"'),
    },
    "activation": {
        **dict.fromkeys(("swish", "silu_and_mul"), '"activation": "silu"'),
        **dict.fromkeys(
            ("gelu_new", "gelu_tanh", "gelu_pytorch_tanh", "new_gelu"),
            '"activation": {"type": "gelu", "approximate": "tanh"}',
        ),
        **dict.fromkeys(("swiglu", "geglu", "reglu"), _GLU.format('"silu"') + " (a gated network is an ffn)"),
    },
    "optimizer": {"adam": '"optimizer": {"type": "adamw", "weight_decay": 0}'},
    "schedule": {
        **dict.fromkeys(
            ("cosine_with_warmup", "warmup_cosine", "cosine_decay", "cosine_annealing"),
            '"schedule": {"type": "cosine", "warmup_steps": 100}',
        ),
        **dict.fromkeys(("linear_with_warmup", "warmup_linear"), '"schedule": {"type": "linear", "warmup_steps": 100}'),
        **dict.fromkeys(("none", "fixed"), '"schedule": "constant"'),
        **dict.fromkeys(("trapezoidal", "warmup_stable_decay"), '"schedule": "wsd"'),
    },
    "tokenizer": {
        **{
            name: f'"tokenizer": {{"type": "tiktoken", "name": "{name}"}}'
            for name in ("gpt2", "r50k_base", "p50k_base", "cl100k_base", "o200k_base")
        },
        **dict.fromkeys(("character", "characters", "chars"), '"tokenizer": "char"'),
        **dict.fromkeys(("bytes", "utf8"), '"tokenizer": "byte"'),
    },
    "corpus": {
        **dict.fromkeys(("file", "plain"), '"corpus": {"type": "text", "path": "my.txt"}'),
        **dict.fromkeys(("shakespeare", "shakespeare_char"), '"corpus": "tinyshakespeare"'),
        **dict.fromkeys(("tiny_stories",), '"corpus": "tinystories"'),
        **dict.fromkeys(("owt",), '"corpus": "openwebtext"'),
        **dict.fromkeys(("fineweb",), '"corpus": "fineweb_edu"'),
        **dict.fromkeys(("json",), '"corpus": {"type": "jsonl", "path": "my.jsonl"}'),
        **dict.fromkeys(
            ("datasets", "huggingface", "hub"), '"corpus": {"type": "hf", "path": "ORG/NAME"} for a data set of the hub'
        ),
    },
    "tracker": {
        **dict.fromkeys(("wb", "weights_and_biases"), '"trackers": ["wandb"]'),
        **dict.fromkeys(("tb",), '"trackers": ["tensorboard"]'),
    },
}

PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "gptzoo-activations": {"activation": ("quick_gelu", "squared_relu")},
    "gptzoo-alibi": {"positional": ("alibi",)},
    "gptzoo-attention": {"attention": ("block_sparse", "differential", "flex")},
    "gptzoo-memory": {"attention": ("infini", "mla")},
    "gptzoo-moe": {"ffn": ("moe",)},
    "gptzoo-norms": {"norm": ("deepnorm", "parallel", "peri", "reordered", "sandwich"), "norm_layer": ("dyt",)},
    "gptzoo-positions": {"positional": ("fire", "kerple", "scaled_rope", "t5", "xpos")},
    "gptzoo-ray": {"executor": ("ray",)},
    "gptzoo-recurrent": {"attention": ("gated_delta", "linear", "retention")},
    "gptzoo-seq2seq": {"architecture": ("encoder_decoder",), "batching": ("pairs",)},
    "gptzoo-slurm": {"executor": ("slurm",)},
    "gptzoo-tasks": {
        "corpus": (
            "compression", "fuzzy_recall", "in_context_recall", "induction_heads", "memorization", "modular_addition",
            "mqar", "noisy_recall", "passkey", "selective_copying", "state_tracking",
        )
    },
}  # fmt: skip
"""The components of the packages in the folder `plugins` of gptzoo's repository, by package and kind."""

_PREFIXES = dict.fromkeys(("pytorch_optimizer.", "schedulefree.", "heavyball."), "gptzoo-optimizers")
"""Packages whose components have a prefix in their names."""

_SPEC_SUFFIXES = {".json", ".jsonc", ".yaml", ".yml", ".toml"}
_FILE_SUFFIXES = {".txt", ".md", ".jsonl", ".parquet", ".csv", ".py", ".gz", ".zst"} | _SPEC_SUFFIXES
_CORPUS_OF_SUFFIX = {".jsonl": "jsonl", ".parquet": "parquet"}


def unknown_component(kind: str, name: str, known: Collection[str], disabled: Collection[str] = ()) -> str:
    """Return the reason why a component cannot be used whose name is not registered, with what to write instead.

    known: the registered names of the kind.
    disabled: the distributions that are installed and not loaded.
    """
    word = re.sub(r"[\s-]+", "_", name.strip().lower())
    instead = _WORDS.get(kind, {}).get(word)
    package = _package_of(kind, word)
    listed = f"  (known: {', '.join(known) or 'none'})"
    if is_path(name):
        hint = f"; {_instead_of_path(kind, name)}"
    elif instead is not None:
        hint = f"; write {instead}"
    elif package is not None:
        place = "GPTZOO_PLUGINS disables it" if package in disabled else f"pip install ./plugins/{package} in a clone"
        hint = f"; {word!r} is in the package {package}: {place}"
    elif word in known:
        hint = f"; did you mean {word!r}?"
    else:
        hint = did_you_mean(name, known)
        listed += "" if hint else "; a component of your own needs its file: --plugin FILE"
    return f"no {kind} named {name!r}{hint}{listed}"


def _package_of(kind: str, name: str) -> str | None:
    """Return the package of gptzoo's repository that has a component, or None."""
    if kind == "optimizer" and (package := next((_PREFIXES[p] for p in _PREFIXES if name.startswith(p)), None)):
        return package
    packages: Mapping[str, Mapping[str, tuple[str, ...]]] = PACKAGES
    return next((package for package, kinds in packages.items() if name in kinds.get(kind, ())), None)


def is_path(name: str) -> bool:
    """Return True if a text looks like the path of a file or folder."""
    return "/" in name or "\\" in name or name.startswith("~") or PurePath(name).suffix.lower() in _FILE_SUFFIXES


def corpus_of_path(path: str) -> dict[str, str]:
    """Return the corpus that reads a file, by its suffix."""
    return {"type": _CORPUS_OF_SUFFIX.get(PurePath(path).suffix.lower(), "text"), "path": path}


def _instead_of_path(kind: str, name: str) -> str:
    """Return what to write for a path in place of a component."""
    suffix = PurePath(name).suffix.lower()
    if suffix == ".py":
        return f"it is a file of Python: load it with --plugin {name}, and write the name of its component here"
    if kind == "corpus":
        return f'for the text in a file, write "corpus": {json.dumps(corpus_of_path(name), ensure_ascii=False)}'
    if kind == "tokenizer":
        options = {"type": "saved", "path": name}
        return f'for a saved tokenizer, write "tokenizer": {json.dumps(options, ensure_ascii=False)}'
    return f"it is a path, and the name of a component belongs here. A file that defines a {kind} needs --plugin FILE"
