"""The options of `gptzoo sample` that say how a text is written, and what they make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from gptzoo.cli.sections import option, section

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import Loaded
    from gptzoo.component import Config
    from gptzoo.sampling.spec import SamplingSpec
    from gptzoo.sampling.strategies import Strategy
    from gptzoo.sampling.weights.prepare import Weights

F = TypeVar("F", bound=Callable[..., Any])

TEMPERATURE = 0.8  # where nothing else says


class _Processor(NamedTuple):
    """An option that is one field of one built-in logits processor."""

    flag: str
    type: str
    field: str
    help: str
    how: Mapping[str, Any] = {"type": float}

    @property
    def name(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


_CONSTRAINTS = (
    _Processor("--ban", "banned_tokens", "texts", "Never write this. May be given again.", {"multiple": True}),
    _Processor("--force", "forced_tokens", "text", "Begin with this.", {"metavar": "TEXT"}),
    _Processor("--regex", "regex", "pattern", "Write what this pattern matches as a whole.", {"metavar": "PATTERN"}),
    _Processor(
        "--json-schema",
        "json_schema",
        "definition",
        "Write a JSON value that is valid by this schema; {} is any.",
        {"metavar": "JSON|FILE"},
    ),
)
_PENALTIES = (
    _Processor("--repetition-penalty", "repetition_penalty", "value", "Above 1: avoid tokens that were there before."),
    _Processor("--presence-penalty", "presence_penalty", "value", "In nats, for tokens that were written before."),
    _Processor("--frequency-penalty", "frequency_penalty", "value", "In nats, for every time that they were."),
    _Processor("--no-repeat-ngram", "no_repeat_ngram", "size", "Write no N tokens twice.", {"type": int}),
    _Processor(
        "--logit-bias",
        "logit_bias",
        "biases",
        "Add nats to a token's logit. May be given again.",
        {"metavar": "ID=NATS", "multiple": True},
    ),
)
_TRUNCATIONS = (
    _Processor("--temperature", "temperature", "value", f"0 is greedy; {TEMPERATURE} if left out."),
    _Processor("--top-k", "top_k", "k", "Keep the so many likeliest tokens.", {"type": int}),
    _Processor("--top-p", "top_p", "p", "Keep the likeliest tokens up to this probability."),
    _Processor("--min-p", "min_p", "p", "Keep tokens at least so likely, as a fraction of the likeliest."),
    _Processor("--typical", "typical", "p", "Keep the most typical tokens up to this probability."),
)


def _options(processors: Sequence[_Processor]) -> list[Any]:
    return [option(each.flag, help=each.help, **each.how) for each in processors]


def sampling_options(command: F) -> F:
    """All options of this file; they arrive as one keyword argument each."""
    for decorate in reversed(
        (
            section(
                "Length and endings",
                option(
                    "--max-new-tokens", type=click.IntRange(min=0), help="200 if left out, or what there is room for."
                ),
                option("--stop", metavar="TEXT", multiple=True, help="End before this text. May be given again."),
                option("--stop-token", metavar="ID", type=int, multiple=True, help="End before this token too."),
            ),
            section("Which tokens", *_options(_TRUNCATIONS)),
            section("Against repetition", *_options(_PENALTIES)),
            section("What the text must be", *_options(_CONSTRAINTS)),
            section(
                "Other ways to write",
                option("--beams", type=click.IntRange(min=1), metavar="N", help="Beam search: the likeliest texts."),
                option("--length-penalty", type=float, help="Of beams: above 1 for longer texts; 1 if left out."),
                option(
                    "--contrastive",
                    type=click.FloatRange(min=0, max=1),
                    metavar="ALPHA",
                    help="Contrastive search: likely tokens that repeat the least; 0.6 is usual.",
                ),
                option("--candidates", type=click.IntRange(min=1), help="Of contrastive search; 4 if left out."),
                option(
                    "--draft",
                    type=click.Path(path_type=Path),
                    metavar="RUN",
                    help="Speculative decoding: a smaller model with the same tokenizer proposes.",
                ),
                option("--ahead", type=click.IntRange(min=1), help="Tokens that the draft proposes; 4 if left out."),
                option(
                    "--best-of", type=click.IntRange(min=1), metavar="N", help="Write N samples, keep the likeliest."
                ),
            ),
            section(
                "All of it",
                option(
                    "--processor",
                    "processor",
                    metavar="NAME|JSON",
                    multiple=True,
                    help="Any logits processor, also one of a plugin. May be given again: they are applied in order.",
                ),
                option(
                    "--spec",
                    "spec_file",
                    type=click.Path(path_type=Path),
                    metavar="FILE",
                    help="A sampling spec in JSON; options beside it change it.",
                ),
            ),
        )
    ):
        command = decorate(command)
    return command


def read_strategy(loaded: Loaded, options: Mapping[str, Any], dtype: Weights, *, compile: bool = False) -> Strategy:
    """The strategy that the options ask for; a draft model is read with `dtype` and `compile`. Raises InputError."""
    from gptzoo.cli.reading import read_model
    from gptzoo.sampling import strategies

    asked = [name for name in ("beams", "contrastive", "draft") if options[name] is not None]
    if len(asked) > 1:
        raise click.UsageError(f"--{asked[0]} and --{asked[1]} are two ways to write; give one")
    own = {"length_penalty": "beams", "candidates": "contrastive", "ahead": "draft"}
    for name, of in own.items():
        if options[name] is not None and of not in asked:
            raise click.UsageError(f"--{name.replace('_', '-')} is an option of --{of}")
    more = [options[name] for name in own if options[name] is not None]
    spec, as_room = read_sampling_spec(loaded, options, random=asked in ([], ["draft"]))
    if options["beams"] is not None:
        return strategies.Beams(loaded, spec, options["beams"], *more, as_room=as_room)
    if options["contrastive"] is not None:
        return strategies.Contrastive(loaded, spec, options["contrastive"], *more, as_room=as_room)
    if options["draft"] is not None:
        device = next(loaded.model.parameters()).device
        draft = read_model(options["draft"], device=str(device), dtype=dtype, compile=compile)
        return strategies.Speculative(loaded, spec, draft, *more, as_room=as_room)
    return strategies.Sampling(loaded, spec, as_room=as_room)


def read_sampling_spec(loaded: Loaded, options: Mapping[str, Any], *, random: bool) -> tuple[SamplingSpec, bool]:
    """The spec of --spec changed by the other options, and whether nobody said how long: then fewer tokens will do too.

    random: it has a temperature, given or not. Raises InputError.

    Processors come in this order: constraints, penalties, those of the spec, those of --processor, temperature,
    truncations. One that the spec has too takes the place that it has there.
    """
    from gptzoo.sampling.spec import SamplingSpec
    from gptzoo.sampling.text import tokenizer_of
    from gptzoo.spec.files import load_spec

    spec = SamplingSpec() if options["spec_file"] is None else load_spec(SamplingSpec, options["spec_file"])
    changed: dict[str, Any] = {"processors": _processors(spec, options, random)}
    eot = tokenizer_of(loaded).eot
    if "stop_tokens" not in spec.model_fields_set and eot is not None:
        changed["stop_tokens"] = (eot,)
    if options["stop_token"]:
        changed["stop_tokens"] = (*changed.get("stop_tokens", spec.stop_tokens), *options["stop_token"])
    if options["stop"]:
        changed["stop_texts"] = options["stop"]
    if options["seed"] is not None:
        changed["seed"] = options["seed"]
    if options["max_new_tokens"] is not None:
        changed["max_new_tokens"] = options["max_new_tokens"]
    fields = {**spec.model_dump(mode="json"), **changed}
    as_room = "max_new_tokens" not in changed.keys() | spec.model_fields_set
    return load_spec(SamplingSpec, fields), as_room


def _processors(spec: SamplingSpec, options: Mapping[str, Any], random: bool) -> list[Any]:
    from gptzoo.cli.reading import read_component

    of_spec = list(spec.processors)
    others = [read_component("logits_processor", text, "--processor") for text in options["processor"]]
    if random and options["spec_file"] is None and all(config.type != "temperature" for config in others):
        options = {**options, "temperature": TEMPERATURE if options["temperature"] is None else options["temperature"]}

    def given(processors: Sequence[_Processor]) -> Iterator[Config]:
        for each in processors:
            if options[each.name] in (None, ()):
                continue
            config = _config(each, options[each.name])
            at = next((index for index, other in enumerate(of_spec) if other.type == each.type), None)
            if at is None:
                yield config
            else:
                of_spec[at] = config

    first, last = [*given((*_CONSTRAINTS, *_PENALTIES))], [*given(_TRUNCATIONS)]
    configs = [*first, *of_spec, *others, *last]
    configs.sort(key=lambda config: not config.component.constrains)  # which keeps their order else
    return [config.model_dump(mode="json") for config in configs]


def _config(option: _Processor, value: Any) -> Config:
    from gptzoo.cli.reading import validated_component

    if option.type == "logit_bias":
        value = _biases(value)
    elif option.type == "json_schema":
        value = _schema(value)
    elif option.type == "banned_tokens":
        value = list(value)
    return validated_component("logits_processor", {"type": option.type, option.field: value}, option.flag, Path.cwd())


def _biases(items: Sequence[str]) -> dict[str, float]:
    biases = {}
    for item in items:
        token, _, nats = item.partition("=")
        try:
            biases[str(int(token))] = float(nats)
        except ValueError:
            raise click.BadParameter(f"{item!r} is no ID=NATS such as 50=-2.5", param_hint="--logit-bias") from None
    return biases


def _schema(text: str) -> Any:
    from gptzoo.errors import DataError
    from gptzoo.spec.files import parse_json

    if text.lstrip().startswith("{"):
        return parse_json(text, "--json-schema")
    try:
        return parse_json(Path(text).read_text(encoding="utf-8"), text)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"--json-schema: {text!r} is neither a JSON object nor a file that can be read: {error}"
        ) from None
