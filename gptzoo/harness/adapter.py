"""`HarnessModel`, a model of gptzoo as a model of lm-evaluation-harness. It needs the package `lm_eval`.

The results are those of the harness's own `hf` adapter on the same weights: the same tokens, the same left truncation
and the same windows of long texts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import model_registry
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from gptzoo.checkpoint.model_folder import LoadedModel, load
from gptzoo.data.chat.prompt import chat_text, find_template
from gptzoo.errors import InputError
from gptzoo.harness.sampling_options import sampling_spec
from gptzoo.sampling.generate import generate
from gptzoo.sampling.score import score_with_greedy
from gptzoo.sampling.text import tokenizer_of
from gptzoo.training.hardware.device import choose_device
from gptzoo.utils.transfer import widest_float

_log = logging.getLogger(__name__)
AUTO_ROWS = 64  # requests per batch with `auto`; scoring splits them further by memory
Pair = tuple[tuple[str, str] | None, list[int], list[int]]


class HarnessModel(TemplateLM):
    """A run, checkpoint or model folder, or a loaded model, as a model of the harness.

    pretrained: the folder, or the loaded model.
    max_length: tokens that the model reads at a time. Default: context_length.
    batch_size: sequences per forward pass, or "auto".
    add_bos_token: read texts after BOS. Default: if the model was trained so.
    prefix_token_id: the token before a text without context. Default: BOS, else the end-of-text token.
    """

    def __init__(
        self,
        pretrained: str | Path | LoadedModel,
        *,
        device: str | None = None,
        batch_size: int | str | None = "auto",
        max_batch_size: int | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        add_bos_token: bool = True,
        prefix_token_id: int | None = None,
        **unknown: object,
    ):
        super().__init__()
        if unknown:
            known = "max_length, max_gen_toks, add_bos_token, prefix_token_id"
            raise InputError(f"--model_args: unknown argument {min(unknown)!r}. Known arguments: {known}.")
        if not isinstance(pretrained, LoadedModel):
            pretrained = load(pretrained, device=choose_device(device or "auto"))
        self.loaded, self.model = pretrained, pretrained.model
        self.text_tokenizer = tokenizer_of(pretrained)
        self.batch_size = _batch_size(batch_size, max_batch_size)
        self.max_length = self._max_length(max_length)
        self.max_gen_toks = max_gen_toks
        self.add_bos_token = add_bos_token
        self._prefix_token_id = prefix_token_id
        self._template: str | None = None  # the default one

    def _max_length(self, given: int | None) -> int:
        limit = self.model.max_length
        if given is not None and not (isinstance(given, int) and given >= 1):
            raise InputError(f"max_length: expected a positive number of tokens, got {given!r}")
        if given is not None and limit is not None and given > limit:
            raise InputError(f"max_length {given} exceeds the {limit} positions of the model")
        if given is not None:
            return given
        context_length = self.model.spec.context_length
        return context_length if limit is None else min(limit, context_length)

    # ------------------------------------------------------------------ tokens

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token, or a newline if the tokenizer has none."""
        return self.text_tokenizer.separator()[0]

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that has no context."""
        if self._prefix_token_id is not None:
            return self._prefix_token_id
        tokenizer = self.text_tokenizer
        special_tokens = tokenizer.special_tokens
        bos = None if special_tokens is None else special_tokens.names.get("bos_token")
        if bos is not None and bos in tokenizer.special_token_names:
            return tokenizer.special_token_names[bos]
        return next(iter(tokenizer.prefix), self.eot_token_id)

    @property
    def tokenizer_name(self) -> str:
        """A name of the tokenizer for the harness's cache of requests."""
        return self.text_tokenizer.fingerprint()

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: object) -> list[int]:
        """Return the ids of a text, after BOS if the model was trained so. A text that names BOS gets no second one."""
        tokenizer = self.text_tokenizer
        adds_prefix = self.add_bos_token if add_special_tokens is None else add_special_tokens
        ids = list(tokenizer.encode_continuation(string))
        prefix = list(tokenizer.prefix)
        if not adds_prefix or (prefix and ids[: len(prefix)] == prefix):
            return ids
        return [*prefix, *ids]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the text of a chat. Without the generation prompt, it ends inside the last message."""

        def render(messages: list[dict[str, str]]) -> str:
            return chat_text(
                self.text_tokenizer, messages, template=self._template, continue_last=not add_generation_prompt
            )

        try:
            return render(chat_history)
        except InputError:
            others = [message for message in chat_history if message["role"] != "system"]
            if len(others) in (0, len(chat_history)):
                raise
            _log.warning("the chat template fails for these messages: they are read without the system message")
            return render(others)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Select a chat template by its name, or the default one, and return it. False selects none."""
        if not chat_template:
            return None
        special_tokens = self.text_tokenizer.special_tokens
        known = {} if special_tokens is None else special_tokens.chat_templates
        if isinstance(chat_template, str) and chat_template not in known:
            names = ", ".join(sorted(known)) or "none"
            raise InputError(
                f"--apply_chat_template: the model has no chat template {chat_template!r}. It has: {names}."
            )
        self._template = known[chat_template] if isinstance(chat_template, str) else None
        return find_template(self.text_tokenizer, self._template)

    # ------------------------------------------------------------------ likelihoods

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, **options: object
    ) -> list[tuple[float, bool]]:
        """Return for each pair the log-likelihood of the continuation, and if greedy decoding would choose it.

        A pair that is too long loses tokens from its left.
        """
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        results: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        with tqdm(total=len(rows), desc="Running loglikelihood requests", disable=disable_tqdm) as progress:
            for batch in _chunks(order, self.batch_size):
                for index, scored in zip(
                    batch, score_with_greedy(self.model, [rows[index] for index in batch]), strict=True
                ):
                    text, _, continuation = requests[index]
                    n = len(continuation)
                    if n:
                        total = scored.log_probabilities[-n:].to(widest_float(scored.log_probabilities.device)).sum()
                        results[index] = (float(total), bool(scored.is_greedy[-n:].all()))
                    if text is not None:  # a window of a long text has none
                        self.cache_hook.add_partial("loglikelihood", text, results[index])
                progress.update(len(batch))
        return results

    def _row(self, context: list[int], continuation: list[int]) -> list[int]:
        if len(continuation) > self.max_length:
            raise InputError(
                f"a continuation has {len(continuation)} tokens, and the model reads {self.max_length} at a time. "
                "Choose tasks with shorter answers."
            )
        return [*context, *continuation][-(self.max_length + 1) :]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each text, read in windows of `max_length` tokens."""
        windows: list[Pair] = []
        owners = []
        for number, request in enumerate(requests):
            for window in get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, context_len=1
            ):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        scores = self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm)
        for number, (log_likelihood, _) in zip(owners, scores, strict=True):
            totals[number] += log_likelihood
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    # ------------------------------------------------------------------ generation

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the text after each context, up to a stop string, an end token or `max_gen_toks` tokens.

        A context that leaves no room for the new tokens loses tokens from its left.
        """
        texts = [""] * len(requests)
        with tqdm(total=len(requests), desc="Running generate_until requests", disable=disable_tqdm) as progress:
            for options, indices in _by_options(requests):
                contexts = {index: self.tok_encode(requests[index].args[0]) for index in indices}
                indices.sort(key=lambda index: -len(contexts[index]))
                for batch in _chunks(indices, self.batch_size):
                    for index, text in zip(
                        batch, self._generate([contexts[index] for index in batch], options), strict=True
                    ):
                        texts[index] = text
                        self.cache_hook.add_partial("generate_until", requests[index].args, text)
                    progress.update(len(batch))
        return texts

    def _generate(self, contexts: Sequence[list[int]], options: Mapping[str, Any]) -> list[str]:
        arguments = dict(normalize_gen_kwargs(dict(options), self.max_gen_toks))
        until = [text for text in handle_stop_sequences(arguments.pop("until"), eos=None) if text]
        n_new = int(arguments.pop("max_gen_toks"))
        if n_new >= self.max_length:
            raise InputError(
                f"max_gen_toks {n_new} leaves no room for a prompt: the model reads {self.max_length} tokens. "
                "Give --gen_kwargs max_gen_toks=N with a smaller number."
            )
        spec = sampling_spec(arguments, n_new, until, self.text_tokenizer.end_tokens)
        prompts = [(ids or [self.prefix_token_id])[-(self.max_length - n_new) :] for ids in contexts]
        new_ids = generate(self.model, prompts, spec, self.text_tokenizer)
        return [postprocess_generated_text(self.text_tokenizer.decode(ids), until, None) for ids in new_ids]


