"""Text constrained by a regular expression or a JSON schema, from untrained models, with every tokenizer."""

from __future__ import annotations

import functools
import json
import random
import re
import sys
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from logits import NEVER, processor
from support import needs_tiktoken_files

import gptzoo
from gptzoo import TokenSequence
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.reference import Reference

TRAINING = ["abc 0123456789 -.\n", 'éß€日本🦊 {}[]:,"\\ true false null name tags', "red green blue naïve ef xyz"] * 3
every_tokenizer = pytest.mark.parametrize(
    "kind", ["byte", "char", "bpe", pytest.param("tiktoken", marks=needs_tiktoken_files)]
)


@functools.cache
def fitted(kind: str) -> Tokenizer:
    config = Reference("tokenizer").validate({"type": kind, **({"vocab_size": 300} if kind == "bpe" else {})})
    return config.build(config.component.fit(config, iter(TRAINING)))


@functools.cache
def build_model(vocab_size: int) -> Any:
    spec = {"vocab_size": vocab_size, "context_length": 64, "d_model": 8, "n_layers": 1, "n_heads": 2}
    return gptzoo.build({**spec, "positional": "rope"}, seed=3)


def generate_texts(kind: str, n_rows: int, n_new: int, *processors: dict[str, Any], n_spare: int = 0) -> list[str]:
    """Generate texts with an untrained model. Each sample has its own random stream."""
    tokenizer = fitted(kind)
    spec = gptzoo.SamplingSpec.model_validate({"max_new_tokens": n_new, "processors": processors})
    prompts = [list(tokenizer.encode("a"))] * n_rows
    rows = gptzoo.generate(build_model(tokenizer.vocab_size + n_spare), prompts, spec, tokenizer)
    assert all(len(row) < n_new for row in rows), "the grammar should end before the maximum length"
    return [tokenizer.decode(row) for row in rows]


PATTERNS = [
    r"[a-c]{2,5}( \d{1,3})?x?",
    r"(é|日本|🦊){1,3}[ab]*?ef",
    r"-?\d{1,4}(\.\d{1,3})?\n",
    r"[^a-z]{3}",
    r"(red|green|blue)(,(red|green|blue)){0,2}",
    r".{5}",
    "",
]


@every_tokenizer
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_text_matches_the_whole_pattern(kind: str, pattern: str) -> None:
    likely = {
        "type": "logit_bias",
        "biases": {str(t): 3.0 for t in fitted(kind).encode("ef\n")},
    }  # so that the text ends
    texts = generate_texts(kind, 6 if kind == "tiktoken" else 40, 120, {"type": "regex", "pattern": pattern}, likely)
    assert [text for text in texts if not re.fullmatch(pattern, text)] == []
    assert len(set(texts)) > 1 or pattern == ""


SCHEMAS = [
    {"type": "integer", "minimum": -5, "maximum": 300},
    {"enum": ["red", "é日本", None, True, 7]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 4},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/colour"}, "maxItems": 2},
            "naïve": {"type": "number", "minimum": 0, "maximum": 9, "multipleOf": 0.5},
        },
        "required": ["name", "tags"],
        "additionalProperties": False,
        "$defs": {"colour": {"enum": ["red", "green", "blue"]}},
    },
    {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[ab]{2}c?$"}]},
]


@every_tokenizer
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: str(next(iter(schema.values())))[:12])
def test_every_value_is_valid_under_the_schema(kind: str, schema: dict[str, Any]) -> None:
    texts = generate_texts(kind, 6 if kind == "tiktoken" else 40, 150, {"type": "json_schema", "definition": schema})
    for text in texts:
        jsonschema.validate(json.loads(text), schema)
    assert len(set(texts)) > 1


@pytest.mark.parametrize("whitespace", [False, True])
def test_whitespace_is_generated_only_if_allowed(whitespace: bool) -> None:
    config = {"type": "json_schema", "definition": SCHEMAS[2], "whitespace": whitespace}
    texts = generate_texts("byte", 20, 400, config)
    assert any(re.search(r"\s", text) for text in texts) == whitespace
    assert all(jsonschema.validate(json.loads(text), SCHEMAS[2]) is None for text in texts)


