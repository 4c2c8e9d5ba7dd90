"""gptzoo serve: a model behind OpenAI's completions endpoint."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import compile_option, dtype_option, model_options, plugin_option
from gptzoo.cli.reading import read_model

if TYPE_CHECKING:
    from gptzoo.sampling.weights.prepare import Weights

KEY = "GPTZOO_API_KEY"


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is the whole network.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--name", help="What clients call the model; the name of the folder RUN if left out.")
@click.option("--rows", type=click.IntRange(min=1), default=8, show_default=True, help="Texts written side by side.")
@click.option(
    "--max-length",
    type=click.IntRange(min=2),
    help="Tokens of a prompt and what is written after it; as far as the model reaches if left out.",
)
@click.option("--max-waiting", type=click.IntRange(min=0), default=64, show_default=True, help="Texts in the queue.")
@click.option("--max-body", type=click.IntRange(min=1), default=2**20, show_default=True, help="Bytes of a request.")
@click.option("--draft", type=click.Path(path_type=Path), metavar="RUN", help="A smaller model, to speculate with.")
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
    checkpoint: str,
    averaged: bool,
    device: str,
    dtype: Weights,
    compile: bool,
) -> None:
    """Answer OpenAI clients with the model in RUN, until Ctrl-C.

    POST /v1/completions, with streaming; requests share the model as they come. If the environment has GPTZOO_API_KEY,
    clients must give it. Needs gptzoo[serve].
    """
    from gptzoo.errors import InputError

    try:
        import starlette  # noqa: F401 (told here, before a model is loaded)
        import uvicorn
    except ImportError as error:
        raise InputError(f"gptzoo serve needs {error.name}: pip install 'gptzoo[serve]'") from None
    from gptzoo.sampling.engine.engine import Engine
    from gptzoo.sampling.strategies import check_draft
    from gptzoo.serving.app import make_app
    from gptzoo.serving.jobs import Jobs, Limits
    from gptzoo.serving.worker import Worker

    loaded = read_model(
        run,
        checkpoint=checkpoint,
        averaged=averaged,
        device=device,
        dtype=dtype,
        one_row=rows == 1 and draft is None,
        compile=compile,
    )
    reach = loaded.model.max_length
    if max_length is not None and reach is not None and max_length > reach:
        raise InputError(f"--max-length {max_length} is more than the {reach} that positions reach")
    drafting = None if draft is None else read_model(draft, device=device, dtype=dtype, compile=compile)
    if drafting is not None:
        check_draft(loaded, drafting)
    engine = Engine(
        loaded.model,
        loaded.tokenizer,
        n_rows=rows,
        max_length=max_length,
        draft=None if drafting is None else drafting.model,
    )
    jobs = Jobs(loaded, Limits(max_length=engine.max_length, max_body=max_body), drafting)
    key = os.environ.get(KEY) or None
    name = name or run.resolve().name
    app = make_app(Worker(engine, max_waiting=max_waiting), jobs, name=name, api_key=key)
    if key is None and not _is_loopback(host):
        click.echo(f"note: {host} is not this machine alone, and whoever reaches it may use it: set {KEY}", err=True)
    uvicorn.run(app, host=host, port=port, log_level="info", access_log=False)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
