"""Axes of a grid: "steps=4,8", "cfg=1-7 [3]", "prompt:cat=dog,fox" → what each value changes of a
request."""

import csv
import io
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fromnoise.errors import BadInput, UnknownName
from fromnoise.pipeline.provenance.infotext import parse_value
from fromnoise.pipeline.request import GenerationRequest

NUMBER = r"([+-]?\d+(?:\.\d+)?)"
# A1111's: from-to, with (+step) or [how many]
RANGE = re.compile(rf"{NUMBER}\s*-\s*{NUMBER}\s*(?:\(\s*([+-]\d+(?:\.\d+)?)\s*\)|\[\s*(\d+)\s*\])?")
OPTIONS = {"sampler_options", "spacing_options"}
WORDS = {"prompt", "negative_prompt"}
MOST = 10_000  # values of one axis


@dataclass(frozen=True)
class Axis:
    """One setting of a request and the values that it takes, one after the other.

    `part` is the words to replace, where the field is a prompt; or the name of an option, where
    the field holds options; else empty.
    """

    field: str
    part: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        return f"{self.field}:{self.part}" if self.part else self.field

    def label(self, value: Any) -> str:
        """The value as the sheet shows it."""
        if self.field in WORDS:
            return str(value) or "(nothing)"
        return f"{(self.part or self.field).replace('_', ' ')} {str(value).removesuffix('.0')}"


def apply_axes(fields: dict[str, Any], chosen: Sequence[tuple[Axis, Any]]) -> dict[str, Any]:
    """The fields of a request with one value of every axis.

    Words are replaced all at once in the prompt as it was: what one axis puts in is never replaced
    by another ("a cat and a dog" with cat=dog and dog=fish: "a dog and a fish"). Where words of two
    axes begin at one place, the longer ones are replaced. Raises BadInput for words that lie
    only inside or across those of another axis.
    """
    fields, words = dict(fields), dict[str, dict[str, str]]()
    for axis, value in chosen:
        if axis.field == "size":
            width, _, height = value.partition("x")
            fields |= {"width": int(width), "height": int(height or width)}
        elif not axis.part:
            fields[axis.field] = value
        elif axis.field in WORDS:
            words.setdefault(axis.field, {})[axis.part] = value
        else:
            fields[axis.field] = fields[axis.field] | {axis.part: value}
    for field, values in words.items():
        fields[field] = replace_words(fields[field], values)
    return fields


