"""Logits processors: temperature, truncation, penalties, constraints and grammars."""
