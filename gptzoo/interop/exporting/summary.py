"""A short answer to the question if a model can be exported, for `gptzoo build` and reports."""

from __future__ import annotations

from dataclasses import dataclass

from gptzoo.interop.export import NoFamilyError, native_export
from gptzoo.spec.model import ModelSpec


@dataclass(frozen=True)
class ExportSummary:
    """The family of `transformers` that a model is exported to, or the closest family and what it lacks."""

    family: str | None
    closest: str | None = None  # None if there is a family
    obstacles: tuple[str, ...] = ()  # what the closest family lacks, such as `attention.window 8`

    def __str__(self) -> str:
        if self.family is not None:
            return f"exports as {self.family}"
        more = f" and {len(self.obstacles) - 1} more" if len(self.obstacles) > 1 else ""
        return f"no native export: {self.obstacles[0]}{more} (closest: {self.closest})"


def summarise_export(spec: ModelSpec) -> ExportSummary:
    """Return the family that a spec is exported to. The spec may lack a vocabulary size."""
    if spec.vocab_size is None:
        spec = spec.model_copy(update={"vocab_size": 1})
    try:
        return ExportSummary(native_export(spec).family)
    except NoFamilyError as error:
        closest = error.refusals[0]
        return ExportSummary(None, closest.family, closest.obstacles)


def exports_as(spec: ModelSpec) -> str:
    """Return the name of the family that a spec is exported to, or `not: ` and what the closest family lacks."""
    summary = summarise_export(spec)
    return summary.family or f"not: {', '.join(summary.obstacles)} (closest: {summary.closest})"
