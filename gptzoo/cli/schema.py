"""`gptzoo schema`: the JSON Schema of specs, for editors."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from gptzoo.cli.options import json_option, plugin_option


@click.command()
@click.argument(
    "what",
    type=click.Choice(["model", "run", "ablation", "ladder", "sampling", "comparison", "ladder-result", "profile"]),
    default="model",
)
@json_option
@plugin_option
def schema(what: str, as_json: bool) -> None:
    """Print the JSON Schema of specs with all installed components, or of the output of a command.

    comparison, ladder-result and profile are the outputs of gptzoo compare, ladder and profile with --json.

    Save the output to a file and set "$schema" in a spec to that file: an editor then completes and checks the spec.
    The output is JSON with and without --json.
    """
    from gptzoo.ablation.comparison.result import ComparisonResult
    from gptzoo.ablation.scaling.result import LadderResult
    from gptzoo.profiling.result import ProfileResult
    from gptzoo.spec.schema import output_schema

    schemas = spec_schemas() | {
        "comparison": partial(output_schema, ComparisonResult),
        "ladder-result": partial(output_schema, LadderResult),
        "profile": partial(output_schema, ProfileResult),
    }
    click.echo(json.dumps(schemas[what](), indent=2))


def spec_schemas() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the functions that make the JSON Schema of each kind of spec file, by its name."""
    from gptzoo.ablation.scaling.ladder_spec import ladder_schema
    from gptzoo.sampling.spec import SamplingSpec
    from gptzoo.spec.schema import ablation_schema, file_schema, model_schema, run_schema

    return {
        "model": model_schema,
        "run": run_schema,
        "ablation": ablation_schema,
        "ladder": ladder_schema,
        "sampling": partial(file_schema, SamplingSpec),
    }
