"""The summary that `gptzoo build` prints: sizes, blocks, parameters and costs on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from gptzoo.cli.stack import draw_stack
from gptzoo.inspection.config_notes import describe_sizes, wrap_notes
from gptzoo.inspection.model_graph import BlockGroup, ModuleNode
from gptzoo.interop.exporting.summary import summarise_export
from gptzoo.model.accounting import ModelCosts, TrainingMemory
from gptzoo.spec.components_in_spec import components_in, recommendations_in
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.utils.units import scaled

_MAX_WIDTH = 100  # columns
_LABEL_WIDTH = 17  # columns
_BAR_WIDTH = 24  # columns of a bar for all parameters


def print_card(
    console: Console,
    model_or_run: ModelSpec | RunSpec,
    nodes: Sequence[ModuleNode | BlockGroup],
    costs: ModelCosts,
) -> None:
    """Print the header, the blocks, the parameters, the costs, and what the components of a model recommend."""
    spec = model_or_run.model if isinstance(model_or_run, RunSpec) else model_or_run
    width = min(console.width, _MAX_WIDTH)
    console.print(_header(spec, costs, width), width=width)
    recommended = _recommended_lines(model_or_run, width)
    for lines in (
        draw_stack(spec, nodes, width),
        _parameter_lines(costs),
        _cost_lines(spec, costs, width),
        recommended,
    ):
        for line in lines:
            console.print(line, soft_wrap=True)


def _header(spec: ModelSpec, costs: ModelCosts, width: int) -> Panel:
    text = Text(f"{costs.parameters.total:,} parameters", "bold")
    notes = describe_sizes(spec.dims)
    if spec.parametrisation is not None:
        base = spec.at_base_width()
        notes.append(f"{spec.parametrisation.type} from d_model {base.d_model:,} with {base.n_heads} heads")
    text.append("\n" + "\n".join(wrap_notes(notes, width - 4)), "not bold")
    return Panel(text, title=Text(spec.name, "bold"), title_align="left", border_style="dim")


def _parameter_lines(costs: ModelCosts) -> Iterator[Text]:
    parameters = costs.parameters
    yield Text()
    digits = len(f"{parameters.total:,}")
    for name, number in parameters.by_part.items():
        share = number / parameters.total
        text = Text(f"{name:<{_LABEL_WIDTH}}", "bold").append(f"{number:>{digits},}  {share:>6.1%}", "not bold")
        if bar := "█" * round(_BAR_WIDTH * share):
            text.append(f"  {bar}", "not bold cyan")
        yield text
    text = Text(f"{'parameters':<{_LABEL_WIDTH}}{parameters.total:>{digits},}  ", "bold")
    yield text.append(f"({parameters.non_embedding:,} without embeddings)\n", "not bold")


def _cost_lines(spec: ModelSpec, costs: ModelCosts, width: int) -> Iterator[Text]:
    flops, memory = costs.flops_per_token, costs.training_memory
    notes_by_label = {
        "KV cache": [
            f"{scaled(costs.kv_cache_bytes_per_token)}B per token",
            f"{scaled(costs.state_bytes)}B for {spec.context_length:,} tokens",
        ]
    }
    if flops is not None and memory is not None:
        flops_notes = [
            f"{scaled(flops.forward)} forward",
            f"{scaled(flops.training)} training",
            f"for sequences of {memory.sequence_length:,} tokens",
        ]
        notes_by_label = {
            "FLOPs per token": flops_notes,
            **notes_by_label,
            "training memory": _memory_notes(memory),
        }
    if costs.not_counted:
        notes_by_label["not counted"] = ["FLOPs and training memory", costs.not_counted]
    notes_by_label["components from"] = _origin_notes(spec)
    export = summarise_export(spec)
    notes_by_label["transformers"] = [str(export), *(["try export-hf --remote-code"] if export.family is None else [])]
    for label, notes in notes_by_label.items():
        for index, line in enumerate(wrap_notes(notes, width - _LABEL_WIDTH)):
            yield Text(f"{'' if index else label:<{_LABEL_WIDTH}}", "bold").append(line, "not bold")


def _recommended_lines(spec: ModelSpec | RunSpec, width: int) -> Iterator[Text]:
    """Yield the settings that the components recommend, each with the value that the spec has."""
    for recommendation in recommendations_in(spec):
        notes = [recommendation.wanted]
        if recommendation.is_met is not None:
            notes.append("set" if recommendation.is_met else f"not set, {recommendation.has}")
        notes += [f"{recommendation.kind} {recommendation.type}", recommendation.setting.source]
        for index, line in enumerate(wrap_notes(notes, width - _LABEL_WIDTH)):
            yield Text(f"{'' if index else 'recommended':<{_LABEL_WIDTH}}", "bold").append(line, "not bold")


def _memory_notes(memory: TrainingMemory) -> list[str]:
    return [
        f"at most {scaled(memory.total_bytes)}B with AdamW, batch {memory.batch_size} × {memory.sequence_length:,} "
        f"tokens in {memory.precision}",
        f"weights {scaled(memory.weight_bytes)}B",
        f"optimizer {scaled(memory.optimizer_bytes)}B",
        f"activations {scaled(memory.activation_bytes)}B",
        f"gradients {scaled(memory.gradient_bytes)}B",
    ]


def _origin_notes(spec: ModelSpec) -> list[str]:
    """Return the origin of the components, with the component names for plugins other than the built-in one."""
    names_by_origin: dict[str, list[str]] = {}
    for part in components_in(spec):
        names = names_by_origin.setdefault(str(part.origin), [])
        if part.origin.plugin != "builtin" and part.config.type not in names:
            names.append(part.config.type)
    return [origin + (f" ({', '.join(names)})" if names else "") for origin, names in names_by_origin.items()]