@every_tokenizer
@pytest.mark.parametrize("pattern", [r"(ab|ba)*c?", r"é{1,2}|日本*"])
def test_a_token_is_possible_exactly_if_it_can_continue_the_text(kind: str, pattern: str) -> None:
    """Compare with the partial matches of the library `regex`, for every token that ends at a character boundary."""
    partial = pytest.importorskip("regex").compile(pattern)
    tokenizer, process = fitted(kind), processor("regex", fitted(kind), pattern=pattern)
    chosen = random.Random(0)
    for _ in range(1 if kind == "tiktoken" else 5):
        row = TokenSequence(list(tokenizer.encode("zero" if kind != "char" else "ef")), 0)
        row.prompt_length = len(row.tokens)
        for _ in range(8):
            before = tokenizer.decode_bytes(row.new)
            possible = process(torch.zeros(1, tokenizer.vocab_size), [row])[0] > NEVER
            if process.finished(row):
                assert partial.fullmatch(before.decode())
                break
            for token, can in enumerate(possible.tolist()):
                try:
                    text = (before + tokenizer.decode_bytes([token])).decode()
                except UnicodeDecodeError:
                    continue  # the token ends inside a character
                if token == tokenizer.eot:
                    assert can == bool(partial.fullmatch(text))
                elif text.encode() == before:
                    assert not can  # another special token
                else:
                    assert can == bool(partial.fullmatch(text, partial=True)), text
            row.tokens.append(
                chosen.choice([t for t, can in enumerate(possible.tolist()) if can and t != tokenizer.eot])
            )


def test_sequences_may_be_reordered_cloned_and_rolled_back() -> None:
    """The states cached in one step must not change the result of another."""
    tokenizer, pattern = fitted("bpe"), r"(ab|ba){2,6}c"
    process, logits = processor("regex", tokenizer, pattern=pattern), torch.zeros(1, tokenizer.vocab_size)
    chosen, texts = random.Random(1), [()]
    for _ in range(60):
        new = list(chosen.choice(texts))
        row = TokenSequence([5, *new], 1)
        result = process(logits, [row])
        assert torch.equal(result, processor("regex", tokenizer, pattern=pattern)(logits, [row]))
        assert process.finished(row) == processor("regex", tokenizer, pattern=pattern).finished(row)
        possible = np.flatnonzero(result[0].numpy() > NEVER).tolist()
        texts.append((*new, chosen.choice(possible)))


def test_spare_token_ids_of_a_model_are_never_generated() -> None:
    texts = generate_texts("byte", 20, 30, {"type": "regex", "pattern": "[a-c]{9}"}, n_spare=40)
    assert all(re.fullmatch("[a-c]{9}", text) for text in texts)


def test_the_logits_of_a_finished_sequence_do_not_change() -> None:
    tokenizer = fitted("byte")
    process, logits = processor("regex", tokenizer, pattern="ab"), torch.randn(1, 257)
    for new in ([97, 98], [97, 98, 256], [97, 98, 256, 120], [120]):
        assert torch.equal(process(logits, [TokenSequence([1, *new], 1)]), logits)
        assert process.finished(TokenSequence([1, *new], 1))
    assert not process.finished(TokenSequence([1, 97], 1))


def test_greedy_decoding_chooses_among_the_allowed_tokens() -> None:
    tokenizer = fitted("byte")
    model = gptzoo.build(
        {"vocab_size": 257, "context_length": 64, "d_model": 8, "n_layers": 1, "n_heads": 2}, seed=3
    ).eval()
    config = [{"type": "regex", "pattern": "[xyz]{5}"}, {"type": "temperature", "value": 0.0}]
    spec = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 20, "processors": config})
    ids = [97]
    with torch.inference_mode():
        for _ in range(5):
            ids.append(max(b"xyz", key=lambda token: model(torch.tensor([ids]))[0][0, -1, token].item()))
    assert gptzoo.generate(model, [[97]], spec, tokenizer) == [ids[1:]]


def test_alternatives_outside_the_alphabet_are_never_started() -> None:
    config = {"type": "regex", "pattern": "aQ{3}|bc|cW"}  # 'char' has no Q and no W
    assert set(generate_texts("char", 20, 10, config)) == {"bc"}
    with pytest.raises(InputError, match="no token of tokenizer 'char' can continue ''"):
        generate_texts("char", 1, 10, {"type": "regex", "pattern": "Q+"})


