"""What a picture says of itself → prompts and fields: the text that AUTOMATIC1111's web UI writes
(`write.write_infotext` here). Needs no torch.

Reading is linear in the text. Values follow the web UI's own rules (`quote` and `unquote` of its
modules/infotext_utils.py): a value that holds a comma, a colon or a line break stands in the quotes
of JSON. Before May 2023 only `"` and `\\` were escaped in such a value, and line breaks stood in it
as they are.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from fromnoise.errors import BadInput

LONGEST = 4 << 20  # characters of a text that is read
PIECES = 200_000  # between commas, that are looked at in one text
MOST = 1_000  # settings, and lines behind them, that are read
KEY = re.compile(r"\s*(\w[\w \-/]+):\s*")
END = re.compile(r"[^\S\n]*(?:,|\n|\Z)")  # of a value in quotes
QUOTED = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
STEPS = re.compile(r"^[^\S\n]*Steps:", re.MULTILINE)
INLINE = re.compile(r"(.*[\s.,])(Steps: ?\d{1,9},.*)")
NEGATIVE = (
    re.compile(r"^[ \t]*negative prompt:", re.IGNORECASE | re.MULTILINE),
    re.compile(r"negative prompt:", re.IGNORECASE),
)
JSON = json.JSONDecoder(strict=False)  # with raw line breaks and tabs in its strings
MAKERS = {  # how a version begins
    "fromnoise": "fromnoise",
    "comfyui": "comfyui",
    "invokeai": "invokeai",
    "stable-diffusion.cpp": "sdcpp",
    "swarmui": "swarmui",
    "fooocus json": "fooocus",
    "novelai": "novelai",
    "draw things": "drawthings",
    "easy diffusion": "easydiffusion",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Infotext:
    """What a picture says of itself."""

    prompt: str
    negative_prompt: str
    fields: dict[str, str]  # the settings, key → value without its quotes, in their order
    # what was found and not read: its name → "value (why)"
    skipped: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> Infotext:
    """The text in its parts. What does not look like settings is prompt.

    The last line holds the settings if it has three `key: value` pairs, as in the web UI; else the
    last line that begins with "Steps:" and has them. A line inside of a quoted value is no line of
    its own. What follows the settings (Dynamic Prompts' templates, "Used embeddings") joins them.
    Prompts keep every blank in texts of this program; in others the blanks around lines go, as in
    the web UI, and a text that is all one line is taken apart as well.

    Raises BadInput for a text of more than LONGEST characters.
    """
    if len(text) > LONGEST:
        raise BadInput(
            f"a text of {len(text):,} characters is too long for settings",
            f"give one of {LONGEST:,} at most",
        )
    if text.count("\n") == text.count("\r\n"):
        text = text.replace("\r\n", "\n")
    whole = text.rstrip()
    reader = _PairReader(whole)
    start = _find_settings(whole, reader)
    head = whole[: max(start - 1, 0)] if start < len(whole) else whole
    if start == len(whole):  # no settings
        pairs, end = [], start
    else:
        pairs, end = reader.read_line(start)
        line = whole[start:end]
        inline = None if line.lstrip().startswith("Steps:") else INLINE.match(line)
        if inline and _holds_prompt(inline[1]):  # "a cat. Steps: 20, Sampler: …"
            head = (whole[:start] or "\n") + inline[1]
            pairs, end = reader.read_line(start + inline.end(1))
    fields = {key or value: value for key, value in pairs}
    _add_lines(fields, whole[end:])
    if find_maker(fields) == "fromnoise":
        return _split_own(head, fields)
    prompt, negative = _split_prompts(head)
    return Infotext(prompt, negative, fields)


def _find_settings(text: str, reader: "_PairReader") -> int:
    """Where the line of settings begins; the text's length if it has none."""
    last = text.rfind("\n") + 1
    lines = [match.start() for match in STEPS.finditer(text)]
    likely = [last, *(start for start in reversed(lines[-MOST:]) if start != last)]
    found = next((start for start in likely if reader.has_pairs(start)), len(text))
    own = text.startswith("fromnoise", text.rfind("Version: ", last) + len("Version: "))
    if found == last and own and "Version: " in text[last:]:
        return found  # this program's settings are one line
    # a line inside of a quoted value belongs to the line where that value's settings begin
    for start in reversed([start for start in lines if start < found][-100:]):
        if reader.has_pairs(start) and reader.read_line(start)[1] > found:
            found = start
    return found


class _PairReader:
    """Reads `key: value, …` from a text. Its work is bounded over all calls together."""

    def __init__(self, text: str):
        self.text = text
        self.pieces = PIECES  # that may still be read
        self.faults = 0  # values that began as JSON and were none
        self.unclosed = len(text)  # no quote that begins from here on has an end

    def has_pairs(self, start: int) -> bool:
        """Whether the line has three pairs, as the web UI asks for."""
        keys = (key for key, _, _ in self.read_pairs(start) if key is not None)
        return len([*islice(keys, 3)]) == 3

    def read_line(self, start: int) -> tuple[list[tuple[str | None, str]], int]:
        """(the pairs of the line, its end): with quoted values, which may hold line breaks."""
        pairs: list[tuple[str | None, str]] = []
        end = start
        for key, value, after in islice(self.read_pairs(start), MOST):
            pairs.append((key, value))
            end = after
        stop = self._find_line_end(end)
        if len(pairs) == MOST and (rest := self.text[end:stop].strip()):
            pairs.append(("further settings", rest))
        return pairs, stop

    def _find_line_end(self, start: int) -> int:
        found = self.text.find("\n", start)
        return len(self.text) if found < 0 else found

    def read_pairs(self, start: int) -> Iterator[tuple[str | None, str, int]]:
        """(key or None, value, where it ends) along the line, and along the lines of its quotes."""
        text, at = self.text, start
        stop = self._find_line_end(start)
        while at < stop and self.pieces > 0:
            self.pieces -= 1
            key = KEY.match(text, at, stop)
            begin = key.end() if key else at
            value = self._read_quoted(begin, stop) if key else None
            if value is None:
                comma = text.find(",", begin, stop)
                end = stop if comma < 0 else comma
                value, at = text[begin:end].strip(), min(end + 1, stop)
            else:
                value, at = value
                if text[at - 1 : at] == "\n":  # the value was the last one of its line
                    at -= 1
                stop = max(stop, self._find_line_end(at))
            if key or value:
                yield key and key[1], value, at

    def _read_quoted(self, start: int, stop: int) -> tuple[str, int] | None:
        """(value, where the next pair begins) of a value in quotes or of JSON; None if it is
        neither."""
        text = self.text
        if text.startswith('"', start) and start < self.unclosed:
            quoted = QUOTED.match(text, start)
            if quoted is None:
                self.unclosed = start
                return None
            after = END.match(text, quoted.end())
            return (_unquote(quoted[0]), after.end()) if after else None
        if text.startswith(("[", "{"), start) and self.faults < 20:
            try:
                _, end = JSON.raw_decode(text, start)
                if end <= stop and (after := END.match(text, end)):
                    return text[start:end], after.end()
            except (ValueError, RecursionError):
                pass
            self.faults += 1  # each costs as much as the text is long
        return None


def _unquote(text: str) -> str:
    try:
        return json.loads(text, strict=False)
    except ValueError:  # before May 2023, and other programs: "a \(b\)"
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])


