"""The model card of a published model: README.md with metadata that the hub reads."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from gptzoo import __version__, registry
from gptzoo.data.corpora.presets.hub_corpus import HubCorpus
from gptzoo.publishing.private_paths import shorten_paths
from gptzoo.publishing.published_run import PublishedRun
from gptzoo.spec.components_in_spec import components_in
from gptzoo.spec.provenance import add_provenance

GENERATED_MARK = "<!-- gptzoo push generated this card and replaces it. Delete this line to keep your own text. -->"
_METRICS = {
    "val/loss": ("loss", "Loss, nats per token"),
    "val/bits_per_byte": ("bits_per_byte", "Bits per byte"),
    "val/perplexity": ("perplexity", "Perplexity per token"),
}


def model_card(published: PublishedRun, name: str, *, license: str | None = None) -> str:
    """Return the card of a model that is published as ORG/NAME.

    license: identifier of the model's license for the metadata, such as "apache-2.0".
    """
    sections = [
        _front_matter(published, name, license),
        GENERATED_MARK,
        f"# {name.partition('/')[2]}",
        f"A GPT with {published.n_parameters:,} parameters and a JSON spec, written by gptzoo {__version__}.",
        _usage(published, name),
        _model_section(published),
        *_training(published),
        "## Spec\n\nThe contents of `model.json`:\n\n" + _json_block(shorten_paths(add_provenance(published.spec))),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(published: PublishedRun, name: str, license: str | None) -> str:
    """Return the metadata as YAML. Each value is JSON, which is YAML, too."""
    corpora = list(_corpora(published.run_json.get("corpus")))
    values: dict[str, object] = {
        "library_name": "gptzoo",
        "pipeline_tag": "text-generation",
        "tags": ["gptzoo"],
        "license": license,
        "datasets": list(dict.fromkeys(filter(None, map(_repository, corpora)))),
        "model-index": _model_index(published, name, corpora),
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value]
    return "\n".join(["---", *lines, "---"])


def _model_index(published: PublishedRun, name: str, corpora: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    metrics = [
        {"type": kind, "name": label, "value": published.metrics[key]}
        for key, (kind, label) in _METRICS.items()
        if isinstance(published.metrics.get(key), int | float)
    ]
    if not metrics or not corpora:
        return []
    types = " and ".join(dict.fromkeys(str(corpus["type"]) for corpus in corpora))
    dataset = {"name": f"{types}, held-out text", "type": _repository(corpora[0]) or types}
    result = {"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics}
    return [{"name": name.partition("/")[2], "results": [result]}]


def _usage(published: PublishedRun, name: str) -> str:
    packages = sorted(
        {part.origin.distribution for part in components_in(published.spec)} - {"gptzoo"},
        key=lambda package: (package.startswith("file "), package),
    )
    needed, plugins, loading = "", "", ""
    if packages:
        listed = ", ".join(f"`{shorten_paths(package)}`" for package in packages)
        needed = f"It needs components of {listed}, besides gptzoo.\n\n"
        files = [shorten_paths(package).removeprefix("file ") for package in packages if package.startswith("file ")]
        plugins = "".join(f" --plugin {shlex.quote(file)}" for file in files)
        loading = "".join(f"gptzoo.load_plugin({json.dumps(file)})\n" for file in files)
    return (
        f"## Use\n\n{needed}```sh\ngptzoo pull {name} model{plugins}\n"
        f'gptzoo sample model{plugins} --prompt "Once upon a time"\n```\n\n'
        f'```python\nimport gptzoo\n\n{loading}model = gptzoo.load("model").model\n```'
    )


def _model_section(published: PublishedRun) -> str:
    dims, spec = published.spec.dims, published.spec
    rows: list[tuple[str, object]] = [
        ("Parameters", f"{published.n_parameters:,}"),
        ("Layers", dims.n_layers),
        ("Width (d_model)", f"{dims.d_model:,}"),
        ("Heads", f"{dims.n_heads} × {dims.d_head}"),
        ("Context length", f"{dims.context_length:,}"),
        ("Vocabulary", f"{dims.vocab_size:,}"),
    ]
    for part in components_in(spec):
        if part.path.count(".") == 1:
            origin = shorten_paths(str(part.origin))
            rows.append((part.path.removeprefix("$.").capitalize(), f"`{part.config.type}` ({origin})"))
    return "## Model\n\n" + _table(rows)


def _training(published: PublishedRun) -> Iterator[str]:
    if published.run is not None:
        yield training_section(published)
        yield "`run.json` has all options of the run."
        yield from results_section(published)


def training_section(published: PublishedRun) -> str:
    """Return the section on how the model was trained."""
    run, metrics, step = published.run_json, published.metrics, published.step
    rows: list[tuple[str, object]] = [(f"Corpus `{c['type']}`", _source(c)) for c in _corpora(run.get("corpus"))]
    rows += [
        ("Tokenizer", f"`{_type(run.get('tokenizer'))}`"),
        ("Optimizer", f"`{_type(run.get('optimizer'))}`"),
        ("Schedule", f"`{_type(run.get('schedule'))}`"),
        ("Steps", f"{step:,}" if step is not None else "unknown"),
        ("Batch size", f"{run.get('batch_size')} sequences"),
    ]
    if (tokens := metrics.get("tokens")) is not None:
        rows.append((f"Training tokens at step {metrics['step']:,}", f"{tokens:,}"))
    rows += [
        (label, f"`{published.environment[key]}`")
        for key, label in (("gptzoo", "gptzoo"), ("torch", "PyTorch"), ("device", "Device"))
        if key in published.environment
    ]
    return "## Training\n\n" + _table(rows)


def results_section(published: PublishedRun) -> Iterator[str]:
    """Yield the section on the newest evaluation, if there is one."""
    metrics = published.metrics
    if values := [
        (label, f"{metrics[key]:.4f}") for key, (_, label) in _METRICS.items() if metrics.get(key) is not None
    ]:
        held_out = published.environment.get("held_out")
        of = f" of {held_out['bytes']:,} bytes" if isinstance(held_out, Mapping) and "bytes" in held_out else ""
        text = f"On the held-out text{of}, at step {metrics['step']:,}:"
        if isinstance(held_out, Mapping) and "text" in held_out:
            text += f"\n\n{_table([*values, ('SHA-256 of the held-out text', '`' + str(held_out['text']) + '`')])}"
        else:
            text += f"\n\n{_table(values)}"
        yield "## Results\n\n" + text


def _corpora(corpus: object) -> Iterator[Mapping[str, Any]]:
    """Yield the corpora that a corpus consists of, or the corpus itself."""
    if isinstance(corpus, str):
        corpus = {"type": corpus}
    if not isinstance(corpus, Mapping):
        return
    parts = [part.get("corpus") for part in corpus.get("parts") or () if isinstance(part, Mapping)]
    parts += [corpus[key] for key in ("train", "val") if isinstance(corpus.get(key), Mapping | str)]
    if not parts:
        yield corpus
    for part in parts:
        yield from _corpora(part)


def _repository(corpus: Mapping[str, Any]) -> str | None:
    """Return the name of a corpus' dataset on the hub, or None."""
    component = registry.current().of_kind("corpus").get(str(corpus.get("type")))
    if component is not None and issubclass(component, HubCorpus):
        return component.repository
    path = corpus.get("path")
    on_hub = corpus.get("type") == "hf" and isinstance(path, str) and path.count("/") == 1 and not path.startswith("/")
    return str(path) if on_hub else None


def _source(corpus: Mapping[str, Any]) -> str:
    """Return the source, license and options of a corpus."""
    options = {key: value for key, value in corpus.items() if key != "type" and value is not None}
    notes = []
    if repository := _repository(corpus):
        notes.append(f"https://huggingface.co/datasets/{repository}")
    component = registry.current().of_kind("corpus").get(str(corpus.get("type")))
    if license := getattr(component, "license", ""):
        notes.append(f"license {license}")
    notes.append(f"`{json.dumps(shorten_paths(options), ensure_ascii=False)}`")
    return ", ".join(notes)


def _type(component: object) -> str:
    return str(component.get("type")) if isinstance(component, Mapping) else str(component)


def _table(rows: list[tuple[str, object]] | list[tuple[str, str]]) -> str:
    cells = [(label, str(value).replace("|", "\\|").replace("\n", " ")) for label, value in rows]
    return "\n".join(["| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in cells)])


def _json_block(value: object) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"
