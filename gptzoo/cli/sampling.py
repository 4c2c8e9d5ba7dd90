"""From the options of `gptzoo sample` to the decoding strategy and the sampling spec that they select."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.sampling_options import CONSTRAINTS, PENALTIES, TRUNCATIONS, ProcessorOption
from gptzoo.sampling import DEFAULT_TEMPERATURE

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import LoadedModel
    from gptzoo.component import Config
    from gptzoo.sampling.inference_weights import WeightFormat
    from gptzoo.sampling.spec import SamplingSpec
    from gptzoo.sampling.strategy import Strategy


def read_strategy(
    loaded: LoadedModel, options: Mapping[str, Any], dtype: WeightFormat, *, compile: bool = False
) -> Strategy:
    """Return the decoding strategy that the options select. Raises InputError.

    A draft model is loaded with the same `dtype` and `compile`.
    """
    from gptzoo.cli.inputs import read_model
    from gptzoo.sampling.search.strategies import Beams, Contrastive
    from gptzoo.sampling.strategies import Sampling, Speculative

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
        return Beams(loaded, spec, options["beams"], *suboption_values, fit_length=fit_length)
    if options["contrastive"] is not None:
        return Contrastive(loaded, spec, options["contrastive"], *suboption_values, fit_length=fit_length)
    if options["draft"] is not None:
        device = next(loaded.model.parameters()).device
        draft = read_model(options["draft"], device=str(device), dtype=dtype, compile=compile)
        return Speculative(loaded, spec, draft, *suboption_values, fit_length=fit_length)
    return Sampling(loaded, spec, fit_length=fit_length)


def read_sampling_spec(loaded: LoadedModel, options: Mapping[str, Any], *, random: bool) -> SamplingSpec:
    """Return the spec of --spec, overridden by the other options. Raises InputError.

    The processors come in this order: constraints, penalties, those of the spec, those of --processor, temperature and
    truncation. An option for a processor of the spec replaces that processor at the same position. `random` adds the
    default temperature if neither the spec nor an option sets one. The field `max_new_tokens` counts as set only if the
    spec or an option sets it.
    """
    from gptzoo.cli.inputs import check_text
    from gptzoo.sampling.spec import SamplingSpec
    from gptzoo.sampling.text import tokenizer_of
    from gptzoo.spec.files import load_spec

    spec = SamplingSpec() if options["spec_file"] is None else load_spec(SamplingSpec, options["spec_file"])
    overrides: dict[str, Any] = {"processors": _merge_processors(spec, options, random)}
    end_tokens = tokenizer_of(loaded).end_tokens
    ignore_eos = options["ignore_eos"] or spec.ignore_eos
    if "stop_tokens" not in spec.model_fields_set and end_tokens and not ignore_eos:
        overrides["stop_tokens"] = end_tokens
    if options["stop_token"]:
        overrides["stop_tokens"] = (*overrides.get("stop_tokens", spec.stop_tokens), *options["stop_token"])
    if options["stop"]:
        overrides["stop_texts"] = [check_text(text, "--stop") for text in options["stop"]]
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

    def added(processors: Sequence[ProcessorOption]) -> Iterator[Config]:
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

    constraints_and_penalties = list(added((*CONSTRAINTS, *PENALTIES)))
    truncations = list(added(TRUNCATIONS))
    configs = [*constraints_and_penalties, *spec_configs, *plugin_configs, *truncations]
    configs.sort(key=lambda config: not config.component.constrains)  # a stable sort: constraints first
    return [config.model_dump(mode="json") for config in configs]


def _read_processor(processor: ProcessorOption, value: object) -> Config:
    """Return the config of a processor with the value of its option."""
    from gptzoo.cli.inputs import validate_component
    from gptzoo.spec.formats.origin import Origin

    parse = _PARSERS.get(processor.type)
    options = {"type": processor.type, processor.field: value if parse is None else parse(value)}
    return validate_component("logits_processor", options, Origin(processor.flag), Path.cwd())


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
    from gptzoo.spec.formats.document import read_document
    from gptzoo.spec.strict_json import parse_json

    if text.lstrip().startswith("{"):
        return parse_json(text, "--json-schema")
    if not Path(text).is_file():
        raise DataError(f"--json-schema: expected a JSON object or a readable file, got {text!r}")
    return read_document(Path(text))[0]


# Parsers of option values, by processor.
_PARSERS: dict[str, Callable[[Any], object]] = {
    "logit_bias": _parse_biases,
    "json_schema": _parse_schema,
    "banned_tokens": list,
}
