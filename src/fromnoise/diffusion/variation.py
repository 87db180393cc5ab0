"""Variations: the arcs from one noise towards another."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fromnoise.errors import BadInput, UnknownName


def slerp(strength: float, a: Tensor, b: Tensor) -> Tensor:
    """The point `strength` ∈ [0, 1] of the way from the noise a to the noise b (of one shape) along
    the arc between them, sin((1 − s)ω)/sin ω · a + sin(sω)/sin ω · b (Shoemake 1985, "Animating
    rotation with quaternion curves"). ω is the angle between the whole tensors. Equal norms stay,
    so unit noise stays unit noise. Noises with the same or the opposite direction have no single
    arc; the function then takes the straight line. Not to be confused with `slerp_columns`, which
    takes many small angles where this takes one."""
    x, y = a.double().flatten(), b.double().flatten()
    angle = math.acos(min(1.0, max(-1.0, float(x @ y / (x.norm() * y.norm())))))
    if math.sin(angle) < 1e-6:
        return (1 - strength) * a + strength * b
    return (math.sin((1 - strength) * angle) * a + math.sin(strength * angle) * b) / math.sin(angle)


def slerp_columns(strength: float, a: Tensor, b: Tensor) -> Tensor:
    """The A1111 web UI's slerp of two noises (C, H, W), H ≥ 2, for the bits of its pictures: every
    column of H values turns by its own angle. It differs from `slerp`, since the angles of short
    columns vary. Where the columns' mean cosine is above 0.9995, the result is the straight line
    from b to a, not from a to b. That is an error of the original; it does no harm, because the two
    noises are then nearly equal."""
    cosine = (a / a.norm(dim=1, keepdim=True) * (b / b.norm(dim=1, keepdim=True))).sum(
        1, keepdim=True
    )
    if cosine.mean() > 0.9995:
        return a * strength + b * (1 - strength)
    angle = cosine.acos()
    return ((1 - strength) * angle).sin() / angle.sin() * a + (
        strength * angle
    ).sin() / angle.sin() * b


BLENDS = {"slerp": slerp, "columns": slerp_columns}


def find_blend(name: str) -> Callable[[float, Tensor, Tensor], Tensor]:
    """The blend of that name. Raises UnknownName."""
    if name not in BLENDS:
        raise UnknownName("blend", name, BLENDS)
    return BLENDS[name]


def vary(
    initial: Tensor,
    streams: Sequence[Callable[[Sequence[int]], Tensor]] | None,
    strength: float,
    blend: str,
) -> Tensor:
    """blend(strength, initial, the first noise of each image's variation seed), (B, C, H, W). At
    strength 0 it equals `initial` bit for bit, at 1 the other noise, to rounding. streams: of the
    variation seeds, one for each image, see `noise.open_streams`; blend: a name of BLENDS.

    Raises UnknownName for blend. Raises BadInput for another number of seeds than images, for a
    strength outside of [0, 1] and, without seeds, for one other than 0."""
    if streams is not None and len(streams) != len(initial):
        raise BadInput(
            f"{len(streams)} variation seeds do not fit {len(initial)} images",
            "give one for each image",
        )
    if not 0 <= strength <= (0 if streams is None else 1):
        raise BadInput(
            f"variation_strength {strength} cannot be used",
            "give a number from 0 (the seed's own noise) to 1 (the variation seed's), "
            "and variation seeds with it",
        )
    if not strength or streams is None:
        return initial
    mix, others = find_blend(blend), [stream(initial.shape[1:]) for stream in streams]
    return torch.stack([mix(strength, a, b) for a, b in zip(initial, others, strict=True)])
