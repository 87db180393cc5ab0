"""What the prompt dialects share: how each is registered, and how numbers in a prompt are read and
written."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fromnoise.prompt.tree import Network, Prompt

# possessive (++, *+): a run of digits is read once, also where no number can stand
NUMBER = r"(?:\d++(?:\.\d*+)?|\.\d++)"
SIGNED = rf"[+-]?{NUMBER}"
TAG = r"<({}):([^>]++)>"  # A1111's extra networks, by their kinds: <lora:name:0.8>
BOUND = 1e30  # of weights: finite in float32 too
# levels of nested brackets that are read; at 300 A1111 ends in a RecursionError, at 1500 ComfyUI
DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the prompts of one program are read and written."""

    # what is cut out before all else; groups: kind and arguments, or those two empty, then a LoRA's
    tags: re.Pattern[str]
    # reads the text without its tags; is given the tags too
    read: "Callable[[str, tuple[Network, ...]], Prompt]"
    # writes a text for the tree, without tags; the text may be wrong for what cannot be written
    write: "Callable[[Prompt], str]"


def bound_weight(weight: float) -> float:
    """The weight, within ±BOUND."""
    return min(max(weight, -BOUND), BOUND)


def read_number(text: str) -> float | None:
    """Reads a number as Python does, which is how ComfyUI and A1111's tags do; None for what is no
    finite number."""
    try:
        return bound_weight(float(text)) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def write_number(number: float) -> str:
    """A text without exponent that reads as this number again."""
    return f"{Decimal(repr(number)):f}".removesuffix(".0")
