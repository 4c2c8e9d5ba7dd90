"""The card of a model: what a person wants to see of it on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from gptzoo.cli.stack import draw_stack, wrapped
from gptzoo.inspection.model_graph import BlockGroup, ModuleNode
from gptzoo.model.accounting import Account, TrainingMemory
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.named_components import named_parts
from gptzoo.utils.units import scaled

_COST = 17  # columns of the name of a cost
_BAR = 24  # columns of a bar that is all parameters


def print_card(console: Console, spec: ModelSpec, rows: Sequence[ModuleNode | BlockGroup], account: Account) -> None:
    """Header, stack, parameters, costs."""
    width = min(console.width, 100)
    console.print(_header(spec, account, width), width=width)
    for lines in (draw_stack(spec, rows, width), _parameters(spec, account), _costs(spec, account, width)):
        for line in lines:
            console.print(line, soft_wrap=True)


def _header(spec: ModelSpec, account: Account, width: int) -> Panel:
    dims = spec.dims
    sizes = [
        f"{dims.n_layers} layers",
        f"d_model {dims.d_model:,}",
        f"{dims.n_heads} heads × {dims.d_head}",
        f"context {dims.context_length:,}",
        f"vocabulary {dims.vocab_size:,}",
    ]
    text = Text(f"{account.parameters.total:,} parameters", "bold")
    text.append("\n" + "\n".join(wrapped(sizes, width - 4)), "not bold")
    return Panel(text, title=Text(spec.name, "bold"), title_align="left", border_style="dim")


def _parameters(spec: ModelSpec, account: Account) -> Iterator[Text]:
    counted = account.parameters
    yield Text()
    digits = len(f"{counted.total:,}")
    for name, number in counted.by_part.items():
        share = number / counted.total
        text = Text(f"{name:<{_COST}}", "bold").append(f"{number:>{digits},}  {share:>6.1%}", "not bold")
        if bar := "█" * round(_BAR * share):
            text.append(f"  {bar}", "not bold cyan")
        yield text
    text = Text(f"{'parameters':<{_COST}}{counted.total:>{digits},}  ", "bold")
    yield text.append(f"of which {counted.non_embedding:,} without embeddings\n", "not bold")


def _costs(spec: ModelSpec, account: Account, width: int) -> Iterator[Text]:
    flops, memory = account.flops_per_token, account.training_memory
    costs = {
        "KV cache": [
            f"{scaled(account.kv_cache_bytes_per_token)}B per token",
            f"{scaled(account.state_bytes)}B for {spec.context_length:,} tokens",
        ]
    }
    if flops is not None and memory is not None:
        length = f"in sequences of {memory.sequence_length:,} tokens"
        both = [f"{scaled(flops.forward)} forward", f"{scaled(flops.training)} training", length]
        costs = {"FLOPs per token": both, **costs, "training memory": _memory(memory)}
    if account.not_rehearsed:
        costs["not counted"] = ["FLOPs and training memory", account.not_rehearsed]
    costs["parts from"] = _origins(spec)
    for name, notes in costs.items():
        for index, line in enumerate(wrapped(notes, width - _COST)):
            yield Text(f"{'' if index else name:<{_COST}}", "bold").append(line, "not bold")


def _memory(memory: TrainingMemory) -> list[str]:
    return [
        f"{scaled(memory.total_bytes)}B at most, with AdamW on {memory.batch_size} × {memory.sequence_length:,} "
        f"tokens in {memory.precision}",
        f"weights {scaled(memory.weight_bytes)}B",
        f"optimizer {scaled(memory.optimizer_bytes)}B",
        f"activations {scaled(memory.activation_bytes)}B",
        f"gradients {scaled(memory.gradient_bytes)}B",
    ]


def _origins(spec: ModelSpec) -> list[str]:
    """Who brought the parts; of others than the built-in plugin, which."""
    brought: dict[str, list[str]] = {}
    for part in named_parts(spec):
        names = brought.setdefault(str(part.origin), [])
        if part.origin.plugin != "builtin" and part.config.type not in names:
            names.append(part.config.type)
    return [origin + (f" ({', '.join(names)})" if names else "") for origin, names in brought.items()]