def test_a_property_name_outside_the_alphabet_is_an_error_when_it_is_reached() -> None:
    schema = {"type": "object", "properties": {"Q": {"type": "null"}}, "required": ["Q"], "additionalProperties": False}
    with pytest.raises(
        InputError, match=r"""'json_schema': no token of tokenizer 'char' can continue '{"'.*all bytes"""
    ):
        generate_texts("char", 1, 20, {"type": "json_schema", "definition": schema})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"type": "regex", "pattern": "a("}, "'regex': unclosed group"),
        ({"type": "regex", "pattern": "a(?=b)"}, "'regex': look-around, .* is not supported"),
        ({"type": "regex", "pattern": r"(a)\1"}, "'regex': backreferences are not supported"),
        ({"type": "json_schema", "definition": {"type": "foo"}}, "'json_schema': .*Invalid type: foo"),
        ({"type": "json_schema", "definition": {"not": {}}}, r"""Unimplemented keys: \["not"\]"""),
        ({"type": "json_schema", "definition": {"enum": []}}, "Unsatisfiable schema"),
        ({"type": "json_schema", "definition": {"$ref": "#/x"}}, "Pointer '/x' does not exist"),
    ],
)
def test_unsupported_grammars_are_rejected_before_the_first_token(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        generate_texts("byte", 1, 5, options)
    assert "llguidance" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_tokenizer_or_library_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'regex' works on text and needs the model's tokenizer"):
        processor("regex", pattern="a")
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InputError, match=r"pip install 'gptzoo\[grammar\]'"):
        processor("json_schema", fitted("byte"))


DISGUISED: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
        ['{"a":1}', '{"a":1,"b":"x"}', '{"a":1,"\\u0061":"x"}', '{"\\u0061":"x"}', '{"b":"x","\\u0061":"x"}'],
    ),
    (
        {"properties": {"\n": {"type": "integer"}, '"': {"type": "integer"}}, "additionalProperties": {"type": "null"}},
        ['{"\\n":1}', '{"\\u000a":null}', '{"\\u000A":null}', '{"\\u0022":null}', '{"b":null}'],
    ),
    (
        {"patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
        ['{"ab":1}', '{"\\u0061b":"x"}', '{"b":"x"}'],
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
            "required": ["a", "b"],
            "minProperties": 3,
        },
        [
            '{"a":null,"b":null,"c":1}',
            '{"a":null,"b":null,"b":1}',
            '{"a":null,"b":null,"\\u0061":1}',
            '{"a":null,"b":null}',
        ],
    ),
]


@pytest.mark.parametrize(("schema", "texts"), DISGUISED, ids=range(len(DISGUISED)))
def test_a_text_that_the_grammar_allows_is_valid_however_its_keys_are_spelt(
    schema: dict[str, Any], texts: list[str]
) -> None:
    n_allowed = 0
    for text in texts:
        matcher = processor("json_schema", fitted("byte"), definition=schema).matcher.deep_copy()
        tokens = list(fitted("byte").encode(text))
        if matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting():
            n_allowed += 1
            jsonschema.validate(json.loads(text), schema)
    assert n_allowed


@pytest.mark.parametrize(
    "schema",
    [
        {"minProperties": 2},
        {
            "type": "object",
            "minProperties": 2,
            "required": ["a", "b"],
        },  # not described, so another key may be one of them
        {"type": "array", "items": {"anyOf": [{"type": "null"}, {"minProperties": 3, "properties": {"a": {}}}]}},
        {"$defs": {"x": {"minProperties": 5}}, "$ref": "#/$defs/x"},
    ],
)
def test_keys_that_a_text_could_repeat_are_not_counted(schema: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="could repeat a key"):
        processor("json_schema", fitted("byte"), definition=schema)


def test_data_that_looks_like_a_keyword_is_allowed() -> None:
    for schema in ({"const": {"minProperties": 9}}, {"properties": {"minProperties": {"type": "integer"}}}):
        assert processor("json_schema", fitted("byte"), definition=schema).config.definition == schema


def test_a_schema_without_any_text_is_refused_by_this_reason() -> None:
    endless = processor("json_schema", fitted("byte"), definition={"$ref": "#"})
    with pytest.raises(InputError, match="no text matches it"):
        endless(torch.zeros(1, 257), [TokenSequence([65], 1)])