def _holds_prompt(text: str) -> bool:
    """Whether what stands before "Steps:" in the same line is more than settings."""
    return any(
        key is None or "negative prompt" in key.lower()
        for key, _, _ in _PairReader(text).read_pairs(0)
    )


def _add_lines(fields: dict[str, str], rest: str) -> None:
    """Lines behind the settings: `key: value`, which may go on in the next lines."""
    lines = rest.strip("\n").split("\n", MOST)
    values: dict[str, list[str]] = {}
    last = None
    for line in filter(str.strip, lines):
        pair = KEY.match(line)
        if last is None or pair:
            last = pair[1] if pair else line.strip()
            values[last] = [line[pair.end() if pair else 0 :].strip()]
        else:
            values[last].append(line.strip())
    fields |= {key: "\n".join(parts) for key, parts in values.items()}


def _split_own(head: str, fields: dict[str, str]) -> Infotext:
    """This program's prompts: to the last blank as they were."""
    said = fields.pop("Prompt lines", "0")
    own = int(said) if said.isdecimal() and len(said) < 9 else 0  # lines of the prompt for sure
    end = -1
    for _ in range(min(own, head.count("\n") + 1)):
        end = head.find("\n", end + 1)
        if end < 0:
            end = len(head)
    sure, rest = (head[:end], head[end:]) if own else ("", f"\n{head}")
    prompt, _, negative = rest.partition("\nNegative prompt: ")
    return Infotext(sure + (prompt if own else prompt[1:]), negative, fields)


def _split_prompts(head: str) -> tuple[str, str]:
    """Prompt and negative prompt of another program's text."""
    match = next((found for mark in NEGATIVE if (found := mark.search(head))), None)
    parts = (head[: match.start()], head[match.end() :]) if match else (head, "")
    prompt, negative = ("\n".join(map(str.strip, part.strip().split("\n"))) for part in parts)
    return prompt, negative


def find_maker(fields: dict[str, str]) -> str:
    """The program that wrote the settings, "a1111" where they do not name another one."""
    version = fields.get("Version", "").lower()
    return next((name for start, name in MAKERS.items() if version.startswith(start)), "a1111")


def _read_integer(digits: str) -> int | str:
    """Python refuses to read integers of more than 4,300 digits."""
    return int(digits) if len(digits) < 400 else digits


def parse_value(text: str) -> Any:
    """The value that a text is as JSON, the text itself where it is none."""
    try:
        words = {"True": "true", "False": "false"}
        return json.loads(words.get(text, text), parse_int=_read_integer)
    except (ValueError, RecursionError):
        return text
