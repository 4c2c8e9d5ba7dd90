"""The model card of an exported model: the README.md that the Hugging Face Hub shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from gptzoo.publishing.exported_model import ExportedModel
from gptzoo.publishing.model_card import results_section, training_section
from gptzoo.publishing.private_paths import shorten_paths, shorten_paths_in
from gptzoo.publishing.published_run import PublishedRun
from gptzoo.spec.model import ModelSpec


def exported_card(
    name: str,
    spec: ModelSpec,
    exported: ExportedModel,
    *,
    n_parameters: int,
    dtype: str,
    has_tokenizer: bool,
    published: PublishedRun,
    averaged: bool,
    notes: Sequence[str],
) -> str:
    """Return the text of the card. Its licence is left to the user."""
    kind = "A language model with its own code and" if exported.code else f"A `{exported.family}` language model with"
    sections = [
        _front_matter(),
        f"# {name}",
        f"{kind} {n_parameters:,} parameters: {spec.n_layers} layers, width {spec.d_model}, "
        f"{spec.n_heads} heads, a context of {spec.context_length} tokens and a vocabulary of {spec.vocab_size:,} "
        f"tokens. The weights are in {dtype}. It was exported from gptzoo.",
        "## Use",
        *_usage(exported, has_tokenizer=has_tokenizer),
        *_training(published, averaged=averaged),
    ]
    if notes:
        sections += ["## Notes", "\n".join(f"- {shorten_paths_in(note)}." for note in notes)]
    sections += ["## Specification", f"```json\n{json.dumps(shorten_paths(spec.resolved()), indent=2)}\n```"]
    return "\n\n".join(sections) + "\n"


def _front_matter() -> str:
    return "\n".join(
        [
            "---",
            "# Add the licence before you publish the model, such as `license: apache-2.0`.",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags:",
            "- gptzoo",
            "---",
        ]
    )


def _usage(exported: ExportedModel, *, has_tokenizer: bool) -> Iterator[str]:
    path = '"PATH", trust_remote_code=True' if exported.code else '"PATH"'
    lines = ["```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    if not has_tokenizer:
        lines[1] = "from transformers import AutoModelForCausalLM"
    lines.append(f"model = AutoModelForCausalLM.from_pretrained({path})")
    if has_tokenizer:
        lines += [
            f"tokenizer = AutoTokenizer.from_pretrained({path})",
            'inputs = tokenizer("Once upon a time", return_tensors="pt")',
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))",
        ]
    yield "\n".join([*lines, "```"])
    yield f"`PATH` is this folder or its name on the Hub. The class is `{exported.architecture}`."
    if exported.code:
        files = " and ".join(f"`{name}`" for name in exported.code)
        yield (
            f"The model is the code in {files}. `trust_remote_code=True` runs it on your machine, with your rights. "
            "Read it before you load the model."
        )


def _training(published: PublishedRun, *, averaged: bool) -> Iterator[str]:
    if published.run is None:
        yield "## Training\n\nThe folder that the model was exported from does not say how it was trained."
        return
    yield training_section(published)
    if averaged:  # the metrics are those of the trained weights
        yield "The weights are an exponential moving average of the trained weights."
    else:
        yield from results_section(published)
