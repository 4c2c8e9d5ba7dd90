"""`gptzoo push`: upload a model or a run to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.options import checkpoint_option, checkpoint_step, plugin_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("name", metavar="ORG/NAME")
@checkpoint_option
@click.option("--state", is_flag=True, help="Push the run with its optimizer state, so that it can be resumed.")
@click.option("--private", is_flag=True, help="Create a private repository. An existing one keeps its visibility.")
@click.option("--license", help="License of the model for the model card, such as apache-2.0.")
@click.option("--message", help="Commit message (default: name and step of the model).")
@plugin_option
def push(
    run: Path, name: str, checkpoint: str, state: bool, private: bool, license: str | None, message: str | None
) -> None:
    """Upload the model of RUN to the Hugging Face Hub as ORG/NAME, with a model card.

    RUN is a run folder, a checkpoint or a model folder. The repository is created if it does not exist. The model card
    has the spec, the data, the validation loss in bits per byte, and how to load the model. A card without the comment
    at its beginning is yours and is kept. Folder names and the host are left out of the records. Log in first with `hf
    auth login`, or set HF_TOKEN.
    """
    from gptzoo.publishing.push import push as push_run
    from gptzoo.utils.units import scaled

    result = push_run(
        run,
        name,
        best=checkpoint == "best",
        step=checkpoint_step(checkpoint),
        with_state=state,
        private=private,
        license=license,
        message=message,
    )
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"pushed    {result.n_files} files, {scaled(result.n_bytes)}B, commit {result.commit}", err=True)
    click.echo(result.url)
