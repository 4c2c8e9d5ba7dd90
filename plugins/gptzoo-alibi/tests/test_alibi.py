"""ALiBi compared with the paper, and in a model: with both attentions, a cache, padding and training."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import gptzoo_alibi
import pytest
import torch
from gptzoo_alibi import Alibi, slopes
from torch import Tensor

import gptzoo

SMALL: dict[str, Any] = {
    "vocab_size": 13,
    "context_length": 16,
    "d_model": 24,
    "n_layers": 2,
    "n_heads": 4,
    "positional": "alibi",
}


def model_of(**changes: Any) -> Any:
    """Build a tiny model with weights so large that attention is far from uniform."""
    model = gptzoo.build({**SMALL, **changes}).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    return model


def tokens_of(length: int) -> Tensor:
    return torch.randint(13, (2, length), generator=torch.Generator().manual_seed(1))


def slopes_of_the_paper(n: int) -> list[float]:
    """Return the slopes by section 3 of the paper and its footnote.

    They are 2^(-8k/n) for a power of two, else those of the lower power of two and odd steps of the higher one.
    """
    if n & (n - 1) == 0:
        return [2.0 ** (-8 * k / n) for k in range(1, n + 1)]
    lower = 1 << (n.bit_length() - 1)
    between = [2.0 ** (-8 * k / (2 * lower)) for k in range(1, 2 * lower, 2)]
    return slopes_of_the_paper(lower) + between[: n - lower]


@pytest.mark.parametrize("n_heads", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 25, 32, 96, 128])
def test_slopes_equal_the_authors_code_for_any_number_of_heads(n_heads: int) -> None:
    assert len(slopes(n_heads)) == n_heads
    assert slopes(n_heads) == pytest.approx(slopes_of_the_paper(n_heads), rel=1e-12)


def test_slopes_equal_the_examples_in_the_paper() -> None:
    assert slopes(8) == [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8]
    assert slopes(16) == pytest.approx([2 ** (-head / 2) for head in range(1, 17)])


@pytest.mark.parametrize("n_heads", [1, 3, 4, 6])
def test_the_bias_is_minus_slope_times_distance(n_heads: int) -> None:
    alibi = model_of(n_heads=n_heads).positionals[0]
    q_pos, k_pos = torch.tensor([[5, 6, 9]]), torch.tensor([[0, 3, 5, 6]])
    bias = alibi.bias(q_pos, k_pos)
    assert bias.shape == (1, n_heads, 3, 4)
    for head in range(n_heads):
        for t, q in enumerate((5, 6, 9)):
            for s, k in enumerate((0, 3, 5, 6)):
                assert bias[0, head, t, s].item() == pytest.approx(-slopes_of_the_paper(n_heads)[head] * abs(q - k))


def test_positions_may_differ_between_sequences() -> None:
    alibi = model_of().positionals[0]
    q_pos, k_pos = torch.tensor([[5], [2]]), torch.tensor([[0, 1], [0, 2]])
    separate = torch.cat([alibi.bias(q_pos[[row]], k_pos[[row]]) for row in range(2)])
    assert torch.equal(alibi.bias(q_pos, k_pos), separate)


def test_the_attention_weights_are_the_softmax_of_biased_scores() -> None:
    model = model_of(n_layers=1)
    auxiliary = gptzoo.AuxiliaryOutputs()
    tokens = tokens_of(8)
    model(tokens, capture=["attention"], auxiliary=auxiliary)
    weights = auxiliary.captures["blocks.0.attention.attention"]
    block = model.blocks[0]
    x = block.norm.layers["attention"](model.embed(tokens))
    q, k, _ = (part.unflatten(-1, (4, 6)).transpose(1, 2) for part in block.attention.qkv(x).chunk(3, -1))
    distance = torch.arange(8)[:, None] - torch.arange(8)
    scores = q @ k.mT / 6**0.5 - torch.tensor(slopes_of_the_paper(4))[:, None, None] * distance
    expected = scores.masked_fill(distance < 0, -torch.inf).softmax(-1)
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("options", [{}, {"n_kv_heads": 2}, {"window": 3}, {"qk_norm": "rmsnorm"}], ids=str)
def test_naive_and_sdpa_agree_in_logits_and_gradients(options: dict[str, Any]) -> None:
    naive, sdpa = (model_of(attention={"type": name, **options}) for name in ("naive", "sdpa"))
    tokens = tokens_of(12)
    torch.testing.assert_close(sdpa(tokens)[0], naive(tokens)[0], rtol=1e-5, atol=1e-5)
    for model in (naive, sdpa):
        model(tokens, tokens.roll(-1, 1))[1].backward()
    for ours, theirs in zip(sdpa.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_pass_even_beyond_the_context_length(
    attention: str, window: int | None
) -> None:
    model = model_of(attention={"type": attention, "window": window})
    assert model.max_length is None
    tokens = tokens_of(20)
    full, _ = model(tokens)
    for sizes in ([1] * 20, [7, 13], [5, 1, 1, 4, 9]):
        states = model.new_states(2, 20)
        parts, first = [], 0
        for size in sizes:
            positions = torch.arange(first, first + size)[None]
            chunk = tokens[:, first : first + size]
            parts.append(model(chunk, positions=positions, states=states, no_past=first == 0)[0])
            first += size
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_left_padded_sequences_equal_each_sequence_alone() -> None:
    model = model_of()
    tokens = tokens_of(8)
    positions = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4]])
    padded, _ = model(tokens, positions=positions)
    torch.testing.assert_close(padded[:, 3:], model(tokens[:, 3:])[0], rtol=1e-5, atol=1e-5)


def test_it_depends_on_distances_and_not_on_the_first_position() -> None:
    model = model_of()
    tokens = tokens_of(8)
    logits, _ = model(tokens)
    torch.testing.assert_close(model(tokens, positions=torch.arange(8)[None] + 100)[0], logits, rtol=1e-4, atol=1e-4)
    shuffled, _ = model(tokens[:, [2, 0, 1, 4, 3, 6, 5, 7]])
    assert not torch.allclose(shuffled[:, -1], logits[:, -1], atol=1e-2)


def test_it_has_no_parameters_and_saves_nothing_in_a_checkpoint() -> None:
    model = gptzoo.build(SMALL)
    assert not [name for name in model.state_dict() if "positional" in name]
    other = gptzoo.build(SMALL, seed=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.positionals[0].slopes, torch.tensor(slopes_of_the_paper(4)))
    assert gptzoo.build(SMALL, device="meta").positionals[0].slopes.is_meta


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_a_few_training_steps_lower_the_loss(attention: str) -> None:
    model = gptzoo.build({**SMALL, "attention": attention}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = torch.arange(16)[None].expand(4, -1) % 5  # 0 1 2 3 4 0 1 …
    losses = []
    for _ in range(30):
        _, loss = model(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


def test_it_requires_an_attention_that_supports_bias_and_nothing_else() -> None:
    assert Alibi.requires == {"bias"}
    assert all(gptzoo.registered("attention")[name].supports >= Alibi.requires for name in ("naive", "sdpa"))


def test_it_has_no_options() -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$\.positional\.max_bias: 'alibi' has no option 'max_bias'"):
        gptzoo.load_model_spec({**SMALL, "positional": {"type": "alibi", "max_bias": 4.0}})


def test_the_installed_package_registers_its_component() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="alibi")
    assert entry.load() is gptzoo_alibi
    assert gptzoo.registered("positional")["alibi"] is Alibi


def test_slopes_equal_x_transformers() -> None:
    theirs = pytest.importorskip("x_transformers.x_transformers").AlibiPositionalBias
    for n_heads in (3, 4, 8, 12):
        bias = theirs(heads=n_heads)(5, 5)
        alibi = model_of(n_heads=n_heads, d_model=2 * n_heads).positionals[0]
        positions = torch.arange(5)[None]
        torch.testing.assert_close(alibi.bias(positions, positions)[0].tril(), bias.tril(), rtol=1e-6, atol=1e-6)
