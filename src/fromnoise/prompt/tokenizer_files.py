"""The files of CLIP's tokenizer, written."""

import json
from pathlib import Path

from fromnoise.prompt.tokenizer import BOS, EOS, Tokenizer


def save(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Into a folder that transformers' `CLIPTokenizer` reads; vocab.json and merges.txt keep their
    bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tokenizer.files.items():
        (folder / name).write_bytes(content)
    pad = tokenizer.token(tokenizer.pad_id)
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": pad}
    settings = special | {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.max_length,
    }
    for name, value in (("tokenizer_config.json", settings), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
