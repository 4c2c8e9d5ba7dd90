"""The check that a difference between variants has a meaning: all are measured, and on the same held-out text."""

from __future__ import annotations

from collections.abc import Sequence

from gptzoo.ablation.design.costs import CostCache
from gptzoo.ablation.planning.plan_types import PlannedVariant
from gptzoo.ablation.records.same_text import is_per_token, is_validation_metric
from gptzoo.component import Config
from gptzoo.data.token_store import TokenStore
from gptzoo.errors import DataError, Problem, SpecError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec
from gptzoo.strict_model import did_you_mean

_METRICS_OF_EVALUATIONS = ("loss", "perplexity", "bits_per_byte")  # on each set of held-out text, after "val/"
_METRICS_OF_STEPS = (
    *("train/loss", "lr", "grad_norm", "tokens", "tokens_per_second"),  # of every run
    *("mfu", "memory_gib", "loss_scale", "skipped"),  # of some runs, by device and precision
)
_PREFIXES_OF_PARTS = ("train/", "model/", "update_ratio/", "attention_entropy/")  # the names depend on the components


def check_comparable(spec: AblationSpec, variants: Sequence[PlannedVariant], baseline: str, costs: CostCache) -> None:
    """Raise SpecError if the metric of some variant is not measured, or cannot be compared with that of its baseline.

    The held-out text is compared by the digest of its documents, so variants with different corpora are tokenized.
    """
    metric = spec.metric
    _check_measured(spec, variants)
    if not is_per_token(metric) and not is_validation_metric(metric):
        return
    runs = {variant.name: variant.spec for variant in variants}
    for variant in variants:
        reference = variant.reference or baseline
        if variant.name == reference:
            continue
        if (problem := _problem(metric, variant.spec, runs[reference], costs)) is not None:
            place, reason = problem
            reason = reason.format(name=variant.name, baseline=reference, metric=metric)
            raise SpecError([Problem(spec.name, place, reason)])


def _check_measured(spec: AblationSpec, variants: Sequence[PlannedVariant]) -> None:
    """Raise SpecError for a metric that the trials of some variant would end without, such as a misspelt one."""
    metric = spec.metric
    if metric in _METRICS_OF_STEPS or metric.startswith(_PREFIXES_OF_PARTS):
        return
    for variant in variants:
        run = variant.spec
        level, _, name = metric.removeprefix("val/").rpartition("/")
        levels = list(run.corpus.build().evaluation_sets())
        names = [*_METRICS_OF_EVALUATIONS, *run.declared_metrics]
        if not is_validation_metric(metric):
            known = [f"val/{name}" for name in names] + list(_METRICS_OF_STEPS)
            lacks = f"no run records it{did_you_mean(metric, known)}  (metrics of this run: {', '.join(known)})"
        elif level and level not in levels:
            lacks = f"its corpus {run.corpus.type!r} has no level {level!r}. Its levels: {', '.join(levels) or 'none'}"
        elif name in names or (metric == "val/ema_loss" and run.ema_decay is not None):
            continue
        elif metric == "val/ema_loss":
            lacks = "it has no average of the weights. Set ema_decay"
        else:
            lacks = (
                f"its corpus {run.corpus.type!r} has no metric {name!r}{did_you_mean(name, names)}. "
                f"Its metrics besides the loss: {', '.join(run.declared_metrics) or 'none'}"
            )
        raise SpecError([Problem(spec.name, "$.metric", f"{metric!r} is not measured in {variant.name}: {lacks}")])


def _problem(metric: str, run: RunSpec, reference: RunSpec, costs: CostCache) -> tuple[str, str] | None:
    """Return the path of the field to change and the reason, or None."""
    if is_per_token(metric) and _json(run.tokenizer) != _json(reference.tokenizer):
        return (
            "$.metric",
            "'{metric}' is a loss per token, which cannot be compared across different tokenizers; "
            "use val/bits_per_byte",
        )
    same_corpus = _json(run.corpus) == _json(reference.corpus)
    if not same_corpus:
        (_, store), (_, reference_store) = costs.data(run), costs.data(reference)
        assert store.texts is not None
        assert reference_store.texts is not None
        if not is_validation_metric(metric):
            if store.texts["train"] != reference_store.texts["train"]:
                return (
                    "$.metric",
                    "'{metric}' is measured on the training text, which differs between {name} and {baseline}; "
                    "use val/loss or val/bits_per_byte",
                )
            return None
        if store.texts["val"] != reference_store.texts["val"]:
            return (
                "$.axes",
                "the held-out text of {name} is another one than that of {baseline}, so a difference of {metric} says "
                'nothing about the variants. Name one corpus as the held-out text of all ("held_out" in the spec, '
                "--held-out of gptzoo compare): they are then measured on its validation split. Or give all corpora "
                "the same val_path",
            )
        if is_per_token(metric) and _held_out_ids(store) != _held_out_ids(reference_store):
            return (
                "$.metric",
                "'{metric}' is a loss per token, and the tokenizers of {name} and {baseline} differ, because each is "
                "trained on its own training text; use val/bits_per_byte",
            )
    if run.batching.type != reference.batching.type and is_validation_metric(metric):
        predicted, reference_predicted = _predicted_bytes(run, costs), _predicted_bytes(reference, costs)
        if None not in (predicted, reference_predicted) and predicted != reference_predicted:
            return (
                "$.axes",
                "{name} and {baseline} predict different parts of the held-out text, because their batchings differ. "
                "{metric} cannot be compared. Use batchings that predict the same text",
            )
    return None


def _held_out_ids(store: TokenStore) -> str | None:
    return None if store.ids is None else store.ids["val"]


def _predicted_bytes(run: RunSpec, costs: CostCache) -> int | None:
    """Return the bytes of held-out text that a run's batching predicts, or None if its text does not suit it."""
    tokenizer, store = costs.data(run)
    try:
        n_bytes: int = run.batching.build(store, tokenizer, run.model.context_length, run.seed).val_bytes
    except DataError:  # the trial fails with this reason
        return None
    return n_bytes


def _json(config: Config) -> str:
    return config.model_dump_json()
