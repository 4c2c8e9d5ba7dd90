"""The files that `gptzoo train` writes at the end of a run: loss.png and sample.txt."""

from __future__ import annotations

from pathlib import Path

from gptzoo.checkpoint.model_folder import load
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.text import encode_prompt, sample_texts, tokenizer_of
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.disk_errors import report_disk_errors
from gptzoo.training.run.metrics_file import read_metrics
from gptzoo.training.tracking.loss_curve import plot_loss_curve
from gptzoo.utils.atomic import write_text


def write_loss_curve(spec: RunSpec, run: Path) -> Path:
    """Plot the losses of a run to its loss.png and return the path. Needs matplotlib. Raises FolderError."""
    file = run / "loss.png"
    with report_disk_errors(file):
        plot_loss_curve(read_metrics(run / "metrics.jsonl"), spec.name, file)
    return file


def write_sample(spec: RunSpec, run: Path, example_prompt: str) -> str:
    """Generate text with the model of a run, write it to sample.txt and return it. Raises FolderError.

    example_prompt: the prompt if the spec has none.

    The text is never longer than the model supports, so that a run does not end with an error about its sample.
    """
    loaded = load(run)
    tokenizer = tokenizer_of(loaded)
    prompt = example_prompt if spec.sample.prompt is None else spec.sample.prompt
    n_prompt = len(encode_prompt(loaded, prompt))
    max_new_tokens = loaded.model.remaining_length(n_prompt)
    if max_new_tokens is None:
        max_new_tokens = max(0, loaded.spec.context_length - n_prompt)
    # In a stream of documents, the model may continue with the next document after a separator.
    stops_at_separator = spec.batching.component.whole_documents
    sampling = SamplingSpec.model_validate(
        {
            "max_new_tokens": min(spec.sample.max_new_tokens, max_new_tokens),
            "stop_tokens": (*tokenizer.separator(), *tokenizer.end_tokens) if stops_at_separator else (),
            "processors": [{"type": "temperature", "value": spec.sample.temperature}],
            "seed": spec.seed,
        }
    )
    ((sample,),) = sample_texts(loaded, [prompt], sampling)
    text = prompt + sample.text
    file = run / "sample.txt"
    with report_disk_errors(file):
        write_text(file, text + "\n")
    return text
