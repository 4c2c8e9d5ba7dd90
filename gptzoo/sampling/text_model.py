"""`TextModel`, a loaded model that generates text, and `load`, the public function that returns one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import torch

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.checkpoint.model_folder import load as load_model
from gptzoo.sampling import DEFAULT_TEMPERATURE
from gptzoo.sampling.spec import SamplingSource, read_sampling
from gptzoo.sampling.strategies import Sampling
from gptzoo.sampling.text import tokenizer_of
from gptzoo.sampling.text_stream import Sample

_DEFAULT = {"processors": [{"type": "temperature", "value": DEFAULT_TEMPERATURE}]}


class TextModel(LoadedModel):
    """A model in eval mode, loaded from a folder, with its tokenizer if the folder has one.

    `loaded.model` is the torch module and `loaded.tokenizer` its tokenizer. `loaded.generate("text")` continues a text.
    """

    def generate(self, prompt: str | Sequence[int] = "", spec: SamplingSource | None = None) -> str:
        """Return the text that the model generates after a prompt, as `gptzoo sample` does.

        prompt: A text, or token ids such as those of `chat_prompt`. Default: start a new text.
        spec: A sampling spec, its JSON as a dict such as `{"max_new_tokens": 20}`, or the path of its file. Default:
            temperature 0.8. The end-of-text token ends the text unless the spec sets `stop_tokens` or `ignore_eos`.

        Raises InputError for a model without tokenizer, and for a prompt or a length that the model does not support.
        """
        return self._strategy(spec).samples(prompt)[0].text

    def stream(
        self, prompt: str | Sequence[int] = "", spec: SamplingSource | None = None
    ) -> Generator[str, None, Sample]:
        """Yield the text of `generate` in pieces of whole characters, as soon as each is final."""
        return self._strategy(spec).stream(prompt)

    def _strategy(self, source: SamplingSource | None) -> Sampling:
        spec = read_sampling(_DEFAULT if source is None else source)
        fit_length = "max_new_tokens" not in spec.model_fields_set
        if "stop_tokens" not in spec.model_fields_set and not spec.ignore_eos:
            spec = spec.model_copy(update={"stop_tokens": tokenizer_of(self).end_tokens})
        return Sampling(self, spec, fit_length=fit_length)


def load(
    path: str | Path, *, device: torch.device | str = "cpu", best: bool = False, averaged: bool = False
) -> TextModel:
    """Load a model from a model folder, a checkpoint, or the newest valid checkpoint of a run folder.

    device: where to put the model.
    best: from a run folder, load the checkpoint with the lowest validation loss instead of the newest.
    averaged: load the exponential moving average of the weights instead of the weights.

    Raises FolderError if a file is missing or damaged, SpecError if the spec needs a plugin that is not installed, and
    InputError for a model that needs more memory than there is.
    """
    loaded = load_model(path, device=device, best=best, averaged=averaged)
    return TextModel(loaded.model, loaded.tokenizer, loaded.folder)
