"""The options of `gptzoo sample` for the decoding strategy and the logits processors, in sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from gptzoo.cli.option_sections import OptionSpec, option, section
from gptzoo.sampling import DEFAULT_TEMPERATURE

F = TypeVar("F", bound=Callable[..., Any])


class ProcessorOption(NamedTuple):
    """An option that sets one field of a built-in logits processor."""

    flag: str
    type: str
    field: str
    help: str
    attributes: Mapping[str, Any] = {"type": float}  # keyword arguments of click.option

    @property
    def name(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


CONSTRAINTS = (
    ProcessorOption(
        "--ban",
        "banned_tokens",
        "texts",
        "Never generate this text. Repeatable.",
        {"multiple": True, "metavar": "TEXT"},
    ),
    ProcessorOption("--force", "forced_tokens", "text", "Start with this text.", {"metavar": "TEXT"}),
    ProcessorOption(
        "--regex",
        "regex",
        "pattern",
        "Generate text that matches this regular expression as a whole.",
        {"metavar": "PATTERN"},
    ),
    ProcessorOption(
        "--json-schema",
        "json_schema",
        "definition",
        "Generate JSON that is valid under this JSON Schema; {} allows any JSON value.",
        {"metavar": "JSON|FILE"},
    ),
)
PENALTIES = (
    ProcessorOption(
        "--repetition-penalty",
        "repetition_penalty",
        "value",
        "Penalty factor for tokens of the prompt and of the text so far.",
    ),
    ProcessorOption(
        "--presence-penalty", "presence_penalty", "value", "Penalty in nats for tokens that were generated before."
    ),
    ProcessorOption(
        "--frequency-penalty", "frequency_penalty", "value", "Penalty in nats for each time a token was generated."
    ),
    ProcessorOption(
        "--no-repeat-ngram", "no_repeat_ngram", "size", "Generate no n-gram of this size twice.", {"type": int}
    ),
    ProcessorOption(
        "--logit-bias",
        "logit_bias",
        "biases",
        "Add a value in nats to the logit of a token. Repeatable.",
        {"metavar": "ID=NATS", "multiple": True},
    ),
)
TRUNCATIONS = (
    ProcessorOption(
        "--temperature", "temperature", "value", f"Temperature; 0 is greedy (default: {DEFAULT_TEMPERATURE})."
    ),
    ProcessorOption("--top-k", "top_k", "k", "Keep only the k most likely tokens.", {"type": int}),
    ProcessorOption("--top-p", "top_p", "p", "Keep the most likely tokens up to this total probability."),
    ProcessorOption("--min-p", "min_p", "p", "Drop tokens below this fraction of the highest probability."),
    ProcessorOption(
        "--typical",
        "typical",
        "p",
        "Locally typical sampling: keep the most typical tokens up to this total probability.",
    ),
)


def _options(processors: Sequence[ProcessorOption]) -> list[OptionSpec]:
    return [option(processor.flag, help=processor.help, **processor.attributes) for processor in processors]


_SECTIONS = (
    section(
        "Length and stopping",
        option(
            "--max-new-tokens",
            type=click.IntRange(min=0),
            help="Maximum number of new tokens (default: 200, or fewer if the model's maximum length is reached).",
        ),
        option(
            "--min-new-tokens",
            type=click.IntRange(min=0),
            help="Number of tokens before the text may end (default: 0).",
        ),
        option("--stop", metavar="TEXT", multiple=True, help="Stop before this text. Repeatable."),
        option(
            "--stop-token",
            metavar="ID",
            type=click.IntRange(min=0),
            multiple=True,
            help="Stop before this token id. Repeatable.",
        ),
        option("--ignore-eos", is_flag=True, help="Continue after the end-of-text token."),
        option("--include-stop-text", is_flag=True, help="Include the stop text or stop token that ends the text."),
    ),
    section("Temperature and truncation", *_options(TRUNCATIONS)),
    section("Repetition penalties", *_options(PENALTIES)),
    section("Constraints", *_options(CONSTRAINTS)),
    section(
        "Decoding strategy",
        option("--beams", type=click.IntRange(min=1), metavar="N", help="Beam search with N beams."),
        option(
            "--length-penalty",
            type=float,
            help="For --beams: exponent of the length; above 1 favours longer texts (default: 1).",
        ),
        option(
            "--contrastive",
            type=click.FloatRange(min=0, max=1),
            metavar="ALPHA",
            help="Contrastive search with this penalty weight; 0.6 is common.",
        ),
        option(
            "--candidates",
            type=click.IntRange(min=1),
            help="For --contrastive: number of candidate tokens (default: 4).",
        ),
        option(
            "--draft",
            type=click.Path(path_type=Path),
            metavar="RUN",
            help="Speculative decoding with this smaller draft model, which needs the same tokenizer.",
        ),
        option("--ahead", type=click.IntRange(min=1), help="For --draft: number of draft tokens (default: 4)."),
        option(
            "--best-of",
            type=click.IntRange(min=1),
            metavar="N",
            help="Generate N samples and keep the most likely.",
        ),
    ),
    section(
        "Spec and plugins",
        option(
            "--processor",
            "processor",
            metavar="NAME|JSON",
            multiple=True,
            help="Logits processor, built in or from a plugin. Repeatable; they are applied in order.",
        ),
        option(
            "--spec",
            "spec_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="JSON file with a sampling spec. Other options override it.",
        ),
    ),
)


def sampling_options(command: F) -> F:
    """Add the options of the decoding strategy and of the logits processors, in sections."""
    for add_section in reversed(_SECTIONS):
        command = add_section(command)
    return command
