"""Warnings about the texts that variants were trained and measured on."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from outcomes import outcome, variant

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.data.held_out import Overlap

LOSSES = {"a": {1: 2.0, 2: 2.1}, "b": {1: 2.2, 2: 2.3}}
OVERLAP = Overlap(100, 0, 0, 0, False, 400, 20, 200, 1)


def outcome_of(
    specs: dict[str, dict[str, Any]] | None = None, records: dict[str, dict[str, Any]] | None = None, **options: Any
) -> Outcome:
    """Return an outcome of two variants with these specs and, for trials such as "a1", these records of their text."""
    variants = [variant(name, {"model.attention": name}, spec=(specs or {}).get(name, {})) for name in LOSSES]
    made = outcome(LOSSES, variants=variants, **options)
    trials = [replace(t, data=(records or {}).get(f"{t.variant}{t.seed}", {})) for t in made.trials]
    return replace(made, trials=trials)


def warnings(*arguments: Any, **options: Any) -> str:
    return "\n".join(warning.text for warning in analyse(outcome_of(*arguments, **options)).warnings)


def test_equal_texts_give_no_warning() -> None:
    record = {"data": "x", "held_out": {"text": "t"}, "overlap": asdict(OVERLAP)}
    spec = {"corpus": {"type": "stories"}, "tokenizer": {"type": "byte"}, "model": {"context_length": 8}}
    assert warnings({"a": spec, "b": spec}, dict.fromkeys(("a1", "a2", "b1", "b2"), record)) == ""
    assert warnings() == ""


def test_held_out_text_that_is_trained_on_is_a_warning() -> None:
    leaking = replace(OVERLAP, repeated_long_lines=50)
    shown = warnings(None, {name: {"overlap": asdict(leaking)} for name in ("a1", "a2", "b1")})
    assert "a, b: measured on text that is partly trained on" in shown
    assert "50 of 200 held-out lines of at least 50 characters" in shown
    assert warnings(None, {"a1": {"overlap": {"unknown": 1}}}) == ""  # of another version


def test_text_that_changed_between_the_trials_of_a_variant_is_a_warning() -> None:
    shown = warnings(None, {"a1": {"data": "x"}, "a2": {"data": "y"}, "b1": {"data": "x"}, "b2": {"data": "x"}})
    assert shown == "a: its trials were trained on different text, so their mean mixes data sets."


def test_unknown_texts_of_an_older_version_are_a_warning() -> None:
    shown = warnings({"a": {"corpus": {"type": "stories"}}, "b": {"corpus": {"type": "text"}}})
    assert "b: its corpus is not that of a, and an older version of gptzoo did not record the held-out texts" in shown
    mixed = {"a1": {"held_out": {"text": "t"}}, "b1": {"held_out": {"text": "t"}}}
    bits = {
        "metric": "val/bits_per_byte",
        "trials": [
            replace(t, rows=[{**row, "val/bits_per_byte": 1.0} for row in t.rows]) for t in outcome(LOSSES).trials
        ],
    }
    assert "older version of gptzoo, whose bits per byte also counted separators" in warnings(None, mixed, **bits)


def test_windows_of_unequal_length_are_a_warning_with_the_lengths() -> None:
    specs = {name: {"model": {"context_length": length}} for name, length in (("a", 8), ("b", 16))}
    (warning,) = analyse(outcome_of(specs)).warnings
    assert (warning.kind, warning.variants) == ("context length", ["b"])
    assert "evaluated in windows of its own length: 8 tokens for a, 16 tokens for b" in warning.text
    assert warnings({name: {"model": {"context_length": 8}} for name in "ab"}) == ""
    assert "windows" not in warnings(specs, metric="train/loss")  # it is not measured in windows of held-out text


def test_different_tokenizers_are_a_warning_with_their_names() -> None:
    specs = {name: {"tokenizer": {"type": of}} for name, of in (("a", "byte"), ("b", "char"))}
    tokenizers = [w for w in analyse(outcome_of(specs)).warnings if w.kind == "tokenizer"]
    assert [w.variants for w in tokenizers] == [["b"]]
    assert "byte of a, char of b. val/loss is per token" in tokenizers[0].text
    assert "val/bits_per_byte does not depend on the tokenizer" in warnings(specs, metric="val/bits_per_byte")
    assert "tokenizer" not in warnings({name: {"tokenizer": {"type": "byte"}} for name in "ab"})


def test_training_losses_of_different_texts_are_a_note_and_no_reason_to_doubt_the_verdict() -> None:
    analysis = analyse(outcome_of({name: {"corpus": {"type": "text", "path": name}} for name in "ab"}))
    assert any("train/loss is per token of each variant's own training text" in note for note in analysis.notes)
    assert not any("train/loss" in warning.text for warning in analysis.warnings)
    analysis = analyse(outcome_of({name: {"corpus": {"type": "stories"}} for name in "ab"}))
    assert not any("train/loss" in note for note in analysis.notes)
