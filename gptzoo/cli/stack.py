"""A drawing of the modules and blocks of a model, from the tokens to the logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from gptzoo.cli.diagram import draw
from gptzoo.inspection.config_notes import (
    common_notes,
    describe_config,
    notes_of_layers,
    positional_notes,
    wrap_notes,
)
from gptzoo.inspection.model_graph import BlockGroup, ModuleNode
from gptzoo.spec.model import ModelSpec

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
        notes = describe_config(node.config) if node.config is not None else []
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
                yield from self.labelled(first, below, "norm", describe_config(operation.config))
            else:
                yield from self.labelled(first, below, "" if operation.name == "add" else operation.name, [])
        yield Text(f" ╰{edge}".ljust(self.width, "─"), "dim")

    def sublayer(self, blocks: BlockGroup, name: str, first: str, below: str) -> Iterator[Text]:
        groups = blocks.sublayers[name]
        yield from self.labelled(first, below, name, common_notes(groups))
        for note in (*notes_of_layers(groups), *(positional_notes(blocks) if name == "attention" else ())):
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
