"""A drawing of the modules and blocks of a model, from the tokens to the logits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from gptzoo.cli.diagram import draw
from gptzoo.component import Config
from gptzoo.inspection.model_graph import BlockGroup, ConfigGroup, ModuleNode, positional_methods
from gptzoo.spec.components_in_spec import SpecComponent
from gptzoo.spec.model import ModelSpec

_POSITIONAL_EFFECTS = {
    "embed": "added to the embeddings",
    "rotate": "rotates queries and keys",
    "bias": "added to the attention scores",
}
_LABEL_WIDTH = 12  # columns


def draw_stack(spec: ModelSpec, nodes: Sequence[ModuleNode | BlockGroup], width: int) -> Iterator[Text]:
    """Yield the lines of the drawing. Equal blocks share a box; options that differ by layer are listed in it."""
    yield from _StackDrawing(spec, nodes, width).lines()


class _StackDrawing:
    def __init__(self, spec: ModelSpec, nodes: Sequence[ModuleNode | BlockGroup], width: int):
        self.spec, self.nodes, self.width = spec, nodes, width
        self.diagrams = {id(node): list(draw(node.operations)) for node in nodes if isinstance(node, BlockGroup)}
        self.spine = max((len(lines[0].drawing) for lines in self.diagrams.values()), default=3) + 2  # its column

    def lines(self) -> Iterator[Text]:
        spine = " " * self.spine + "│"
        yield Text(" " * (self.spine - 2) + "tokens", "bold")
        yield Text(spine, "dim")
        for node in self.nodes:
            yield from self.blocks(node) if isinstance(node, BlockGroup) else self.module(node)
        yield Text(spine, "dim")
        yield Text(" " * (self.spine - 2) + "logits", "bold")

    def module(self, node: ModuleNode) -> Iterator[Text]:
        notes = _describe(node.config) if node.config is not None else []
        if node.n_parameters:
            notes.append(f"{node.n_parameters:,} parameters")
        elif self.spec.tie_embeddings and node is self.nodes[-1]:
            notes.append("tied to the embedding")
        is_positional = node.config is not None and node.config.component.kind == "positional"
        margin = " " * self.spine
        label = "positional" if is_positional else node.name
        yield from self.labelled(margin + ("⊕" if is_positional else "├"), margin + "│", label, notes)

    def blocks(self, blocks: BlockGroup) -> Iterator[Text]:
        edge = "─" * (self.spine - 2) + "┼"
        title = f" {blocks.n_layers} × block · norm {blocks.norm.type} "
        rest = "─" * (self.width - self.spine - 3 - len(title))
        yield Text.assemble((f" ╭{edge}──", "dim"), (title, "bold"), (rest, "dim"))
        lines = self.diagrams[id(blocks)]
        margin = " │".ljust(self.spine + 1 - len(lines[0].drawing))
        for line in lines:
            if line.operation is None:
                yield Text(margin + line.drawing, "dim")
                continue
            operation = blocks.operations[line.operation]
            first, below = margin + line.drawing, margin + line.below
            if operation.name in blocks.sublayers:
                yield from self.sublayer(blocks, operation.name, first, below)
            elif operation.config is not None:
                yield from self.labelled(first, below, "norm", _describe(operation.config))
            else:
                yield from self.labelled(first, below, "" if operation.name == "add" else operation.name, [])
        yield Text(f" ╰{edge}".ljust(self.width, "─"), "dim")

    def sublayer(self, blocks: BlockGroup, name: str, first: str, below: str) -> Iterator[Text]:
        groups = blocks.sublayers[name]
        common = _common_notes(groups)
        yield from self.labelled(first, below, name, common)
        for group in groups if len(groups) > 1 else ():
            notes = [note for note in _describe(group.config) if note not in common]
            notes += [f"no {option}" for option in _options_set_elsewhere(group, groups)]
            yield from self.labelled(below, below, "", [f"{_layer_ranges(group)}: {', '.join(notes)}"])
        if name != "attention":
            return
        for group in blocks.positionals:
            methods = [method for method in positional_methods(group.config) if method != "embed"]
            if methods:
                layers = f"{_layer_ranges(group)}: " if len(blocks.positionals) > 1 else ""
                effects = " and ".join(_POSITIONAL_EFFECTS[method] for method in methods)
                note = f"{layers}{', '.join(_describe(group.config))}: {effects}"
                yield from self.labelled(below, below, "", [note])

    def labelled(self, first: str, below: str, label: str, notes: Iterable[str]) -> Iterator[Text]:
        """Yield a label and its notes next to the drawing `first`, and further notes next to `below`."""
        drawing = first
        for line in wrap_notes(notes, self.width - self.spine - 2 - _LABEL_WIDTH):
            text = Text(drawing.ljust(self.spine + 2) if label or line else drawing, "dim")
            text.append(f"{label:<{_LABEL_WIDTH - 1}} " if line else label, "not dim bold")
            text.append(line, "not dim")
            yield text
            drawing, label = below, ""


def wrap_notes(notes: Iterable[str], width: int) -> list[str]:
    """Join the notes to lines of at most `width` columns, where possible, without breaking a note."""
    lines = [""]
    for note in filter(None, notes):
        longer = f"{lines[-1]} · {note}" if lines[-1] else note
        if len(longer) > width and lines[-1]:
            lines.append(note)
        else:
            lines[-1] = longer
    return lines


# ---------------------------------------------------------------------- description of configs


def _describe(config: Config) -> list[str]:
    """Return the type of a component, its plugin unless it is built in, and its options.

    Options that are off, and switches, choices and factors of 1 that are at their defaults, are left out.
    """
    plugin = SpecComponent("", config).origin.plugin
    notes = [config.type if plugin == "builtin" else f"{config.type} [{plugin}]"]
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        is_neutral = isinstance(value, bool | str) or value == 1
        if name == "type" or value is None or (is_neutral and value == field.default):
            continue
        if isinstance(value, bool):
            notes.append(name if value else f"no {name}")
        elif isinstance(value, Config):
            nested_type, *options = _describe(value)
            notes.append(f"{name} {nested_type}" + (f" ({', '.join(options)})" if options else ""))
        elif value != 0:
            notes.append(f"{name} {_format_value(value)}")
    return notes


def _format_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _common_notes(groups: Iterable[ConfigGroup]) -> list[str]:
    first, *others = (_describe(group.config) for group in groups)
    return [note for note in first if all(note in other for other in others)]


def _options_set_elsewhere(group: ConfigGroup, groups: Iterable[ConfigGroup]) -> list[str]:
    """Return the options that are null in this group and set in another one."""
    others = [other.config for other in groups]
    return [
        name
        for name in type(group.config).model_fields
        if getattr(group.config, name) is None and any(getattr(other, name, None) is not None for other in others)
    ]


def _layer_ranges(group: ConfigGroup) -> str:
    """Return the layers of a group as in `layers 0-2, 4`."""
    ranges: list[list[int]] = []
    for layer in group.layers:
        if ranges and ranges[-1][-1] == layer - 1:
            ranges[-1][1:] = [layer]
        else:
            ranges.append([layer])
    word = "layers" if len(group.layers) > 1 else "layer"
    return f"{word} " + ", ".join("-".join(map(str, bounds)) for bounds in ranges)