def register_loaded(name: str, loaded: LoadedModel) -> None:
    """Register a loaded model under a name of the harness. A model that had the name before is replaced."""

    class Loaded(HarnessModel):
        def __init__(self, pretrained: str, device: str | None = None, **arguments: Any):  # noqa: ANN401  of any type
            super().__init__(loaded, **arguments)

    model_registry._objs.pop(name, None)  # the registry itself refuses to replace an entry
    model_registry.register(name, target=Loaded)


def _batch_size(given: int | str | None, maximum: int | None) -> int:
    if given is None or str(given).startswith("auto"):
        return AUTO_ROWS if maximum is None else min(AUTO_ROWS, int(maximum))
    if not str(given).isdecimal() or int(given) < 1:
        raise InputError(f"--batch_size: expected auto or a positive number, got {given!r}")
    return int(given)


def _by_options(requests: Iterable[Instance]) -> list[tuple[Mapping[str, Any], list[int]]]:
    """Group the indices of requests by their generation options."""
    groups: dict[str, tuple[Mapping[str, Any], list[int]]] = {}
    for index, request in enumerate(requests):
        options = request.args[1]
        groups.setdefault(repr(sorted(options.items())), (options, []))[1].append(index)
    return list(groups.values())


def _chunks(indices: Sequence[int], n: int) -> Iterable[Sequence[int]]:
    return (indices[start : start + n] for start in range(0, len(indices), n))
