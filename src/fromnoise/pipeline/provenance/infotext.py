"""What a picture says of itself → prompts and fields: the text that AUTOMATIC1111's web UI writes
(`write.parameters` here). Needs no torch."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

KEY = re.compile(r"\s*(\w[\w \-/]+):\s*")
END = re.compile(r"\s*(?:,|\Z)")
INLINE = re.compile(r"(.*[\s.,])(Steps: ?\d+,.*)")
NEGATIVE = (
    re.compile(r"^[ \t]*negative prompt:", re.IGNORECASE | re.MULTILINE),
    re.compile(r"negative prompt:", re.IGNORECASE),
)
JSON = json.JSONDecoder(strict=False)  # with raw line breaks and tabs in its strings


@dataclass(frozen=True)
class Infotext:
    """What a picture says of itself."""

    prompt: str
    negative_prompt: str
    fields: dict[str, str]  # the settings, key → value without its quotes, in their order


def parse(text: str) -> Infotext:
    """The text in its parts. Nothing is wrong: what does not look like settings is prompt.

    The last line holds the settings if it has three `key: value` pairs, as in the web UI; else the
    last line that begins with "Steps:" and has, and what follows it (Dynamic Prompts' templates,
    "Used embeddings") joins them. Prompts keep every blank in texts of this program; in others the
    blanks around lines go, as in the web UI, and a text that is all one line is taken apart as
    well."""
    if text.count("\n") == text.count("\r\n"):
        text = text.replace("\r\n", "\n")
    lines = text.rstrip().split("\n")
    likely = [
        len(lines) - 1,
        *(i for i in reversed(range(len(lines))) if lines[i].lstrip().startswith("Steps:")),
    ]
    at = next(
        (i for i in likely if sum(key is not None for key, _ in _pairs(lines[i])) >= 3), len(lines)
    )
    head, settings, rest = "\n".join(lines[:at]), "".join(lines[at : at + 1]), lines[at + 1 :]
    if not settings.lstrip().startswith("Steps:") and (inline := INLINE.match(settings)):
        keys = [key for key, _ in _pairs(inline[1])]
        if any(
            key is None or "negative prompt" in key.lower() for key in keys
        ):  # "a cat. Steps: 20, Sampler: …"
            head, settings = f"{head}\n{inline[1]}", inline[2]
    fields, last = {key or value: value for key, value in _pairs(settings)}, None
    for line in filter(str.strip, rest):
        pair = KEY.match(line)
        if last is None or pair:
            last = pair[1] if pair else line.strip()
            fields[last] = line[pair.end() if pair else 0 :].strip()
        else:
            fields[last] += f"\n{line.strip()}"
    if find_maker(fields) == "fromnoise":
        own = (
            int(said) if (said := fields.pop("Prompt lines", "0")).isdecimal() else 0
        )  # that the prompt has for sure
        lines = head.split("\n")
        before, (prompt, _, negative) = (
            lines[:own],
            "\n".join(["", *lines[own:]]).partition("\nNegative prompt: "),
        )
        return Infotext("\n".join(before) + (prompt if own else prompt[1:]), negative, fields)
    parts = next(
        (parts for mark in NEGATIVE if len(parts := mark.split(head, maxsplit=1)) > 1), [head, ""]
    )
    prompt, negative = ("\n".join(map(str.strip, part.strip().split("\n"))) for part in parts)
    return Infotext(prompt, negative, fields)


def _pairs(line: str) -> Iterator[tuple[str | None, str]]:
    """(key, value) of `key: value, …`; (None, text) where there is no key. A value in JSON's
    quotes, and JSON itself, may hold commas."""
    at, faults = 0, 0
    while at < len(line):
        key = KEY.match(line, at)
        start = stop = key.end() if key else at
        value, end = "", None
        if (
            key and faults < 99 and line.startswith(('"', "[", "{"), start)
        ):  # each fault counts the line breaks before it
            try:
                value, stop = JSON.raw_decode(line, start)
                end = END.match(line, stop)
            except (ValueError, RecursionError):
                faults += 1
        if end:
            value, at = value if isinstance(value, str) else line[start:stop], end.end()
        else:
            stop = line.find(",", start) % (len(line) + 1)  # −1, not found: the end
            value, at = line[start:stop].strip(), stop + 1
        if key or value:
            yield key and key[1], value


def find_maker(fields: dict[str, str]) -> str:
    version = fields.get("Version", "").lower()
    return next(
        (name for name in ("fromnoise", "comfyui", "invokeai") if version.startswith(name)), "a1111"
    )


def parse_value(text: str) -> Any:
    """The value that a text is, the text itself where it is none."""
    try:
        return json.loads({"True": "true", "False": "false"}.get(text, text))
    except (ValueError, RecursionError):
        return text
