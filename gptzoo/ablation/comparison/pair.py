"""Two run specs, and the ablation that compares them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.design.axes import slug_of
from gptzoo.ablation.design.costs import CostCache
from gptzoo.errors import FolderError, InputError
from gptzoo.shipped_specs import spec_path
from gptzoo.spec.files import load_run_spec, run_json
from gptzoo.spec.run import RunSpec
from gptzoo.utils.json_diff import Change, differences

RunSource = str | Path | Mapping[str, Any] | RunSpec  # a spec file, the folder of a run, JSON, or a spec

AXIS = "run"
_NOT_COMPARED = ("name", "seed", "spec_version")  # fields of a run; the seeds are those of the comparison


@dataclass(frozen=True)
class Pair:
    """Two different runs, A and B, as JSON that their authors wrote, with names of their own."""

    names: tuple[str, str]
    runs: tuple[dict[str, Any], dict[str, Any]]
    changes: Mapping[str, Any]  # fields of A that B sets to other values
    specs: tuple[RunSpec, RunSpec]

    def ablation(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ablation that compares B with A, its baseline."""
        a, b = self.names
        return {
            "name": f"{b} against {a}",
            "base": {name: value for name, value in self.runs[0].items() if name not in _NOT_COMPARED},
            "axes": {AXIS: {"choices": {a: {}, b: dict(self.changes)}, "recommended": False}},  # both as they are
            "baseline": {AXIS: a},
            "samples": False,
            **settings,
        }


def different_fields(a: RunSpec, b: RunSpec) -> list[Change]:
    """Return the fields in which two runs differ. Names and seeds do not count.

    A run folder has the vocabulary size of its tokenizer, and the spec that it was trained from may have none. If their
    models are the only difference, the missing size is that of the tokenizer.
    """
    changes = list(differences(_compared_fields(a), _compared_fields(b)))
    is_model_only = all(change.name.startswith("$.model.") for change in changes)
    if is_model_only and (a.model.vocab_size is None) != (b.model.vocab_size is None):
        costs = CostCache()
        a, b = (spec.model_copy(update={"model": costs.with_vocabulary(spec)}) for spec in (a, b))
        changes = list(differences(_compared_fields(a), _compared_fields(b)))
    return changes


def read_pair(a: RunSource, b: RunSource | None, overrides: Iterable[str] = ()) -> Pair:
    """Read two run specs. `overrides` change B; without B, it is a changed copy of A. Raises InputError."""
    changed = list(overrides)
    sources = (_source(a), _source(a if b is None else b))
    runs = (run_json(sources[0]), run_json(sources[1], changed))
    specs = (load_run_spec(runs[0]), load_run_spec(runs[1]))
    changes = _changes(runs, specs)
    names = _names((a, a if b is None else b), changed if b is None else [])
    if not changes:
        hint = " Give another spec, or change a copy of A with --set FIELD=VALUE." if b is None else ""
        raise InputError(
            f"{names[0]} and {names[1]} are the same run, so there is nothing to compare. Names and seeds do not "
            f"count: the comparison has seeds of its own.{hint}"
        )
    return Pair(names, runs, changes, specs)


def _source(source: RunSource) -> str | Path | Mapping[str, Any]:
    if isinstance(source, RunSpec):
        return source.resolved()
    if isinstance(source, Mapping) or not Path(source).is_dir():
        return source
    if not (Path(source) / "run.json").is_file():
        raise FolderError(f"{source}: is not the folder of a run: it has no run.json. Give a run spec or a run folder")
    return Path(source) / "run.json"


def _names(sources: Iterable[RunSource], overrides: list[str]) -> tuple[str, str]:
    """Return two names: those of the files or folders, or else of the specs, or "a" and "b"."""
    a, b = (_name(source, default) for source, default in zip(sources, "ab", strict=True))
    if overrides:
        b = " ".join(overrides)
    return (a, b) if slug_of(a) != slug_of(b) else (f"{a}-a", f"{b}-b")


def _name(source: RunSource, default: str) -> str:
    if isinstance(source, RunSpec):
        return source.name
    if isinstance(source, Mapping):
        return str(source.get("name", default))
    path = spec_path(source)
    return path.resolve().name if path.is_dir() else path.stem


def _compared_fields(spec: RunSpec) -> dict[str, Any]:
    """Return a run as JSON without the names and the seed, which a comparison does not depend on."""
    fields = {name: value for name, value in spec.resolved().items() if name not in _NOT_COMPARED}
    fields["model"].pop("name")
    return fields


def _changes(runs: tuple[dict[str, Any], dict[str, Any]], specs: tuple[RunSpec, RunSpec]) -> dict[str, Any]:
    """Return the fields of A that differ in B, with B's values. Options that B leaves out keep inheriting."""
    fields = dict.fromkeys(change.name.split(".")[1] for change in different_fields(*specs))
    resolved = specs[1].resolved()
    return {field: runs[1].get(field, resolved[field]) for field in fields}
