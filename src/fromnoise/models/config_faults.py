"""What is wrong with a network's configuration: imported only where something is, and by the
configurations of image towers."""

from typing import Any

from fromnoise.errors import BadInput

Rule = tuple[bool, str, str]  # whether it holds, the fault, the remedy


def check(config: Any, *rules: Rule) -> None:
    """Raises BadInput for the first rule that is broken."""
    for holds, fault, remedy in rules:
        if not holds:
            raise BadInput(f"{type(config).__name__}: {fault}", remedy)


def groups_rule(widths: tuple[int, ...], groups: int) -> Rule:
    """The rule that every width is a multiple of the number of norm groups."""
    return (
        groups > 0 and all(width % groups == 0 for width in widths),
        f"block_out_channels {widths} are no multiples of norm_groups {groups}",
        "choose norm_groups that divides every width",
    )


def heads_rule(width: int, heads: int) -> Rule:
    """The rule that an attention's width is a multiple of its number of heads."""
    fault = f"the width {width} is no multiple of its heads {heads}"
    return heads > 0 and width % heads == 0, fault, "choose heads that divide the width"


def refuse_unet(config: Any) -> None:
    """Raises BadInput for the first fault of a UNetConfig."""
    c, widths = config, config.block_out_channels
    levels = {*map(len, (widths, c.attention, c.heads, c.transformer_depth))}
    fault = "block_out_channels, attention, heads and transformer_depth differ in length"
    together = (c.time_id_dim is None) == (c.added_dim is None)
    check(
        c,
        (len(levels) == 1, fault, "give one entry a level to each"),
        (together, "time_id_dim and added_dim go together", "give both"),
        groups_rule(widths, c.norm_groups),
    )
    attends = [*c.attention[:-1], c.attention[-1] or c.mid_attention]
    for width, heads, used in zip(widths, c.heads, attends, strict=True):
        if used:
            check(c, heads_rule(width, heads))
