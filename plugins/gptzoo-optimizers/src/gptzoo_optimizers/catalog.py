"""The signatures of the libraries' optimizers, from the files in `signatures/`.

The files are generated and committed, so that names and options are known without an import of the libraries.
`python -m gptzoo_optimizers.generate` writes them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent / "signatures"
LIBRARIES = ("heavyball", "pytorch_optimizer", "schedulefree")  # names of packages and of modules

Bounds = Mapping[str, float]  # keywords of pydantic's Field: ge, gt, le, lt
Scope = Literal["all", "matrices", "flagged matrices"]


@dataclass(frozen=True)
class Option:
    """An option of an optimizer: a number, a boolean, a word, or a fixed number of numbers."""

    default: Any
    type: Literal["bool", "int", "float", "str", "ints", "floats"]
    description: str
    bounds: Sequence[Bounds] = ()  # of the number, or of each number of several
    choices: Sequence[str] = ()  # of a word
    nullable: bool = False


@dataclass(frozen=True)
class Signature:
    """An optimizer of a library, with its options. Its name in specs is `library.name`."""

    library: str
    name: str
    class_name: str
    summary: str  # one sentence
    paper: str
    lr: float
    weight_decay: float | None  # None: the optimizer has none
    scope: Scope  # the parameters that it updates: all, or the matrices in blocks, marked with `use_muon` if flagged
    has_modes: bool  # train() and eval(), which switch between the weights for training and for evaluation
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.library}.{self.name}"


@dataclass(frozen=True)
class LibraryTable:
    """The content of a library's file."""

    library: str
    version: str  # of the library that the table was generated from
    signatures: Mapping[str, Signature]  # by their name in specs
    left_out: Mapping[str, str]  # names of optimizers that are not registered, each with the reason


def tables() -> list[LibraryTable]:
    """Return the tables of all libraries."""
    return [read_table(library) for library in LIBRARIES]


@functools.cache
def read_table(library: str) -> LibraryTable:
    """Return the table of a library."""
    return parse_table(library, (FOLDER / f"{library}.json").read_text(encoding="utf-8"))


def parse_table(library: str, text: str) -> LibraryTable:
    """Return the table in the text of a library's file."""
    content = json.loads(text)
    options = [Option(**fields) for fields in content["options"]]
    signatures = [
        Signature(
            **{
                **fields,
                "library": library,
                "options": {name: options[number] for name, number in fields["options"].items()},
            }
        )
        for fields in content["optimizers"]
    ]
    by_name = {signature.full_name: signature for signature in signatures}
    return LibraryTable(library, content["version"], by_name, content["left_out"])


def format_table(table: LibraryTable) -> str:
    """Return the text of a library's file: one line for each optimizer, and equal options once."""
    numbers: dict[str, int] = {}

    def number_of(option: Option) -> int:
        required = {"default": option.default, "type": option.type, "description": option.description}
        others = {"bounds": [*map(dict, option.bounds)], "choices": [*option.choices], "nullable": option.nullable}
        line = _line(required | {name: value for name, value in others.items() if value and value != [{}]})
        return numbers.setdefault(line, len(numbers))

    def line_of(signature: Signature) -> str:
        fields = {name: value for name, value in vars(signature).items() if name not in ("library", "options")}
        return _line(fields | {"options": {name: number_of(option) for name, option in signature.options.items()}})

    optimizers = ",\n".join(line_of(table.signatures[name]) for name in sorted(table.signatures))
    options = ",\n".join(numbers)
    left_out = ",\n".join(f"{_line(name)}:{_line(table.left_out[name])}" for name in sorted(table.left_out))
    return (
        f'{{"version": {_line(table.version)},\n"optimizers": [\n{optimizers}],\n"options": [\n{options}],\n'
        f'"left_out": {{\n{left_out}}}}}\n'
    )


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
