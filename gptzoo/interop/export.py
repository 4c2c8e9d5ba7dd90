"""The family of Hugging Face `transformers` that a spec can be exported to.

The importer of a family is the judge. It proposes settings for a spec and reads them back. The family fits if the
result is the same spec, and otherwise the differences are the reasons that it does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gptzoo import registry
from gptzoo.errors import Problem, SpecError
from gptzoo.interop.exporting.common_settings import common_settings
from gptzoo.interop.exporting.invert_weights import SourceTensors
from gptzoo.interop.exporting.ntk import without_ntk
from gptzoo.interop.importer import Importer
from gptzoo.interop.settings import Settings
from gptzoo.spec.canonical import Difference, canonical, compare
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.model import ModelSpec

PREFERENCE = (
    "llama",
    "gpt2",
    "mistral",
    "qwen2",
    "qwen3",
    "mixtral",
    "gpt_neox",
    "phi3",
    "gemma",
    "gemma2",
    "starcoder2",
)
"""Families that most programs read, the most widely read first. They are tried before all others."""

_MAX_FAMILIES = 3  # in an error message
_MAX_REASONS = 4  # of each family
_N_CORE_FAMILIES = 2  # gpt2 and llama


@dataclass(frozen=True)
class NativeExport:
    """A model in the form of a family: the settings of its config.json, and a translation of its tensors."""

    family: str
    """The `model_type` of the family, which is the name of its importer."""
    settings: dict[str, Any]
    """The content of config.json, with token ids of null and without data types."""
    notes: tuple[str, ...]
    """Options of the spec that are lost because they act in training only, or written in another form, as sentences."""
    importer: Importer
    spec: ModelSpec  # as the importer reads it from `settings`

    def tensors(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the checkpoint's tensors by name, each computed when it is asked for.

        state: the model's state dict, or another mapping to the tensors of the model.
        """
        return _Prefixed(SourceTensors(list(self.importer.weights(self.spec)), state), self.importer)


class _Prefixed(Mapping[str, Tensor]):
    """Source tensors by their names in the checkpoint of a family, with its prefix."""

    def __init__(self, sources: SourceTensors, importer: Importer):
        self._sources = sources
        head = f"{importer.head}."
        self._names = {name if name.startswith(head) else importer.prefix + name: name for name in sources}

    def __getitem__(self, name: str) -> Tensor:
        return self._sources[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Refusal:
    """The reasons for which a family cannot represent a spec."""

    family: str
    reasons: tuple[Problem, ...]
    differences: tuple[Difference, ...] = ()  # the reasons, unless the family's settings give no valid spec to compare

    @property
    def obstacles(self) -> tuple[str, ...]:
        """The fields of the spec that the family cannot represent, with their values, such as `attention.window 8`."""
        if not self.differences:
            return tuple(f"{problem.path}: {problem.reason}" for problem in self.reasons)
        return tuple(
            f"{d.path.removeprefix('$.')} {d.ours if isinstance(d.ours, str) else _text(d.ours)}"
            for d in self.differences
        )


class NoFamilyError(SpecError):
    """No family, or not the requested one, can represent a spec. `refusals` has the reasons, closest family first."""

    def __init__(self, refusals: Sequence[Refusal]):
        self.refusals = tuple(refusals)
        super().__init__([problem for refusal in refusals for problem in refusal.reasons])
        self.args = (_format(refusals),)


def native_export(spec: ModelSpec, family: str | None = None) -> NativeExport:
    """Return the export of a spec to the first family that fits, in the order of `families`, or to `family`.

    Raises NoFamilyError if none fits, and SpecError if no family has this name.
    """
    ours = without_ntk(canonical(spec))
    refusals = []
    for importer in [_importer(family)] if family is not None else families():
        result = _try(importer, ours.spec)
        if isinstance(result, NativeExport):
            bases = ", ".join(f"{theta:g}" for theta in ours.thetas)
            note = f"$.positional.scaling ntk becomes the base {bases} of {result.family}, with the same frequencies"
            return replace(result, notes=(*result.notes, note)) if ours.thetas else result
        refusals.append(result)
    raise NoFamilyError(sorted(refusals, key=lambda r: (not r.differences, len(r.reasons))))


def families() -> list[Importer]:
    """Return the importers of families that can be exported to: those of `PREFERENCE`, then all others by name."""
    known: Mapping[str, Any] = registry.current().of_kind("importer")
    names = [*(name for name in PREFERENCE if name in known), *sorted(known.keys() - set(PREFERENCE))]
    return [known[name].Config().build() for name in names if known[name].architecture]


def _importer(family: str) -> Importer:
    known: Mapping[str, Any] = registry.current().of_kind("importer")
    exportable = sorted(name for name, importer in known.items() if importer.architecture)
    if family not in exportable:
        reason = f"no family {family!r} to export to  (known: {', '.join(exportable)})"
        raise SpecError([Problem("family", "$", reason)])
    importer: Importer = known[family].Config().build()
    return importer


def _try(importer: Importer, ours: ModelSpec) -> NativeExport | Refusal:
    """Return the export of a canonical spec to the family of an importer, or the reasons that it is impossible."""
    try:
        read, settings = _read_back(importer, _propose(importer, ours))
        theirs = canonical(load_model_spec(read))
    except SpecError as error:
        return Refusal(importer.name, tuple(Problem(importer.name, p.path, p.reason) for p in error.problems))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"its importer cannot read the settings of this spec ({type(error).__name__}: {error})"
        return Refusal(importer.name, (Problem(importer.name, "$", reason),))
    found = list(compare(ours, theirs))
    if differences := tuple(difference for difference in found if not difference.training_only):
        reasons = tuple(_reason(importer.name, difference) for difference in differences)
        return Refusal(importer.name, reasons, differences)
    notes = tuple(
        f"{d.path} {_text(d.ours)} acts in training only and becomes {_text(d.theirs)} in {importer.name}"
        for d in found
        if d.training_only
    )
    # Some families have default token ids beyond a small vocabulary, which transformers refuses.
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    names = {"architectures": [importer.architecture], "model_type": importer.name}
    return NativeExport(importer.name, names | tokens | settings, notes, importer, theirs)


def _propose(importer: Importer, spec: ModelSpec) -> dict[str, Any]:
    """Return the settings that an importer proposes, or the common ones if the spec lacks parts that it relies on."""
    try:
        return importer.settings(spec)
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError):
        return common_settings(spec)  # reading them back finds the parts that are missing


