"""The words of other projects for the fields of a run spec, such as `learning_rate`, with the place of each field.

They are no second names: a spec with them is refused, and the error shows the line to write.
"""

from __future__ import annotations

_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "model.n_layers": ("n_layer", "num_layers", "num_hidden_layers", "layers", "depth", "n_blocks", "n_block"),
    "model.n_heads": ("n_head", "num_heads", "num_attention_heads", "heads"),
    "model.d_model": (
        "n_embd", "n_embed", "hidden_size", "hidden_dim", "embed_dim", "embedding_dim", "dim", "width", "model_dim",
    ),
    "model.d_head": ("head_dim", "head_size", "d_k"),
    "model.context_length": (
        "block_size", "seq_len", "seq_length", "sequence_length", "max_seq_len", "max_seq_length", "n_positions",
        "n_ctx", "context_size", "max_position_embeddings", "context",
    ),
    "model.vocab_size": ("vocab", "n_vocab", "padded_vocab_size"),
    "model.tie_embeddings": ("tie_word_embeddings", "tie_weights", "weight_tying", "tied_embeddings"),
    "model.activation": ("hidden_act", "act_fn", "activation_function", "nonlinearity"),
    "model.attention": ("attn", "attention_type", "attn_implementation", "flash_attention"),
    "model.positional": ("position", "positions", "pos_emb", "pos_encoding", "position_embedding", "pos_embed"),
    "model.ffn": ("mlp", "feed_forward", "feedforward"),
    "model.dropout": ("drop", "dropout_p", "resid_pdrop", "hidden_dropout_prob", "dropout_prob"),
    "model.attention.n_kv_heads": ("n_kv_head", "num_key_value_heads", "num_kv_heads", "n_query_groups", "kv_heads"),
    "model.attention.window": ("sliding_window", "window_size", "attention_window"),
    "model.attention.dropout": ("attn_pdrop", "attention_dropout", "attn_dropout"),
    "model.attention.qk_norm": ("qk_layernorm", "use_qk_norm", "norm_qk"),
    "model.ffn.d_ff": ("intermediate_size", "n_inner", "ffn_dim", "ff_dim", "mlp_hidden_dim"),
    "model.ffn.multiplier": ("mlp_ratio", "ffn_multiplier", "ffn_dim_multiplier", "expansion_factor"),
    "model.norm.layer": ("norm_type", "normalization", "norm_class"),
    "model.norm.layer.eps": ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"),
    "model.positional.theta": ("rope_theta", "rope_base", "rotary_base"),
    "model.positional.fraction": ("rotary_pct", "partial_rotary_factor", "rotary_percentage"),
    "model.architecture.init_std": ("initializer_range", "init_range"),
    "optimizer.lr": ("learning_rate", "max_lr", "peak_lr", "base_lr"),
    "optimizer.weight_decay": ("wd", "decay"),
    "optimizer.betas": ("beta1", "beta2", "adam_beta1", "adam_beta2"),
    "optimizer.eps": ("adam_eps", "adam_epsilon"),
    "schedule": ("lr_schedule", "lr_scheduler", "lr_scheduler_type", "scheduler"),
    "schedule.warmup_steps": ("warmup", "warmup_iters", "num_warmup_steps", "lr_warmup_steps", "n_warmup"),
    "schedule.warmup_fraction": ("warmup_ratio",),
    "schedule.min_ratio": ("min_lr", "lr_min", "final_lr", "min_lr_ratio"),
    "steps": (
        "max_iters", "max_steps", "num_steps", "n_steps", "train_steps", "num_train_steps", "iterations", "iters",
        "num_iterations", "total_steps",
    ),
    "epochs": ("num_epochs", "n_epochs", "max_epochs", "num_train_epochs"),
    "tokens": ("max_tokens", "n_tokens", "num_tokens", "train_tokens"),
    "batch_size": ("global_batch_size", "train_batch_size", "bs", "batch"),
    "micro_batch_size": (
        "gradient_accumulation_steps", "grad_accum_steps", "accumulate_grad_batches", "device_batch_size",
        "per_device_train_batch_size",
    ),
    "clip_norm": ("grad_clip", "max_grad_norm", "gradient_clip_val", "clip_grad", "grad_norm_clip", "clip_grad_norm"),
    "precision": ("dtype", "amp", "fp16", "bf16", "mixed_precision", "torch_dtype"),
    "activation_checkpointing": ("gradient_checkpointing", "grad_checkpointing", "recompute"),
    "corpus": ("dataset", "data", "text", "train_file", "data_path", "data_dir", "train_data"),
    "seed": ("random_seed", "manual_seed"),
    "eval.every": ("eval_interval", "eval_steps", "eval_every", "val_interval", "val_check_interval", "eval_freq"),
    "checkpoint.every": ("save_steps", "save_interval", "save_every", "checkpoint_interval", "ckpt_interval"),
    "checkpoint.keep": ("save_total_limit", "keep_last"),
    "early_stopping.patience": ("patience",),
    "ema_decay": ("ema",),
    "init_from": ("pretrained", "pretrained_model", "load_from", "checkpoint_path", "model_path"),
    "trackers": ("wandb", "wandb_log", "report_to", "logger", "loggers", "tracker", "tensorboard"),
}  # fmt: skip

FIELD_WORDS: dict[str, str] = {word: path for path, words in _OTHER_NAMES.items() for word in words}
"""The path of a field in a run spec, by the name that other projects give it."""

FIELDS: dict[str, str] = {path.rpartition(".")[2]: path for path in reversed(_OTHER_NAMES)}
"""The path of a field in a run spec, by the field's own name. Of several fields of one name, that of the first path."""

RUN_FIELDS: dict[str, str] = {path.rpartition(".")[2]: path for path in _OTHER_NAMES if not path.startswith("model.")}
"""The path of a field of a run outside of its model, by the field's own name."""

_ROWS = "the number of sequences per forward pass; batch_size counts those of a whole step"
_PRECISION = '"fp32", "bf16" or "fp16"'

OTHER_MEANINGS: dict[str, str] = {
    **dict.fromkeys(("min_lr", "lr_min", "final_lr"), "a fraction of the peak learning rate"),
    **dict.fromkeys(("gradient_accumulation_steps", "grad_accum_steps", "accumulate_grad_batches"), _ROWS),
    **dict.fromkeys(("per_device_train_batch_size", "device_batch_size"), _ROWS),
    **dict.fromkeys(("beta1", "beta2", "adam_beta1", "adam_beta2"), "a list of both betas"),
    **dict.fromkeys(("dtype", "torch_dtype", "amp", "fp16", "bf16", "mixed_precision"), _PRECISION),
    **dict.fromkeys(("wandb", "wandb_log", "tensorboard", "report_to"), 'a list such as ["wandb"]'),
    **dict.fromkeys(("logger", "loggers", "tracker"), 'a list such as ["wandb"]'),
    **dict.fromkeys(
        ("flash_attention", "attn_implementation"), '"sdpa", which uses a flash kernel where torch has one'
    ),
    **dict.fromkeys(("qk_layernorm", "use_qk_norm", "norm_qk"), 'a norm layer such as "rmsnorm"'),
}
"""What the field holds, for words whose values do not mean the same."""
