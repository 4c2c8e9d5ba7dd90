"""`gptzoo score`: the likelihood of a text under a model."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.inputs import check_text, read_model, read_text
from gptzoo.cli.options import json_option, model_options, plugin_option, special_tokens_option
from gptzoo.utils.json_text import to_json


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("text", required=False)
@click.option("--file", metavar="FILE|-", help="File with the text, instead of TEXT; - for stdin.")
@click.option("--tokens", is_flag=True, help="Also print the log-probability of each token.")
@special_tokens_option
@model_options
@json_option
@plugin_option
def score(
    run: Path,
    text: str | None,
    file: str | None,
    tokens: bool,
    special_tokens: bool,
    checkpoint: str,
    averaged: bool,
    device: str,
    as_json: bool,
) -> None:
    """Print the log-probability, loss, perplexity and bits per byte of TEXT under the model in RUN.

    The text is read as in training: after BOS if the tokenizer uses it, else after an end-of-text token if it has one,
    and in windows of context_length tokens. --json includes the log-probability of each token. Use `gptzoo eval` for
    whole corpora.
    """
    from gptzoo.data.tokenizers.tokenizer import StreamDecoder
    from gptzoo.sampling.score import score_text
    from gptzoo.sampling.text import tokenizer_of

    if (text is None) == (file is None):
        raise click.UsageError("give either TEXT or --file")
    loaded = read_model(run, checkpoint=checkpoint, averaged=averaged, device=device)
    text = read_text(file) if file is not None else check_text(text or "", "TEXT")
    result = score_text(loaded, text, special_tokens=special_tokens)
    totals = {
        "log_probability": -result.nats,
        "loss": result.loss,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
        "n_tokens": result.n_tokens,
        "n_bytes": result.n_bytes,
    }
    if as_json:
        per_token = {"tokens": result.tokens, "log_probabilities": result.log_probabilities}
        click.echo(to_json({"model": str(loaded.folder), **totals, **per_token}))
        return
    if tokens:
        decoder = StreamDecoder(tokenizer_of(loaded))
        for token, log_probability in zip(result.tokens, result.log_probabilities, strict=True):
            click.echo(f"{log_probability:10.4f}  {token:7d}  {decoder.feed(token)!r}")
    size = f"{result.n_tokens:,} tokens, {result.n_bytes:,} bytes"
    click.echo(f"log-probability  {-result.nats:.4f} nats ({size})")
    click.echo(f"loss             {result.loss:.4f} nats per token")
    click.echo(f"perplexity       {result.perplexity:.4g}")
    click.echo(f"bits per byte    {result.bits_per_byte:.4f}")
