"""`gptzoo serve`: serve a model over OpenAI's completions API."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.inputs import read_chat_template, read_model
from gptzoo.cli.options import chat_template_option, compile_option, dtype_option, model_options, plugin_option

if TYPE_CHECKING:
    from gptzoo.sampling.inference_weights import WeightFormat

API_KEY_VARIABLE = "GPTZOO_API_KEY"


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for any free port."
)
@click.option("--name", help="Model name that clients use (default: the name of the folder RUN).")
@click.option("--rows", type=click.IntRange(min=1), default=8, show_default=True, help="Batch size: number of slots.")
@click.option(
    "--max-length",
    type=click.IntRange(min=2),
    help="Maximum tokens of a prompt and its completion (default: the model's maximum).",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="Maximum number of requested completions that wait for a slot.",
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
    help="Smaller draft model for speculative decoding.",
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
    run: Path,
    host: str,
    port: int,
    name: str | None,
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
    """Serve the model in RUN over OpenAI's completions and chat APIs until Ctrl-C.

    The endpoints are POST /v1/completions and, for models with a chat template, POST /v1/chat/completions, both with
    streaming. Concurrent requests share a batch. If the environment variable
    GPTZOO_API_KEY is set, clients must send it as their API key. Needs gptzoo[serve].
    """
    from gptzoo.errors import InputError

    try:  # before the model is loaded, so that a missing package is reported at once
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise InputError(f"gptzoo serve needs {error.name}: pip install 'gptzoo[serve]'") from None
    from gptzoo.sampling.engine.engine import Engine
    from gptzoo.sampling.strategies import check_draft_tokenizer
    from gptzoo.serving.app import check_origins, make_app
    from gptzoo.serving.endpoints import HARNESS_PREFIX
    from gptzoo.serving.request_builder import Limits, RequestBuilder
    from gptzoo.serving.scheduler import Scheduler

    check_origins(allowed_origins)
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
        raise InputError(f"--max-length {max_length} exceeds the {n_positions} positions of the model")
    draft_loaded = None if draft is None else read_model(draft, device=device, dtype=dtype, compile=compile)
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
    api_key = os.environ.get(API_KEY_VARIABLE) or None
    name = name or run.resolve().name
    scheduler = Scheduler(engine, max_waiting=max_waiting)
    app = make_app(scheduler, builder, name=name, api_key=api_key, allowed_origins=allowed_origins)
    if api_key is None and not _is_loopback(host):
        click.echo(
            f"warning: {host} can be reached from other machines, and no API key is set. Set {API_KEY_VARIABLE}.",
            err=True,
        )
    if loaded.tokenizer is not None and loaded.tokenizer.prefix:
        click.echo(
            "note: texts are read after BOS, and prompts of token ids as they are. lm-evaluation-harness sends ids "
            f"without BOS: give it {HARNESS_PREFIX}/v1/completions, where they get BOS",
            err=True,
        )
    uvicorn.run(app, host=host, port=port, log_level="info", access_log=False)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