def _read_back(importer: Importer, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the spec that an importer reads from settings, and the settings without those that it does not read."""
    settings = json.loads(json.dumps(settings))  # a copy, and the values that JSON gives
    while True:
        reader = Settings(settings)
        read = importer.spec(reader)
        rejected = [path for path in reader.problem_paths if _remove(settings, path)]
        if not rejected:
            break
    settings = {key: value for key, value in settings.items() if key in reader.read_keys}
    reader = Settings(settings)
    importer.spec(reader)
    reader.require_all_read(importer.no_effect)
    return read, settings


def _remove(settings: dict[str, Any], path: str) -> bool:
    """Remove the setting at a path such as `$.rope_parameters.factor`. Return False if there is none."""
    *parents, key = path.removeprefix("$.").split(".")
    for parent in parents:
        settings = settings.get(parent, {})
    return settings.pop(key, settings) is not settings


def _reason(family: str, difference: Difference) -> Problem:
    ours, theirs = _text(difference.ours), _text(difference.theirs)
    return Problem(family, difference.path, f"the spec has {ours}, {family} has {theirs}")


def _text(value: object) -> str:
    return json.dumps(value)


def _format(refusals: Sequence[Refusal]) -> str:
    if len(refusals) == 1:
        lines = [f"{refusals[0].family} of Hugging Face transformers does not compute this model:"]
    else:
        lines = ["no family of Hugging Face transformers computes this model. The closest families:"]
    for refusal in refusals[:_MAX_FAMILIES]:
        lines += [f"  {problem}" for problem in refusal.reasons[:_MAX_REASONS]]
        if n_more := len(refusal.reasons[_MAX_REASONS:]):
            lines.append(f"  {refusal.family}: and {n_more} more difference{'s' if n_more > 1 else ''}")
    if n_more := len(refusals[_MAX_FAMILIES:]):
        lines.append(f"{n_more} more famil{'ies differ' if n_more > 1 else 'y differs'} as much or more.")
    if len(registry.current().of_kind("importer")) <= _N_CORE_FAMILIES:
        lines.append("The package gptzoo-families adds 30 families: pip install gptzoo-families")
    lines.append(
        "`gptzoo export-hf --remote-code` writes a model with its own code, which transformers can run, if `gptzoo "
        "eject` supports all its parts."
    )
    return "\n".join(lines)
