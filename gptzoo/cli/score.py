"""gptzoo score: how likely a model finds a text."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gptzoo.cli.options import json_option, model_options, plugin_option
from gptzoo.cli.inputs import read_model, read_text


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("text", required=False)
@click.option("--file", metavar="FILE|-", help="The text of a file, or of stdin, instead.")
@click.option("--tokens", is_flag=True, help="Also each token with its log-probability.")
@model_options
@json_option
@plugin_option
def score(
    run: Path,
    text: str | None,
    file: str | None,
    tokens: bool,
    checkpoint: str,
    averaged: bool,
    device: str,
    as_json: bool,
) -> None:
    """Say how likely the model in RUN finds TEXT: log-probability, loss, perplexity and bits per byte.

    The text is read as training reads it: from the token that ends the text before, if the tokenizer has one, and in
    windows of context_length. --json lists the log-probability of each token. `gptzoo eval` measures whole corpora.
    """
    from gptzoo.data.tokenizers.tokenizer import StreamDecoder
    from gptzoo.sampling.score import score_text
    from gptzoo.sampling.text import tokenizer_of

    if (text is None) == (file is None):
        raise click.UsageError("give a TEXT or a --file")
    loaded = read_model(run, checkpoint=checkpoint, averaged=averaged, device=device)
    found = score_text(loaded, read_text(file) if file is not None else text or "")
    numbers = {
        "log_probability": -found.nats,
        "loss": found.loss,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
        "n_tokens": found.n_tokens,
        "n_bytes": found.n_bytes,
    }
    if as_json:
        each = {"tokens": found.tokens, "log_probabilities": found.log_probabilities}
        click.echo(json.dumps({"model": str(loaded.folder), **numbers, **each}))
        return
    if tokens:
        decoder = StreamDecoder(tokenizer_of(loaded))
        for token, nats in zip(found.tokens, found.log_probabilities, strict=True):
            click.echo(f"{nats:10.4f}  {token:7d}  {decoder.feed(token)!r}")
    click.echo(f"log-probability  {-found.nats:.4f} nats, of {found.n_tokens:,} tokens and {found.n_bytes:,} bytes")
    click.echo(f"loss             {found.loss:.4f} nats per token")
    click.echo(f"perplexity       {found.perplexity:.4g}")
    click.echo(f"bits per byte    {found.bits_per_byte:.4f}")
