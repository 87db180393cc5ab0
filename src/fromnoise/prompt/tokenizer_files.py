"""The files of CLIP's tokenizer, written."""

import json
from pathlib import Path

from fromnoise.files import write_file
from fromnoise.prompt.tokenizer import BOS, EOS, Tokenizer


def describe(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Name → content of the files that transformers' `CLIPTokenizer` reads; vocab.json and
    merges.txt keep their bytes."""
    pad = tokenizer.spell(tokenizer.pad_id)
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": pad}
    settings = special | {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.max_length,
    }
    files = dict(tokenizer.files)
    for name, value in (("tokenizer_config.json", settings), ("special_tokens_map.json", special)):
        files[name] = (json.dumps(value, indent=2) + "\n").encode()
    return files


def save(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Writes those files into a folder."""
    for name, content in describe(tokenizer).items():
        write_file(Path(folder) / name, lambda part, content=content: part.write_bytes(content))
