"""The stack of a model as a drawing: what a token passes from the embedding to the logits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.text import Text

from gptzoo.cli.diagram import draw
from gptzoo.component import Config
from gptzoo.inspection.model_graph import BlockGroup, ConfigGroup, ModuleNode, positional_methods
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.named_components import NamedPart

_SEAMS = {"embed": "added to the embeddings", "rotate": "turns queries and keys", "bias": "added to the scores"}
_NAME = 12  # columns of the name of a step


def draw_stack(spec: ModelSpec, rows: Sequence[ModuleNode | BlockGroup], width: int) -> Iterator[Text]:
    """The lines of the drawing. Runs of blocks are one box; what differs by layer is said beside the part."""
    yield from _Stack(spec, rows, width).lines()


class _Stack:
    def __init__(self, spec: ModelSpec, rows: Sequence[ModuleNode | BlockGroup], width: int):
        self.spec, self.rows, self.width = spec, rows, width
        self.diagrams = {id(row): list(draw(row.operations)) for row in rows if isinstance(row, BlockGroup)}
        self.spine = max((len(lines[0].drawing) for lines in self.diagrams.values()), default=3) + 2  # its column

    def lines(self) -> Iterator[Text]:
        along = " " * self.spine + "│"
        yield Text(" " * (self.spine - 2) + "tokens", "bold")
        yield Text(along, "dim")
        for row in self.rows:
            yield from self.blocks(row) if isinstance(row, BlockGroup) else self.module(row)
        yield Text(along, "dim")
        yield Text(" " * (self.spine - 2) + "logits", "bold")

    def module(self, row: ModuleNode) -> Iterator[Text]:
        notes = _describe(row.config) if row.config is not None else []
        if row.n_parameters:
            notes.append(f"{row.n_parameters:,} parameters")
        elif self.spec.tie_embeddings and row is self.rows[-1]:
            notes.append("tied to the embedding")
        added = row.config is not None and row.config.component.kind == "positional"
        margin = " " * self.spine
        name = "positional" if added else row.name
        yield from self.step(margin + ("⊕" if added else "├"), margin + "│", name, notes)

    def blocks(self, blocks: BlockGroup) -> Iterator[Text]:
        edge = "─" * (self.spine - 2) + "┼"
        title = f" {blocks.n_layers} × block · norm {blocks.norm.type} "
        rest = "─" * (self.width - self.spine - 3 - len(title))
        yield Text.assemble((f" ╭{edge}──", "dim"), (title, "bold"), (rest, "dim"))
        lines = self.diagrams[id(blocks)]
        pad = " │".ljust(self.spine + 1 - len(lines[0].drawing))
        for line in lines:
            if line.operation is None:
                yield Text(pad + line.drawing, "dim")
                continue
            operation = blocks.operations[line.operation]
            first, below = pad + line.drawing, pad + line.below
            if operation.name in blocks.sublayers:
                yield from self.sublayer(blocks, operation.name, first, below)
            elif operation.config is not None:
                yield from self.step(first, below, "norm", _describe(operation.config))
            else:
                yield from self.step(first, below, "" if operation.name == "add" else operation.name, [])
        yield Text(f" ╰{edge}".ljust(self.width, "─"), "dim")

    def sublayer(self, blocks: BlockGroup, name: str, first: str, below: str) -> Iterator[Text]:
        found = blocks.sublayers[name]
        common = _common(found)
        yield from self.step(first, below, name, common)
        for variant in found if len(found) > 1 else ():
            own = [note for note in _describe(variant.config) if note not in common]
            own += [f"no {option}" for option in _set_elsewhere(variant, found)]
            yield from self.step(below, below, "", [f"{_layers(variant)}: {', '.join(own)}"])
        if name != "attention":
            return
        for variant in blocks.positionals:
            if used := [_SEAMS[seam] for seam in positional_methods(variant.config) if seam != "embed"]:
                where = f"{_layers(variant)}: " if len(blocks.positionals) > 1 else ""
                note = f"{where}{', '.join(_describe(variant.config))}: {' and '.join(used)}"
                yield from self.step(below, below, "", [note])

    def step(self, first: str, below: str, name: str, notes: Iterable[str]) -> Iterator[Text]:
        """A name and its notes beside the first line of the drawing; what does not fit beside what goes on below."""
        drawing = first
        for line in wrapped(notes, self.width - self.spine - 2 - _NAME):
            text = Text(drawing.ljust(self.spine + 2) if name or line else drawing, "dim")
            text.append(f"{name:<{_NAME - 1}} " if line else name, "not dim bold")
            text.append(line, "not dim")
            yield text
            drawing, name = below, ""


def wrapped(notes: Iterable[str], width: int) -> list[str]:
    """The notes in lines, broken between notes only."""
    lines = [""]
    for note in filter(None, notes):
        longer = f"{lines[-1]} · {note}" if lines[-1] else note
        if len(longer) > width and lines[-1]:
            lines.append(note)
        else:
            lines[-1] = longer
    return lines


# ---------------------------------------------------------------------- words for configs


def _describe(config: Config) -> list[str]:
    """The type of a component, the plugin that brought it if it is not built in, and its options that are set."""
    plugin = NamedPart("", config).origin.plugin
    notes = [config.type if plugin == "builtin" else f"{config.type} [{plugin}]"]
    for name in type(config).model_fields:
        value = getattr(config, name)
        if name == "type" or value is None:
            continue
        if isinstance(value, bool):
            notes.append(name if value else f"no {name}")
        elif isinstance(value, Config):
            head, *options = _describe(value)
            notes.append(f"{name} {head}" + (f" ({', '.join(options)})" if options else ""))
        elif value != 0:
            notes.append(f"{name} {_value(value)}")
    return notes


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _common(found: Iterable[ConfigGroup]) -> list[str]:
    first, *others = (_describe(variant.config) for variant in found)
    return [note for note in first if all(note in other for other in others)]


def _set_elsewhere(variant: ConfigGroup, found: Iterable[ConfigGroup]) -> list[str]:
    """The options that are null here and set in another of the variants."""
    others = [other.config for other in found]
    return [
        name
        for name in type(variant.config).model_fields
        if getattr(variant.config, name) is None and any(getattr(other, name, None) is not None for other in others)
    ]


def _layers(variant: ConfigGroup) -> str:
    """`layers 0-2, 4`"""
    runs: list[list[int]] = []
    for layer in variant.layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1][1:] = [layer]
        else:
            runs.append([layer])
    word = "layers" if len(variant.layers) > 1 else "layer"
    return f"{word} " + ", ".join("-".join(map(str, run)) for run in runs)
