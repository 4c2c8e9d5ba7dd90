"""Text generation with a loaded model: text prompts in, text samples out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.generate import stream
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.text_stream import Sample, TextStream


def encode_prompt(loaded: LoadedModel, prompt: str, *, special_tokens: bool = False) -> list[int]:
    """Return the token ids of a prompt, as the model was trained to read a text.

    An empty prompt becomes the tokens that start a text: BOS if the tokenizer uses it, else the end-of-text token.

    special_tokens: read the name of a special token as that token with every tokenizer.

    Raises InputError for an empty prompt if the tokenizer has no end-of-text token.
    """
    tokenizer = tokenizer_of(loaded)
    if prompt_ids := tokenizer.encode_text(prompt, special_tokens=special_tokens):
        return prompt_ids
    if tokenizer.eot is None:
        raise InputError(f"tokenizer {tokenizer.name!r} has no token that starts a text. Give a --prompt.")
    return [tokenizer.eot]


def tokenizer_of(loaded: LoadedModel) -> Tokenizer:
    """Return the tokenizer of a model. Raises InputError if there is none."""
    if loaded.tokenizer is None:
        raise InputError(f"{loaded.folder}: has no tokenizer.json, so this model cannot be used with text")
    return loaded.tokenizer


def sample_texts(
    loaded: LoadedModel, prompts: Sequence[str], spec: SamplingSpec, n_samples: int = 1
) -> list[list[Sample]]:
    """Return `n_samples` samples of each prompt. A sample depends only on its prompt, its number and `spec`."""
    prompt_ids = [ids for prompt in prompts for ids in [encode_prompt(loaded, prompt)] * n_samples]
    samples = sample_ids(loaded, prompt_ids, spec, [*range(n_samples)] * len(prompts))
    return [samples[start : start + n_samples] for start in range(0, len(samples), n_samples)]


def sample_ids(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSpec,
    sample_numbers: Sequence[int] | None = None,
    *,
    draft: Architecture | None = None,
    n_draft_tokens: int = 0,
) -> list[Sample]:
    """Return one sample of each prompt of token ids, generated in one batch. Arguments are those of `gptzoo.stream`."""
    texts = [TextStream(tokenizer_of(loaded), spec) for _ in prompts]
    for events in stream(
        loaded.model,
        prompts,
        spec,
        loaded.tokenizer,
        sample_numbers=sample_numbers,
        draft=draft,
        n_draft_tokens=n_draft_tokens,
    ):
        for text, event in zip(texts, events, strict=True):
            if event is not None:
                text.feed(event)
    return [text.sample() for text in texts]


def best_samples(samples: Iterable[Sample], n: int = 1) -> list[Sample]:
    """Return the `n` samples with the highest mean log-probability per token, the best first."""
    return sorted(samples, key=lambda sample: -sample.mean_log_probability)[:n]
