"""The options of `gptzoo sample` that select the decoding strategy and the logits processors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from gptzoo.cli.option_sections import OptionSpec, option, section

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import LoadedModel
    from gptzoo.component import Config
    from gptzoo.sampling.inference_weights import WeightFormat
    from gptzoo.sampling.spec import SamplingSpec
    from gptzoo.sampling.strategies import Strategy

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TEMPERATURE = 0.8


class _ProcessorOption(NamedTuple):
    """An option that sets one field of a built-in logits processor."""

    flag: str
    type: str
    field: str
    help: str
    attributes: Mapping[str, Any] = {"type": float}  # keyword arguments of click.option

    @property
    def name(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


_CONSTRAINTS = (
    _ProcessorOption(
        "--ban",
        "banned_tokens",
        "texts",
        "Never generate this text. Repeatable.",
        {"multiple": True, "metavar": "TEXT"},
    ),
    _ProcessorOption("--force", "forced_tokens", "text", "Start with this text.", {"metavar": "TEXT"}),
    _ProcessorOption(
        "--regex",
        "regex",
        "pattern",
        "Generate text that matches this regular expression as a whole.",
        {"metavar": "PATTERN"},
    ),
    _ProcessorOption(
        "--json-schema",
        "json_schema",
        "definition",
        "Generate JSON that is valid under this JSON Schema; {} allows any JSON value.",
        {"metavar": "JSON|FILE"},
    ),
)
_PENALTIES = (
    _ProcessorOption(
        "--repetition-penalty",
        "repetition_penalty",
        "value",
        "Penalty factor for tokens of the prompt and of the text so far.",
    ),
    _ProcessorOption(
        "--presence-penalty", "presence_penalty", "value", "Penalty in nats for tokens that were generated before."
    ),
    _ProcessorOption(
        "--frequency-penalty", "frequency_penalty", "value", "Penalty in nats for each time a token was generated."
    ),
    _ProcessorOption(
        "--no-repeat-ngram", "no_repeat_ngram", "size", "Generate no n-gram of this size twice.", {"type": int}
    ),
    _ProcessorOption(
        "--logit-bias",
        "logit_bias",
        "biases",
        "Add a value in nats to the logit of a token. Repeatable.",
        {"metavar": "ID=NATS", "multiple": True},
    ),
)
_TRUNCATIONS = (
    _ProcessorOption(
        "--temperature", "temperature", "value", f"Temperature; 0 is greedy (default: {DEFAULT_TEMPERATURE})."
    ),
    _ProcessorOption("--top-k", "top_k", "k", "Keep only the k most likely tokens.", {"type": int}),
    _ProcessorOption("--top-p", "top_p", "p", "Keep the most likely tokens up to this total probability."),
    _ProcessorOption("--min-p", "min_p", "p", "Drop tokens below this fraction of the highest probability."),
    _ProcessorOption(
        "--typical",
        "typical",
        "p",
        "Locally typical sampling: keep the most typical tokens up to this total probability.",
    ),
)


def _options(processors: Sequence[_ProcessorOption]) -> list[OptionSpec]:
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
        option("--stop-token", metavar="ID", type=int, multiple=True, help="Stop before this token id. Repeatable."),
        option("--ignore-eos", is_flag=True, help="Continue after the end-of-text token."),
        option("--include-stop-text", is_flag=True, help="Include the stop text or stop token that ends the text."),
    ),
    section("Temperature and truncation", *_options(_TRUNCATIONS)),
    section("Repetition penalties", *_options(_PENALTIES)),
    section("Constraints", *_options(_CONSTRAINTS)),
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


def read_strategy(
    loaded: LoadedModel, options: Mapping[str, Any], dtype: WeightFormat, *, compile: bool = False
) -> Strategy:
    """Return the decoding strategy that the options select. Raises InputError.

    A draft model is loaded with the same `dtype` and `compile`.
    """
    from gptzoo.cli.inputs import read_model
    from gptzoo.sampling import strategies

    selected = [name for name in ("beams", "contrastive", "draft") if options[name] is not None]
    if len(selected) > 1:
        raise click.UsageError(f"--{selected[0]} and --{selected[1]} cannot be combined")
    suboptions = {"length_penalty": "beams", "candidates": "contrastive", "ahead": "draft"}
    for name, parent in suboptions.items():
        if options[name] is not None and parent not in selected:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --{parent}")
    suboption_values = [options[name] for name in suboptions if options[name] is not None]
    spec = read_sampling_spec(loaded, options, random=selected in ([], ["draft"]))
    fit_length = "max_new_tokens" not in spec.model_fields_set
    if options["beams"] is not None:
        return strategies.Beams(loaded, spec, options["beams"], *suboption_values, fit_length=fit_length)
    if options["contrastive"] is not None:
        return strategies.Contrastive(loaded, spec, options["contrastive"], *suboption_values, fit_length=fit_length)
    if options["draft"] is not None:
        device = next(loaded.model.parameters()).device
        draft = read_model(options["draft"], device=str(device), dtype=dtype, compile=compile)
        return strategies.Speculative(loaded, spec, draft, *suboption_values, fit_length=fit_length)
    return strategies.Sampling(loaded, spec, fit_length=fit_length)


def read_sampling_spec(loaded: LoadedModel, options: Mapping[str, Any], *, random: bool) -> SamplingSpec:
    """Return the spec of --spec, overridden by the other options. Raises InputError.

    The processors come in this order: constraints, penalties, those of the spec, those of --processor, temperature and
    truncation. An option for a processor of the spec replaces that processor at the same position. `random` adds the
    default temperature if neither the spec nor an option sets one. The field `max_new_tokens` counts as set only if the
    spec or an option sets it.
    """
    from gptzoo.sampling.spec import SamplingSpec
    from gptzoo.sampling.text import tokenizer_of
    from gptzoo.spec.files import load_spec

    spec = SamplingSpec() if options["spec_file"] is None else load_spec(SamplingSpec, options["spec_file"])
    overrides: dict[str, Any] = {"processors": _merge_processors(spec, options, random)}
    eot = tokenizer_of(loaded).eot
    ignore_eos = options["ignore_eos"] or spec.ignore_eos
    if "stop_tokens" not in spec.model_fields_set and eot is not None and not ignore_eos:
        overrides["stop_tokens"] = (eot,)
    if options["stop_token"]:
        overrides["stop_tokens"] = (*overrides.get("stop_tokens", spec.stop_tokens), *options["stop_token"])
    if options["stop"]:
        overrides["stop_texts"] = options["stop"]
    overrides |= {name: True for name in ("ignore_eos", "include_stop_text") if options[name]}
    lengths_and_seed = ("seed", "max_new_tokens", "min_new_tokens")
    overrides |= {name: options[name] for name in lengths_and_seed if options[name] is not None}
    return load_spec(SamplingSpec, {**spec.model_dump(mode="json", exclude_unset=True), **overrides})


def _merge_processors(spec: SamplingSpec, options: Mapping[str, Any], random: bool) -> list[dict[str, Any]]:
    """Return the configs of all processors of the spec and of the options, in the order of application."""
    from gptzoo.cli.inputs import read_component

    spec_configs = list(spec.processors)
    plugin_configs = [read_component("logits_processor", text, "--processor") for text in options["processor"]]
    has_temperature = options["temperature"] is not None or any(c.type == "temperature" for c in plugin_configs)
    if random and options["spec_file"] is None and not has_temperature:
        options = {**options, "temperature": DEFAULT_TEMPERATURE}

    def added(processors: Sequence[_ProcessorOption]) -> Iterator[Config]:
        """Yield the configs of the given options, except for those that replace one of the spec."""
        for processor in processors:
            if options[processor.name] in (None, ()):
                continue
            config = _read_processor(processor, options[processor.name])
            index = next((index for index, config in enumerate(spec_configs) if config.type == processor.type), None)
            if index is None:
                yield config
            else:
                spec_configs[index] = config

    constraints_and_penalties = list(added((*_CONSTRAINTS, *_PENALTIES)))
    truncations = list(added(_TRUNCATIONS))
    configs = [*constraints_and_penalties, *spec_configs, *plugin_configs, *truncations]
    configs.sort(key=lambda config: not config.component.constrains)  # a stable sort: constraints first
    return [config.model_dump(mode="json") for config in configs]


def _read_processor(processor: _ProcessorOption, value: object) -> Config:
    """Return the config of a processor with the value of its option."""
    from gptzoo.cli.inputs import validate_component

    parse = _PARSERS.get(processor.type)
    options = {"type": processor.type, processor.field: value if parse is None else parse(value)}
    return validate_component("logits_processor", options, processor.flag, Path.cwd())


def _parse_biases(items: Sequence[str]) -> dict[str, float]:
    biases = {}
    for item in items:
        token, _, nats = item.partition("=")
        try:
            biases[str(int(token))] = float(nats)
        except ValueError:
            raise click.BadParameter(
                f"expected ID=NATS such as 50=-2.5, got {item!r}", param_hint="--logit-bias"
            ) from None
    return biases


def _parse_schema(text: str) -> object:
    from gptzoo.errors import DataError
    from gptzoo.spec.strict_json import parse_json

    if text.lstrip().startswith("{"):
        return parse_json(text, "--json-schema")
    try:
        return parse_json(Path(text).read_text(encoding="utf-8"), text)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--json-schema: expected a JSON object or a readable file, got {text!r}: {error}") from None


# Parsers of option values, by processor.
_PARSERS: dict[str, Callable[[Any], object]] = {
    "logit_bias": _parse_biases,
    "json_schema": _parse_schema,
    "banned_tokens": list,
}
