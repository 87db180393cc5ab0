"""The gate: what a model's files say of themselves → values of known type and range.

Every text file of a model passes here before anything is built from it: a configuration, an index,
the header of a tensor file, the two tables of a tokenizer. What does not pass is a BadCheckpoint
that names the file and the field; its words lie in refusals.py, which only a fault needs."""

import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from fromnoise.errors import BadCheckpoint
from fromnoise.prompt.tokenizer import BOS, EOS, Tokenizer

JSON_BYTES = 1 << 20  # of a configuration: published ones have a few kilobytes
TABLE_BYTES = 4 << 20  # of vocab.json and of merges.txt: CLIP's have 1 MB and 0.5 MB
CLIP_BYTES = 1_059_962  # of CLIP's own vocab.json
HEADER_BYTES = 4 << 20  # of a tensor file: the 686 tensors of Stable Diffusion's U-Net take 77 kB
NODES = 100_000  # lists and objects in one text: Python makes a million of them in a second
WORDS = 1 << 17  # entries of a vocabulary: CLIP's has 49,408


class Rule(NamedTuple):
    """What one field may hold: a truth, a number, or a text of at most 4,096 characters."""

    key: str  # its name in the file
    kind: type = bool  # bool, int, float or str
    low: float = 0  # of a number
    high: float = 1
    choices: Collection[str] | None = None  # of a text
    per_level: bool = False  # a list of 1 to 8 such values

    def admits(self, value: Any) -> bool:
        if self.per_level:
            one = self._replace(per_level=False)
            return isinstance(value, list) and 0 < len(value) <= 8 and all(map(one.admits, value))
        if self.kind is str:
            short = isinstance(value, str) and len(value) <= 4096
            return short and (self.choices is None or value in self.choices)
        if self.kind is bool or isinstance(value, bool):
            return self.kind is bool and isinstance(value, bool)
        number = isinstance(value, int if self.kind is int else int | float)
        return number and self.low <= value <= self.high  # false for NaN


@dataclass(frozen=True)
class Fields:
    """The fields of one JSON object; `file` is what errors call it."""

    file: Path | str
    values: dict[str, Any]

    def get(self, rule: Rule, default: Any = None) -> Any:
        """The value of a field, a list as a tuple; `default` where it is absent or null."""
        value = self.values.get(rule.key)
        if value is None:
            return default
        if not rule.admits(value):
            self.refuse(rule.key, rule)
        return tuple(value) if isinstance(value, list) else value

    def refuse(self, key: str, expected: Rule | str) -> NoReturn:
        from fromnoise.checkpoints.refusals import refuse_field

        refuse_field(self.file, key, self.values.get(key), expected)


def open_file(path: Path) -> BufferedReader:
    """A regular file, open for reading. Raises NotFound, and BadCheckpoint for anything else."""
    try:
        if stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            return path.open("rb")
        reason: OSError | None = None
    except OSError as error:
        reason = error
    from fromnoise.checkpoints.refusals import refuse_file

    refuse_file(path, reason)


def read_bytes(path: Path, limit: int) -> bytes:
    """A whole file. Raises as `open_file`, and BadCheckpoint for more than `limit` bytes."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise BadCheckpoint(f"{path} has more than {limit:,} bytes", "fetch the file again")
        return file.read(limit)


def parse_json(data: bytes, file: Path | str) -> dict[str, Any]:
    """The JSON object in `data`. Raises BadCheckpoint for anything else, for a key that stands in
    an object twice, and for NaN and Infinity (−∞ is a number)."""

    def refuse_constant(name: str) -> float:
        if name == "-Infinity":  # diffusers writes it for a limit that is none
            return float(name)
        raise ValueError(f"{name} is no number of JSON")

    try:
        if data.count(b"[") + data.count(b"{") > NODES:
            raise ValueError(f"it has more than {NODES:,} lists and objects")
        text = data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=refuse_constant)
        if isinstance(value, dict):
            return value
        reason = f"it holds a {type(value).__name__}, not an object"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise BadCheckpoint(f"{file} is not a JSON object: {reason}", "fetch the file again")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        from fromnoise.checkpoints.refusals import find_twice

        raise ValueError(f"the key {find_twice(pairs)[:200]!r} stands there twice")
    return values


def read_json(path: Path) -> Fields:
    """The fields of a JSON file. Raises NotFound or BadCheckpoint."""
    return Fields(path, parse_json(read_bytes(path, JSON_BYTES), path))


def read_tokenizer(
    folder: Path, max_length: int | None = None, pad: str | None = None
) -> Tokenizer:
    """The tokenizer in a folder as transformers writes it. Raises NotFound or BadCheckpoint.
    max_length, pad: in place of what tokenizer_config.json and special_tokens_map.json say."""
    settings = Fields(folder / "tokenizer_config.json", {})
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if os.path.lexists(folder / name):
            settings = Fields(folder / name, settings.values | read_json(folder / name).values)
    # transformers writes 10^30 where it knows no length
    longest = settings.get(Rule("model_max_length", float, 3, 1e31), 77)
    if isinstance(token := settings.values.get("pad_token"), dict):
        settings = Fields(settings.file, {"pad_token": token.get("content")})
    pad = str(pad or settings.get(Rule("pad_token", str), EOS))
    if not os.path.lexists(folder / "vocab.json") and os.path.lexists(folder / "tokenizer.json"):
        from fromnoise.checkpoints import tokenizer_json as one

        path = folder / "tokenizer.json"
        files = one.extract_tables(path, parse_json(read_bytes(path, one.BYTES), path))
    else:
        tables = ("vocab.json", "merges.txt")
        files = {name: read_bytes(folder / name, TABLE_BYTES) for name in tables}
    longest = max_length or min(int(longest), 77)
    if len(files["vocab.json"]) == CLIP_BYTES:
        from fromnoise.prompt.clip_vocabulary import find_tables

        if (own := find_tables(files)) and pad in own[0]:
            return Tokenizer(*own, longest, own[0][pad], files)
    words = parse_json(files["vocab.json"], folder / "vocab.json")
    merges: list[tuple[str, str]] = []
    if right_words := (
        len(words) <= WORDS
        and {BOS, EOS, pad} <= words.keys()
        and all(type(i) is int and 0 <= i < 2 * WORDS for i in words.values())
        and len({*words.values()}) == len(words)
        and files["merges.txt"].count(b"\n") <= len(words) + 2
    ):
        lines = files["merges.txt"].decode(errors="replace").splitlines()
        merges = [  # each line: the two words that become a third
            (left, right)
            for left, _, right in (line.partition(" ") for line in lines)
            if (left.strip() or right) and not left.startswith("#version")
        ]
    if not right_words or not all({a, b, a + b} <= words.keys() for a, b in merges):
        from fromnoise.checkpoints.refusals import refuse_tokenizer

        refuse_tokenizer(folder, words, (BOS, EOS, pad), merges, WORDS)
    return Tokenizer(words, merges, longest, words[pad], files)
