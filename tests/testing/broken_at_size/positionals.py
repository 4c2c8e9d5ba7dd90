"""Positionals that are wrong for long texts, padded batches or low precision."""

from __future__ import annotations

import torch

import gptzoo
from gptzoo.components.positional import LearnedPositional, RotaryPositional, SinusoidalPositional

from .table import caught_by


@caught_by("padding")
class SharedPositions(RotaryPositional):
    """Rotary embedding with tables for long texts. Wrong: all rows use the positions of the first."""

    name = "shared_positions"

    def prepare(self, positions):
        return super().prepare(positions[:1] if positions.shape[1] > 8 else positions)


@caught_by("decoding")
class DynamicScale(RotaryPositional):
    """Rotary embedding that shrinks positions beyond four contexts. Wrong: cached keys keep their earlier scale."""

    name = "dynamic_scale"

    def prepare(self, positions):
        stretch = ((positions.amax() + 1) / (4 * self.dims.context_length)).clamp(min=1)
        return super().prepare(positions / stretch)


@caught_by("precision")
class NarrowAngles(SinusoidalPositional):
    """Sines and cosines. Wrong: the angles have the precision of the weights, so far positions fall together."""

    name = "narrow_angles"

    def embed(self, x, positions):
        exponent = torch.arange(0, x.shape[-1], 2, device=x.device, dtype=x.dtype) / x.shape[-1]
        angle = positions[..., None].to(x.dtype) * self.config.base**-exponent
        waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        return (x * x.shape[-1] ** 0.5 if self.config.scale_tokens else x) + waves


@caught_by("gradients")
class FrozenTail(LearnedPositional):
    """Learned positions. Wrong: positions from 12 on, where texts are rare, are looked up without gradients."""

    name = "frozen_tail"

    def embed(self, x, positions):
        tail = self.table.weight[12:].detach()
        return x + torch.cat([self.table.weight[:12], tail])[positions.clamp(min=0)]


class DistanceBias(gptzoo.Positional):
    """A score bias that falls with the distance in tokens, steeper for later heads."""

    name = "distance_bias"

    def bias(self, q_pos, k_pos):
        slope = torch.arange(1, self.dims.n_heads + 1, device=q_pos.device, dtype=torch.float32) / 16
        return -slope[:, None, None] * (q_pos[:, None, :, None] - k_pos[:, None, None, :]).abs()


@caught_by("padding")
class CountedKeys(DistanceBias):
    """A score bias by distance. Wrong: with more than 16 keys it counts columns instead of reading positions."""

    name = "counted_keys"

    def bias(self, q_pos, k_pos):
        if k_pos.shape[1] > 16:
            k_pos = torch.arange(k_pos.shape[1], device=k_pos.device)[None]
        return super().bias(q_pos, k_pos)


@caught_by("decoding")
class CroppedBias(DistanceBias):
    """A score bias by distance, from a table of 32 distances for prompts. Wrong: a decode step has no such limit."""

    name = "cropped_bias"

    def bias(self, q_pos, k_pos):
        if q_pos.shape[1] > 1:
            k_pos = torch.maximum(k_pos[:, None, :].expand(-1, q_pos.shape[1], -1), q_pos[..., None] - 31)
            slope = torch.arange(1, self.dims.n_heads + 1, device=q_pos.device, dtype=torch.float32) / 16
            return -slope[:, None, None] * (q_pos[:, None, :, None] - k_pos[:, None]).abs()
        return super().bias(q_pos, k_pos)
