"""Methods of the model in an ejected file that its user calls: caches, generation, and updates after a step."""

from __future__ import annotations

import textwrap

from gptzoo.eject.layout.layout import Layout


def new_states(layout: Layout) -> list[str]:
    """Return the lines of the method that allocates a cache."""
    call = "new_state(batch_size, max_length, device=weight.device, dtype=weight.dtype)"
    if len(layout.stateful) == 1:
        state = f"block.{layout.stateful[0]}.{call}"
    else:
        state = "{" + ", ".join(f"'{name}': block.{name}.{call}" for name in layout.stateful) + "}"
    return [
        "def new_states(self, batch_size: int, max_length: int) -> list[dict[str, Tensor]]:",
        '    """Allocate an empty cache for up to `max_length` tokens, one entry per layer."""',
        "    weight = self.embed.weight",
        f"    return [{state} for block in self.blocks]",
    ]


def generate(layout: Layout) -> list[str]:
    """Return the lines of the method that generates tokens."""
    if layout.program.padding:
        call = "self(new, states=states, positions=positions)[:, -1]"
        first, later = (
            "new, positions = tokens, None",
            "positions = torch.full((1, 1), tokens.shape[1], device=tokens.device)",
        )
    else:
        call, first, later = (
            "self(new, states=states, start=start)[:, -1]",
            "new, start = tokens, 0",
            "start = tokens.shape[1]",
        )
    text = f'''
        @torch.inference_mode()
        def generate(
            self, tokens: Tensor, max_new_tokens: int, *, temperature: float = 1.0, top_k: int | None = None
        ) -> Tensor:
            """Return tokens (B, T) with new ones after them. Temperature 0 takes the likeliest."""
            states = self.new_states(tokens.shape[0], tokens.shape[1] + max_new_tokens)
            {first}
            for _ in range(max_new_tokens):
                logits = {call}
                {later}
                if top_k is not None:
                    smallest = logits.topk(min(top_k, VOCAB_SIZE)).values[:, -1:]
                    logits = logits.masked_fill(logits < smallest, float("-inf"))
                if temperature == 0:
                    new = logits.argmax(-1, keepdim=True)
                else:
                    new = (logits / temperature).softmax(-1).multinomial(1)
                tokens = torch.cat([tokens, new], dim=1)
            return tokens
    '''
    return textwrap.dedent(text).strip().splitlines()


def after_optimizer_step(layout: Layout) -> list[str]:
    """Return the lines of the method that updates buffers after an optimizer step."""
    lines = [
        "def after_optimizer_step(self) -> None:",
        '    """Update the buffers that have no gradients. Call it after each optimizer step."""',
    ]
    lines += ["    for block in self.blocks:"]
    for name, column in layout.columns.items():
        updating = {u.name for u in column if u.updates_after_step}
        if updating == {u.name for u in column}:
            lines.append(f"        block.{name}.after_optimizer_step(block.{name}.metrics)")
        elif updating:
            lines += [
                f"        if hasattr(block.{name}, 'after_optimizer_step'):",
                f"            block.{name}.after_optimizer_step(block.{name}.metrics)",
            ]
    return lines