def replace_words(text: str, values: dict[str, str]) -> str:
    """The text with every key of `values` replaced, in one pass from left to right, the longest
    first. Raises BadInput for a key that is in the text only as a part of others."""
    longest_first = sorted(values, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    replaced = set(pattern.findall(text))
    for part in values:
        if part in text and part not in replaced:
            raise BadInput(
                f"{part!r} overlaps the words of another axis wherever the prompt has it",
                "choose words that lie apart, or vary them on one axis",
            )
    return pattern.sub(lambda found: values[found[0]], text)


def parse_axis(text: str, request: GenerationRequest) -> Axis:
    """An axis in words. Raises UnknownName for a field that is none, BadInput for values that
    cannot be read, or for words to replace that the request's prompt does not have. Whether a field
    takes a value is not looked at."""
    name, equals, rest = text.partition("=")
    field, colon, part = name.partition(":")
    field = field.strip().replace("-", "_").removeprefix("__")
    field = {
        "negative": "negative_prompt",
        "sampler_option": "sampler_options",
        "ensd": "eta_noise_seed_delta",
        "spacing_option": "spacing_options",
    }.get(field, field)
    if not equals or not rest.strip():
        raise BadInput(
            f"cannot read the axis {text!r}", "write it as steps=4,8,20, or as prompt:cat=dog,fox"
        )
    if field not in (*GenerationRequest.model_fields, "size"):
        raise UnknownName("axis", field, (*GenerationRequest.model_fields, "size"))
    if field == "count":
        raise BadInput("a cell of a grid is one picture", "vary the seed instead: seed=1-4")
    if bool(colon) != (field in OPTIONS) and field not in WORDS:
        remedy = f"write it as {field}:order=1,2" if field in OPTIONS else f"write it as {field}=…"
        raise BadInput(f"cannot read the axis {text!r}", remedy)
    if colon and not part:
        raise BadInput(
            f"the axis {text!r} does not say what to replace", "write it as prompt:cat=dog,fox"
        )
    if part and field in WORDS and part not in getattr(request, field):
        raise BadInput(
            f"the {field.replace('_', ' ')} does not have {part!r}",
            "say a part of it that is to change",
        )
    about = None if field == "size" else GenerationRequest.model_fields[field].annotation
    kinds = typing.get_args(about) or (about,)
    number = int if int in kinds else float if float in kinds else None
    values: list[Any] = []
    try:
        items = next(csv.reader([rest], skipinitialspace=True, strict=True))
    except csv.Error as error:
        remedy = (
            'put a value with a comma or a line break in double quotes: prompt="a cat, red",a dog'
        )
        raise BadInput(f"cannot take the values of {name} apart: {error}", remedy) from error
    for item in items:
        value = item.strip()
        found = RANGE.fullmatch(value) if number else None
        word = value.capitalize() if value.lower() in ("true", "false") else value
        plain: Any = parse_value(word) if field in OPTIONS else value
        if number and re.fullmatch(NUMBER, value):
            plain = (
                value if number is int and "." in value else number(value)
            )  # if it is wrong, the request says so
        values += _expand_range(found, number is int) if found else [plain]
        if len(values) > MOST:
            raise BadInput(f"the axis {name} has more than {MOST:,} values", "leave some out")
    if field == "size" and (wrong := [v for v in values if not re.fullmatch(r"\d+(x\d+)?", v)]):
        raise BadInput(
            f"cannot read the size {wrong[0]!r}", "write it as 128, or as 192x128 (width x height)"
        )
    return Axis(field, part, tuple(values))


def _expand_range(found: re.Match[str], whole: bool) -> list[int] | list[float]:
    """1-5 → 1 2 3 4 5; 10-5 (-3) → 10 7; 1-10 [5] → 1 3 5 7 10, as in A1111, but never past the
    end. In decimals, so that tenths stay tenths. Raises BadInput."""
    start, end = Decimal(found[1]), Decimal(found[2])
    number = int if whole else float
    if found[4]:
        if not 1 <= (count := int(found[4])) <= MOST:
            raise BadInput(f"{found[0]!r} has no such number of values", f"give 1 to {MOST:,}")
        return [number(start + (end - start) * i / max(count - 1, 1)) for i in range(count)]
    step = Decimal(found[3] or (1 if end >= start else -1))
    if not step or (end - start) / step < 0:
        raise BadInput(
            f"{found[0]!r} never comes from {start} to {end}", "turn the sign of the step"
        )
    if (end - start) / step > MOST:
        raise BadInput(f"{found[0]!r} has more than {MOST:,} values", "take greater steps")
    if whole and step % 1:
        raise BadInput(f"{found[0]!r} has values that are no whole numbers", "take whole steps")
    return [number(start + step * i) for i in range(int((end - start) / step) + 1)]


def check_axes(
    axes: dict[str, Axis], request: GenerationRequest, limit: int, remedy: str = ""
) -> list[int]:
    """How many columns, rows and sheets there are. Raises BadInput for axes that make no grid."""
    if not axes:
        raise BadInput("a grid needs an axis", "say what varies, such as x: steps=4,8,20")
    if request.count != 1:
        raise BadInput(
            "a cell of a grid is one picture", "leave out the count, or vary the seed: seed=1-4"
        )
    names = [axis.name for axis in axes.values()]
    if len(set(names)) < len(names):
        raise BadInput(
            f"two axes are {max(names, key=names.count)}",
            "leave one out: the second would undo the first",
        )
    shape = [len(axes[name].values) if name in axes else 1 for name in "xyz"]
    if (total := shape[0] * shape[1] * shape[2]) > limit:
        raise BadInput(
            f"the grid has {total:,} pictures, and {limit:,} are the most",
            remedy or f"say --limit {total}",
        )
    return shape


def describe_axes(axes: dict[str, Axis]) -> dict[str, str | None]:
    """What the settings of a sheet say of its axes, in A1111's words."""
    more: dict[str, str | None] = {"Script": "X/Y/Z plot"}
    for name, axis in axes.items():
        more[f"{name.upper()} Type"] = axis.name
        more[f"{name.upper()} Values"] = format_values(axis.values)
    return more


def format_values(values: tuple[object, ...]) -> str:
    """Values as an axis is written: with commas between, in quotes where they have some
    themselves."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
