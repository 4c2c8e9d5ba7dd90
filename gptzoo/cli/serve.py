"""`gptzoo serve`: serve models over OpenAI's completions API, with a page to try them."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.inputs import read_chat_template, read_model
from gptzoo.cli.options import (
    chat_template_option,
    checkpoint_step,
    compile_option,
    dtype_option,
    model_options,
    plugin_option,
)

if TYPE_CHECKING:
    from gptzoo.sampling.inference_weights import WeightFormat

API_KEY_VARIABLE = "GPTZOO_API_KEY"


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for any free port."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Model name that clients use (default: the name of the folder RUN). With several RUNs, one for each in order.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Batch size of each model: number of slots.",
)
@click.option(
    "--max-length",
    type=click.IntRange(min=2),
    help="Maximum tokens of a prompt and its completion (default: the maximum of each model).",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="Maximum number of requested completions that wait for a slot of a model.",
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=2**20,
    show_default=True,
    help="Maximum size of a request body, in bytes.",
)
@click.option(
    "--draft",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Smaller draft model for speculative decoding. For a single RUN.",
)
@chat_template_option
@click.option(
    "--allow-origin",
    "allowed_origins",
    metavar="ORIGIN",
    multiple=True,
    help="Let web pages of this origin call the server (CORS), such as http://localhost:3000; * for all. Repeatable.",
)
@dtype_option
@compile_option
@model_options
@plugin_option
def serve(
    runs: tuple[Path, ...],
    host: str,
    port: int,
    names: tuple[str, ...],
    rows: int,
    max_length: int | None,
    max_waiting: int,
    max_body: int,
    draft: Path | None,
    chat_template: str | None,
    allowed_origins: tuple[str, ...],
    checkpoint: str,
    averaged: bool,
    device: str,
    dtype: WeightFormat,
    compile: bool,
) -> None:
    """Serve the model in each RUN over OpenAI's completions and chat APIs until Ctrl-C.

    The endpoints are POST /v1/completions and, for models with a chat template, POST /v1/chat/completions, both with
    streaming. The address itself is a page to try the models in a browser. Concurrent requests share a batch, and
    several models compute one after the other. If the environment variable GPTZOO_API_KEY is set, clients must send it
    as their API key. Needs gptzoo[serve].
    """
    from gptzoo.errors import InputError

    try:  # before the model is loaded, so that a missing package is reported at once
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"gptzoo serve needs {error.name}: pip install 'gptzoo[serve]'") from None
    from gptzoo.sampling.engine.engine import Engine
    from gptzoo.sampling.strategies import check_draft_tokenizer
    from gptzoo.serving.app import check_origins, make_app
    from gptzoo.serving.endpoints import HARNESS_PREFIX
    from gptzoo.serving.process.memory import check_memory
    from gptzoo.serving.process.run_server import check_address, example_request, run_server
    from gptzoo.serving.process.served_models import ServedModel, check_names
    from gptzoo.serving.process.turns import Turns
    from gptzoo.serving.request_builder import Limits, RequestBuilder
    from gptzoo.serving.scheduler import Scheduler

    check_origins(allowed_origins)
    if names and len(names) != len(runs):
        raise InputError(f"--name is given {len(names)} times for {len(runs)} RUNs; give one for each RUN, or none")
    names = names or tuple(run.resolve().name for run in runs)
    check_names(names)
    if draft is not None and len(runs) > 1:
        raise InputError("--draft is for a single RUN; serve the other RUNs by a command of their own")
    check_address(host, port)  # early, because loading the models may take long
    check_memory(
        [_find(run, checkpoint) for run in runs] + ([] if draft is None else [_find(draft)]),
        n_slots=rows,
        max_length=max_length,
        dtype=dtype,
        device=device,
    )
    draft_loaded = None if draft is None else read_model(draft, device=device, dtype=dtype, compile=compile)
    turns = Turns()
    models = []
    for run, name in zip(runs, names, strict=True):
        loaded = read_model(
            run,
            checkpoint=checkpoint,
            averaged=averaged,
            device=device,
            dtype=dtype,
            one_row=rows == 1 and draft is None,
            compile=compile,
        )
        n_positions = loaded.model.max_length
        if max_length is not None and n_positions is not None and max_length > n_positions:
            raise InputError(f"--max-length {max_length} exceeds the {n_positions} positions of the model {name!r}")
        if draft_loaded is not None:
            check_draft_tokenizer(loaded, draft_loaded)
        engine = Engine(
            loaded.model,
            loaded.tokenizer,
            n_slots=rows,
            max_length=max_length,
            draft=None if draft_loaded is None else draft_loaded.model,
        )
        limits = Limits(max_length=engine.max_length, max_body=max_body)
        builder = RequestBuilder(loaded, limits, draft_loaded, read_chat_template(loaded, chat_template))
        models.append(ServedModel(name, Scheduler(engine, max_waiting=max_waiting, turns=turns), builder))
    api_key = os.environ.get(API_KEY_VARIABLE) or None
    app = make_app(models, api_key=api_key, allowed_origins=allowed_origins)
    if api_key is None and not _is_loopback(host):
        click.echo(
            f"warning: {host} can be reached from other machines, and no API key is set. Set {API_KEY_VARIABLE}.",
            err=True,
        )
    if any(model.builder.tokenizer.prefix for model in models):
        click.echo(
            "note: texts are read after BOS, and prompts of token ids as they are. lm-evaluation-harness sends ids "
            f"without BOS: give it {HARNESS_PREFIX}/v1/completions, where they get BOS",
            err=True,
        )

    def announce(url: str) -> None:
        click.echo(f"{', '.join(names)} at {url}/v1; to try {'it' if len(names) == 1 else 'them'}, open {url}/ or run")
        click.echo(f"  {example_request(url, names[0], key_variable=api_key and API_KEY_VARIABLE)}")

    run_server(app, host=host, port=port, announce=announce)


def _find(run: Path, checkpoint: str = "last") -> Path:
    """Return the folder with the weights that RUN and `--checkpoint` select."""
    from gptzoo.checkpoint.model_folder import find_model_folder

    return find_model_folder(run, best=checkpoint == "best", step=checkpoint_step(checkpoint))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
