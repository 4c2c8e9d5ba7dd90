"""The content of a drawing without places: boxes with a title and notes, and frames around the boxes of blocks."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from gptzoo.component import Config
from gptzoo.inspection.config_notes import (
    common_notes,
    describe_config,
    describe_sizes,
    layer_ranges,
    notes_of_layers,
    positional_notes,
    wrap_notes,
)
from gptzoo.inspection.model_graph import BlockGroup, ConfigGroup, ModuleNode, build_model_graph
from gptzoo.inspection.norm_trace import Operation
from gptzoo.model.accounting import ModelCosts, model_costs
from gptzoo.spec.model import ModelSpec
from gptzoo.utils.units import scaled

BoxKind = Literal["module", "norm", "sublayer", "operation"]

_COLUMNS = 45  # of a line of notes
_HEADING_COLUMNS = 24  # of a line in the heading of a frame
_MAX_SHAPES = 4  # lines of shapes for a box


@dataclass(frozen=True)
class Box:
    """A module, a part, or an operation on tensors."""

    kind: BoxKind
    name: str  # occurs once in its frame, or once outside of frames; see `mark_differences`
    title: str
    notes: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()  # the title and the notes that the other drawing does not have
    is_new: bool = False  # nothing in the other drawing corresponds to it


@dataclass(frozen=True)
class Frame:
    """Successive equal blocks: one box for each operation of a block."""

    title: str
    norm: tuple[str, ...]  # lines on the norm scheme
    operations: tuple[Operation, ...]
    boxes: tuple[Box, ...]
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Content:
    """Everything that a drawing of a model shows, from the tokens to the logits."""

    name: str
    sizes: tuple[str, ...]  # lines below the name
    items: tuple[Box | Frame, ...]
    stream: str  # shape of the residual stream
    logits: str  # shape of the logits
    costs: tuple[str, ...]  # lines below the drawing
    changed: frozenset[str] = frozenset()


def content_of(spec: ModelSpec) -> Content:
    """Return the content of the drawing of a model. Raises SpecError if the spec has no vocab_size."""
    dims = spec.dims
    nodes = build_model_graph(spec)
    return Content(
        name=spec.name,
        sizes=tuple(_lines(describe_sizes(dims))),
        items=tuple(_items(spec, nodes)),
        stream=f"(B, T, {dims.d_model})",
        logits=f"(B, T, {dims.vocab_size})",
        costs=tuple(_costs(model_costs(spec))),
    )


def mark_differences(a: Content, b: Content) -> tuple[Content, Content]:
    """Return both contents with what the other one does not have marked as changed.

    Boxes correspond if their names are equal, and those in frames if their frames have the same place among frames.
    """
    return _marked(a, b), _marked(b, a)


def texts_of(content: Content) -> Iterator[str]:
    """Yield the drawing as sentences, for readers who do not see it."""
    yield f"{content.name}: {', '.join(content.sizes)}."
    for item in content.items:
        if isinstance(item, Box):
            yield f"{_sentence(item)}."
        else:
            yield f"{item.title}, {', '.join(item.norm)}, each with: {'; '.join(_sentence(box) for box in item.boxes)}."
    yield f"{', '.join(content.costs)}."


def _sentence(box: Box) -> str:
    return f"{box.title} ({', '.join(box.notes)})" if box.notes else box.title


# ---------------------------------------------------------------------- content of a model


def _items(spec: ModelSpec, nodes: Sequence[ModuleNode | BlockGroup]) -> Iterator[Box | Frame]:
    seen: Counter[str] = Counter()  # names outside of frames
    for node in nodes:
        if isinstance(node, BlockGroup):
            in_block: Counter[str] = Counter()
            boxes = tuple(_with_unique_name(box, in_block) for box in _block_boxes(node))
            yield Frame(f"{node.n_layers} × block", tuple(_norm_lines(node.norm)), node.operations, boxes)
        else:
            yield _with_unique_name(_module(spec, node, is_last=node is nodes[-1]), seen)


def _norm_lines(norm: Config) -> list[str]:
    """Return the type and options of a norm scheme. The layers of the norm have boxes of their own."""
    type_, *options = describe_config(norm)
    layers = tuple(name for name in type(norm).model_fields if isinstance(getattr(norm, name), Config))
    return _lines([f"norm {type_}", *(note for note in options if not note.startswith(layers))], _HEADING_COLUMNS)


def _module(spec: ModelSpec, node: ModuleNode, *, is_last: bool) -> Box:
    notes = _shape_lines(node.shapes)
    title = node.name
    if node.config is not None:
        type_, *options = describe_config(node.config)
        is_positional = node.config.component.kind == "positional"
        title = f"{'positional' if is_positional else node.name} · {type_}"
        notes = [*_lines(options), *notes]
    if is_last and not node.n_parameters and spec.tie_embeddings:
        notes = ["tied to the embedding", *notes]
    return Box("module", node.name, title, tuple(notes))


def _block_boxes(blocks: BlockGroup) -> Iterator[Box]:
    for operation in blocks.operations:
        if operation.name in blocks.sublayers:
            yield _sublayer(blocks, operation.name)
        elif operation.config is not None:
            type_, *options = describe_config(operation.config)
            yield Box("norm", operation.name, f"norm · {type_}", tuple(_lines(options)))
        else:
            yield Box("operation", operation.name, operation.name)


def _sublayer(blocks: BlockGroup, name: str) -> Box:
    groups = blocks.sublayers[name]
    common = common_notes(groups)
    types = {describe_config(group.config)[0] for group in groups}
    title = f"{name} · {common[0]}" if len(types) == 1 else name
    notes = _lines(common[1:] if len(types) == 1 else common)
    for note in (*notes_of_layers(groups), *(positional_notes(blocks) if name == "attention" else ())):
        notes += _lines([note])
    return Box("sublayer", name, title, (*notes, *_sublayer_shapes(groups)))


def _sublayer_shapes(groups: Sequence[ConfigGroup]) -> Iterator[str]:
    """Yield the shapes of the parameters, and the layers where they differ between layers."""
    if all(group.shapes == groups[0].shapes for group in groups):
        yield from _shape_lines(groups[0].shapes)
        return
    for group in groups:
        yield f"{layer_ranges(group)}:"
        yield from _shape_lines(group.shapes)


def _shape_lines(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the number of parameters and the shapes of the matrices."""
    if not shapes:
        return []
    matrices = [
        f"{name.removesuffix('.weight')} {' × '.join(map(str, shape))}"
        for name, shape in shapes.items()
        if len(shape) > 1
    ]
    shown = matrices if len(matrices) <= _MAX_SHAPES else matrices[: _MAX_SHAPES - 1]
    lines = _lines(shown)
    if len(shown) < len(matrices):
        lines.append(f"and {len(matrices) - len(shown)} more")
    return [f"{sum(map(prod, shapes.values())):,} parameters", *lines]


