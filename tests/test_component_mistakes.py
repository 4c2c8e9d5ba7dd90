"""The usual mistakes of component authors are errors that show the lines to write, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import admit, small
from torch import Tensor, nn

import gptzoo
import gptzoo.testing
from gptzoo import PluginError, registry

pytestmark = pytest.mark.usefixtures("fresh_registry")


class FillsInConstructor(gptzoo.SdpaAttention):
    """Draws its parameter in the constructor, as everybody does."""

    name = "fills_in_constructor"

    def __init__(self, config: Any, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.w = nn.Parameter(torch.randn(dims.n_heads, 3))
        self.register_buffer("table", torch.arange(4))


def test_a_parameter_filled_in_the_constructor_gets_the_lines_that_fill_it() -> None:
    admit(FillsInConstructor)
    with pytest.raises(PluginError) as caught:
        gptzoo.build(small(attention="fills_in_constructor"))
    message = str(caught.value)
    assert "blocks.0.attention.w, blocks.1.attention.w, blocks.0.attention.table" in message
    assert "self.w = nn.Parameter(torch.empty(4, 3))  # in FillsInConstructor.__init__" in message
    assert 'nn.init.normal_(self.w, std=0.02, generator=rng("w"))' in message
    assert "super().initialise(rng)" in message  # the base class fills its sinks there


def test_the_shown_lines_are_the_mend() -> None:
    admit(FillsInConstructor)
    with pytest.raises(PluginError) as caught:
        gptzoo.build(small(attention="fills_in_constructor"))
    declared, method = str(caught.value).split("\n\n")[1:3]
    source = f"""
class Mended(gptzoo.SdpaAttention):
    '''The same, with the lines of the message.'''

    name = "mended"

    def __init__(self, config, dims):
        super().__init__(config, dims)
    {declared}

{method}
"""
    scope: dict[str, Any] = {"gptzoo": gptzoo, "nn": nn, "torch": torch}
    exec(source, scope)
    admit(scope["Mended"])
    model = gptzoo.build(small(attention="mended"))
    assert 0.001 < model.get_parameter("blocks.0.attention.w").std() < 0.1


PLUGIN = """
import gptzoo
from torch import nn

class Mine(gptzoo.FeedForward):
    '''One layer.'''
    name = "mine"

    def __init__(self, {arguments}):
        super().__init__({passed})
        self.up = nn.Linear(8, 8)
        {more}

    def forward(self, x, context, state=None):
        return self.up(x)

@gptzoo.hookimpl
def gptzoo_components():
    return [Mine]
"""


@pytest.mark.parametrize("arguments", ["dims", "config", "config, dims, width", "*, config, dims"])
def test_a_wrong_signature_of_a_constructor_is_refused_with_the_right_one(arguments: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(arguments=arguments, passed="config, dims", more=""))
    with pytest.raises(
        PluginError, match=r"Write: def __init__\(self, config, dims\): super\(\).__init__\(config, dims\)"
    ):
        gptzoo.load_plugin(tmp_path / "mine.py")


@pytest.mark.parametrize("arguments", ["config, dims", "*arguments", "config, dims, width=3", "options, /, sizes"])
def test_other_names_and_defaults_are_accepted(arguments: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(arguments=arguments, passed="", more=""))
    gptzoo.load_plugin(tmp_path / "mine.py")
    assert "mine" in registry.registered("ffn")


def test_check_says_once_that_a_component_cannot_be_built(tmp_path: Path) -> None:
    more = "self.w = nn.Parameter(self.up.weight.new_ones(3))"
    (tmp_path / "mine.py").write_text(PLUGIN.format(arguments="config, dims", passed="config, dims", more=more))
    gptzoo.load_plugin(tmp_path / "mine.py")
    first, *others = gptzoo.testing.check("ffn:mine")
    assert first.outcome == "failed"
    assert "blocks.0.ffn.w, blocks.1.ffn.w: not initialised" in first.text
    assert {(verdict.outcome, "see building" in verdict.text) for verdict in others} == {("skipped", True)}


class WithoutWeights(gptzoo.SdpaAttention):
    """Forgets the second value that attend() returns."""

    name = "without_weights"

    def attend(self, *args: Any) -> Any:
        return super().attend(*args)[0]


def test_check_says_once_what_attend_returns() -> None:
    admit(WithoutWeights)
    first, *others = gptzoo.testing.check("attention:without_weights")
    assert first.outcome == "failed"
    assert "attend() returns a tensor; expected a tuple" in first.text
    assert "Write: return y, None" in first.text
    assert {(verdict.outcome, "see building" in verdict.text) for verdict in others} == {("skipped", True)}


def test_a_sublayer_output_used_as_a_tensor_says_where_the_tensor_is() -> None:
    output, tensor = gptzoo.SublayerOutput(torch.ones(2)), torch.ones(2)
    for use in (lambda: output * tensor, lambda: tensor * output, lambda: output + 1, lambda: 2 * output):
        with pytest.raises(TypeError, match="its tensor is `y`"):
            use()
    with pytest.raises(AttributeError, match=r"no attribute 'shape'.*its tensor is `y`"):
        output.shape  # noqa: B018
    y, *_ = output  # it is a tuple still
    assert torch.equal(y, tensor)
    assert output._replace(y=2 * tensor).y.sum() == 4


def test_an_override_of_attend_that_does_not_know_the_input_runs_as_it_is() -> None:
    class OldAttention(gptzoo.MultiHeadAttention):
        """Attends with torch's kernel, and has the gate of the base class."""

        name = "old_attention"

        def attend(
            self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
        ) -> tuple[Tensor, Tensor | None]:
            mask = context.attention_mask(k_pos, self.window)
            return nn.functional.scaled_dot_product_attention(q, k, v, mask), None

    admit(OldAttention)
    old, sdpa = (gptzoo.build(small(attention={"type": t, "gate": True})).eval() for t in ("old_attention", "sdpa"))
    tokens = torch.randint(7, (2, 5))
    torch.testing.assert_close(old(tokens)[0], sdpa(tokens)[0])


def test_a_path_in_the_options_of_a_component_is_beside_the_file_of_the_spec(tmp_path: Path) -> None:
    class Table(gptzoo.Activation):
        """Reads its values from a file."""

        name = "table"

        class Config(gptzoo.Activation.Config):
            file: gptzoo.PathOption
            """File of the values."""

    admit(Table)
    for folder in ("models", "runs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "models" / "values.csv").write_text("1")
    model = "context_length: 8\nd_model: 8\nn_layers: 1\nn_heads: 2\nactivation: {type: table, file: values.csv}\n"
    (tmp_path / "models" / "model.yaml").write_text(model)
    (tmp_path / "runs" / "run.yaml").write_text(
        "model: ../models/model.yaml\ntokenizer: byte\ncorpus: stories\nsteps: 1\n"
    )
    expected = str((tmp_path / "models" / "values.csv").resolve())
    assert gptzoo.load_model_spec(tmp_path / "models" / "model.yaml").activation.file == expected
    run = gptzoo.load_run_spec(tmp_path / "runs" / "run.yaml")
    assert run.model.activation.file == expected
