"""The catalog: for each component its paper's main claim, and the statements by which an ablation tests it.

`catalog.json` maps `KIND:NAME` to an entry. An entry has statements, or says why it has none. A component with a second
claim, about one of its options, has a second entry: `attention:sdpa (window)`.

Statements and ablations are committed before the ablation is run. Results record the digest of both, so that later
changes show.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("catalog.json")
SPECS = ROOT / "configs" / "ablations" / "papers"

KINDS = ("attention", "positional", "norm", "norm_layer", "ffn", "activation", "optimizer")

Expected = Literal["below", "above", "within"]


@dataclass(frozen=True)
class Quantity:
    """A measure of one variant of an ablation, such as `val/loss` of `alibi`."""

    variant: str
    measure: str  # a metric of a run, or a name in `measures.EXTRA`


@dataclass(frozen=True)
class Statement:
    """A statement about the difference left - right, averaged over seeds."""

    text: str
    ablation: str  # name of the spec in SPECS
    left: Quantity
    right: Quantity | None  # None: the statement is about `left` itself
    expected: Expected  # below or above the margin, or within plus or minus the margin
    margin: float

    @property
    def quantities(self) -> list[Quantity]:
        """The quantities that the statement compares."""
        return [self.left] if self.right is None else [self.left, self.right]

    @property
    def test(self) -> dict[str, Any]:
        """The part that decides the verdict, as JSON. The wording is not a part of it."""
        pairs = [[quantity.variant, quantity.measure] for quantity in self.quantities]
        return {"quantities": pairs, "expected": self.expected, "margin": self.margin}


@dataclass(frozen=True)
class Entry:
    """The main claim of a component's paper."""

    component: str  # "KIND:NAME", with an option in brackets if the claim is about that
    source: str
    claim: str = ""
    statements: Sequence[Statement] = ()
    not_testable: str = ""  # why the claim cannot be tested at this size
    no_claim: str = ""  # why there is no empirical claim

    @property
    def kind(self) -> str:
        """The kind of the component."""
        return self.component.partition(":")[0]

    @property
    def name(self) -> str:
        """The name of the component, with the option that the claim is about."""
        return self.component.partition(":")[2]

    @property
    def key(self) -> tuple[str, str]:
        """Kind and name of the component in the registry."""
        return self.kind, self.name.partition(" (")[0]


def read_catalog(file: Path = FILE) -> list[Entry]:
    """Read all entries, in the order of the file."""
    entries = []
    for component, fields in json.loads(file.read_text(encoding="utf-8")).items():
        statements = tuple(_read_statement(statement) for statement in fields.pop("statements", ()))
        entries.append(Entry(component, statements=statements, **fields))
    return entries


def _read_statement(fields: Mapping[str, Any]) -> Statement:
    right = fields.get("right")
    return Statement(
        **{**fields, "left": Quantity(*fields["left"]), "right": None if right is None else Quantity(*right)}
    )


def statements_by_ablation(entries: Sequence[Entry]) -> dict[str, list[Statement]]:
    """Return all statements by the name of their ablation, in the order of the catalog."""
    grouped: dict[str, list[Statement]] = {}
    for entry in entries:
        for statement in entry.statements:
            grouped.setdefault(statement.ablation, []).append(statement)
    return grouped


def spec_files(ablation: str) -> list[Path]:
    """Return the files that specify an ablation: its spec, and its base run if that is a file of its own."""
    spec = SPECS / f"{ablation}.json"
    base = json.loads(spec.read_text(encoding="utf-8"))["base"]
    return [spec, (spec.parent / base).resolve()] if isinstance(base, str) else [spec]


def digest(ablation: str, statements: Sequence[Statement]) -> str:
    """Return the SHA-256 of an ablation's spec and of the statements that it tests."""
    specs = [json.loads(file.read_text(encoding="utf-8")) for file in spec_files(ablation)]
    tests = sorted(json.dumps(statement.test, sort_keys=True) for statement in statements)
    return hashlib.sha256(json.dumps([specs, tests], sort_keys=True).encode()).hexdigest()


def n_seeds(ablation: str) -> int:
    """Return the number of seeds of each variant of an ablation."""
    seeds = json.loads((SPECS / f"{ablation}.json").read_text(encoding="utf-8"))["seeds"]
    return seeds if isinstance(seeds, int) else len(seeds)
