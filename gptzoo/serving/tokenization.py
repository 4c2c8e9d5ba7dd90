"""The tokenizer over HTTP, in the form of vLLM's `/tokenize`, `/detokenize` and `/tokenizer_info`."""

from __future__ import annotations

from typing import Any

from pydantic import NonNegativeInt

from gptzoo.data.chat.prompt import find_template
from gptzoo.errors import InputError
from gptzoo.sampling.text import encode_prompt
from gptzoo.serving.errors import RequestError
from gptzoo.serving.logprobs import token_bytes_of, token_text
from gptzoo.serving.request_builder import RequestBuilder
from gptzoo.strict_model import StrictModel

END_OF_TEXT = "<|endoftext|>"
"""The name of the end-of-text token in these endpoints, whatever the tokenizer calls it."""


class TokenizeRequest(StrictModel):
    """The body of `POST /tokenize`."""

    model: str | None = None
    """Name of the model, as /v1/models lists it. Required if the server has several models."""
    prompt: str
    """Text. The name of the end-of-text token alone, `<|endoftext|>`, stands for this token, unless `parse_special` is
    false."""
    add_special_tokens: bool | None = True
    """Add the tokens with which a completion starts its prompt, if the tokenizer has any. Default: true."""
    parse_special: bool | None = None
    """Read the name of a special token in the text as this token (true) or as plain text (false). Default: as a
    completion reads it, which is as text, unless the model was imported with a tokenizer that reads tokens."""
    return_token_strs: bool | None = False
    """Return the text of each token as well. Default: false."""


class DetokenizeRequest(StrictModel):
    """The body of `POST /detokenize`."""

    model: str | None = None
    """Name of the model, as /v1/models lists it. Required if the server has several models."""
    tokens: list[NonNegativeInt]
    """Token ids."""


START_OF_TEXT = "<|startoftext|>"
"""The name of BOS for an evaluation harness, whatever the tokenizer calls it."""


def tokenize(builder: RequestBuilder, body: TokenizeRequest, *, for_harness: bool = False) -> dict[str, Any]:
    """Return the token ids of a prompt. They are those that a completion of the same prompt reads.

    for_harness: lm-evaluation-harness always asks for no special tokens, and then scores the ids. Add BOS nevertheless
    if the model was trained with it, as the harness does for models of transformers.
    """
    tokenizer = builder.tokenizer
    try:
        if body.prompt == END_OF_TEXT and tokenizer.eot is not None and body.parse_special is not False:
            tokens = [tokenizer.eot]
        elif body.parse_special is not None:
            prefix = tokenizer.prefix if body.add_special_tokens else ()
            tokens = [*prefix, *tokenizer.encode_part(body.prompt, special=body.parse_special)]
        elif for_harness and body.prompt == START_OF_TEXT and tokenizer.prefix:
            tokens = list(tokenizer.prefix)
        elif body.prompt and (body.add_special_tokens or for_harness):
            tokens = encode_prompt(builder.loaded, body.prompt)
        else:
            tokens = list(tokenizer.encode_continuation(body.prompt))
    except InputError as error:
        raise RequestError(400, str(error), param="prompt") from None
    strings = [token_text(token_bytes_of(tokenizer, token)) for token in tokens] if body.return_token_strs else None
    max_length = builder.limits.max_length
    return {"count": len(tokens), "max_model_len": max_length, "tokens": tokens, "token_strs": strings}


def detokenize(builder: RequestBuilder, body: DetokenizeRequest) -> dict[str, Any]:
    """Return the text of token ids. Raises RequestError (400) for an id that the tokenizer does not have."""
    vocab_size = builder.tokenizer.vocab_size
    if unknown := [token for token in body.tokens if token >= vocab_size]:
        message = f"the tokenizer has no token {unknown[0]}, only 0 to {vocab_size - 1}"
        raise RequestError(400, message, param="tokens")
    return {"prompt": builder.tokenizer.decode(body.tokens)}


def tokenizer_info(builder: RequestBuilder, *, for_harness: bool = False) -> dict[str, Any]:
    """Return the tokenizer in the form of a tokenizer_config.json.

    for_harness: name BOS, so that lm-evaluation-harness scores a text without context after it.
    """
    tokenizer = builder.tokenizer
    return {
        "tokenizer_class": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "model_max_length": builder.limits.max_length,
        "eos_token": None if tokenizer.eot is None else END_OF_TEXT,
        "eos_token_id": tokenizer.eot,
        "bos_token": START_OF_TEXT if for_harness and tokenizer.prefix else None,
        "bos_token_id": next(iter(tokenizer.prefix), None),
        "pad_token": None,
        "unk_token": None,
        "add_bos_token": bool(tokenizer.prefix),
        "chat_template": None if builder.no_chat_reason else find_template(tokenizer, builder.chat_template),
    }