def _lines(notes: Iterable[str], width: int = _COLUMNS) -> list[str]:
    """Join notes to lines, and break lines that are too long between words."""
    lines = (line for line in wrap_notes(notes, width) if line)
    return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ")]


def _costs(costs: ModelCosts) -> Iterator[str]:
    yield f"{costs.parameters.total:,} parameters"
    if costs.flops_per_token is not None:
        yield f"{scaled(costs.flops_per_token.training)}FLOPs per token of training"
    yield f"{costs.kv_cache_bytes_per_token:,} bytes of KV cache per token (fp32)"


def _with_unique_name(box: Box, seen: Counter[str]) -> Box:
    """Return a box with its number among those of its name: norm 1, norm 2. `seen` counts them."""
    seen[box.name] += 1
    return replace(box, name=f"{box.name} {seen[box.name]}")


# ---------------------------------------------------------------------- differences


def _marked(content: Content, other: Content) -> Content:
    modules = {item.name: item for item in other.items if isinstance(item, Box)}
    frames = [item for item in other.items if isinstance(item, Frame)]
    items: list[Box | Frame] = []
    for item in content.items:
        if isinstance(item, Box):
            items.append(_marked_box(item, modules.get(item.name)))
            continue
        index = sum(isinstance(known, Frame) for known in items)
        counterpart = frames[index] if index < len(frames) else None
        titles = set() if counterpart is None else {counterpart.title, *counterpart.norm}
        boxes = {} if counterpart is None else {box.name: box for box in counterpart.boxes}
        marked = tuple(_marked_box(box, boxes.get(box.name)) for box in item.boxes)
        items.append(replace(item, boxes=marked, changed=frozenset({item.title, *item.norm} - titles)))
    texts = {*content.sizes, *content.costs, content.stream, content.logits}
    others = {*other.sizes, *other.costs, other.stream, other.logits}
    return replace(content, items=tuple(items), changed=frozenset(texts - others))


def _marked_box(box: Box, other: Box | None) -> Box:
    if other is None:
        return replace(box, is_new=True)
    return replace(box, changed=frozenset({box.title, *box.notes} - {other.title, *other.notes}))
