"""Short notes on configs for drawings: the type, the options that matter, and the layers that use a config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from gptzoo.component import Config
from gptzoo.dims import Dims
from gptzoo.inspection.model_graph import BlockGroup, ConfigGroup, positional_methods
from gptzoo.spec.components_in_spec import SpecComponent

_POSITIONAL_EFFECTS = {
    "embed": "added to the embeddings",
    "rotate": "rotates queries and keys",
    "bias": "added to the attention scores",
}


def describe_config(config: Config) -> list[str]:
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
            nested_type, *options = describe_config(value)
            notes.append(f"{name} {nested_type}" + (f" ({', '.join(options)})" if options else ""))
        elif value != 0:
            notes.append(f"{name} {_format_value(value)}")
    return notes


def describe_sizes(dims: Dims) -> list[str]:
    """Return the sizes of a model."""
    return [
        f"{dims.n_layers} layers",
        f"d_model {dims.d_model:,}",
        f"{dims.n_heads} heads × {dims.d_head}",
        f"context {dims.context_length:,}",
        f"vocabulary {dims.vocab_size:,}",
    ]


def common_notes(groups: Iterable[ConfigGroup]) -> list[str]:
    """Return the notes that the configs of all groups share."""
    first, *others = (describe_config(group.config) for group in groups)
    return [note for note in first if all(note in other for other in others)]


def notes_of_layers(groups: tuple[ConfigGroup, ...]) -> Iterator[str]:
    """Yield what differs between groups of layers, a line for each group. Yield nothing for a single group."""
    common = common_notes(groups)
    for group in groups if len(groups) > 1 else ():
        notes = [note for note in describe_config(group.config) if note not in common]
        notes += [f"no {option}" for option in _options_set_elsewhere(group, groups)]
        yield f"{layer_ranges(group)}: {', '.join(notes)}"


def positional_notes(blocks: BlockGroup) -> Iterator[str]:
    """Yield what positionals do inside the attention of these blocks."""
    for group in blocks.positionals:
        methods = [method for method in positional_methods(group.config) if method != "embed"]
        if methods:
            layers = f"{layer_ranges(group)}: " if len(blocks.positionals) > 1 else ""
            effects = " and ".join(_POSITIONAL_EFFECTS[method] for method in methods)
            yield f"{layers}{', '.join(describe_config(group.config))}: {effects}"


def layer_ranges(group: ConfigGroup) -> str:
    """Return the layers of a group as in `layers 0-2, 4`."""
    ranges: list[list[int]] = []
    for layer in group.layers:
        if ranges and ranges[-1][-1] == layer - 1:
            ranges[-1][1:] = [layer]
        else:
            ranges.append([layer])
    word = "layers" if len(group.layers) > 1 else "layer"
    return f"{word} " + ", ".join("-".join(map(str, bounds)) for bounds in ranges)


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


def _format_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _options_set_elsewhere(group: ConfigGroup, groups: Iterable[ConfigGroup]) -> list[str]:
    """Return the options that are null in this group and set in another one."""
    others = [other.config for other in groups]
    return [
        name
        for name in type(group.config).model_fields
        if getattr(group.config, name) is None and any(getattr(other, name, None) is not None for other in others)
    ]
