"""Training and eval mode are compared without any dropout, that of a part within a part included."""

from __future__ import annotations

from gptzoo.registry import registered
from gptzoo.testing.properties.forward.side_effects import check_training_matches_eval, without_dropout
from gptzoo.testing.runner import put_under_test


def test_dropout_of_a_nested_part_is_turned_off() -> None:
    options = {"encoder_attention": {"type": "naive", "dropout": 0.5, "n_kv_heads": 2}, "embed_dropout": 0.5}
    subject = put_under_test(registered("architecture")["encoder_decoder"], options)
    config = without_dropout(subject, subject.config)
    nested = config.model_dump()["encoder_attention"]
    assert (nested["type"], nested["n_kv_heads"], nested["dropout"]) == ("naive", 2, 0.0)
    assert config.model_dump()["embed_dropout"] == 0.0
    check_training_matches_eval(subject)
