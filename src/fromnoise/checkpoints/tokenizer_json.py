"""tokenizer.json, which transformers 5 writes alone → the two tables that older ones write."""

import json
from pathlib import Path
from typing import Any

from fromnoise.errors import BadCheckpoint, escape

BYTES = 16 << 20  # CLIP's has 3.6 MB


def extract_tables(file: Path | str, values: dict[str, Any]) -> dict[str, bytes]:
    """vocab.json and merges.txt, as the JSON object of a tokenizer.json has them; both are checked
    by the reader of these. Raises BadCheckpoint for another kind of tokenizer than CLIP's."""

    def refuse(fault: str) -> BadCheckpoint:
        return BadCheckpoint(f"{file}: {fault}", "use the tokenizer of a CLIP text encoder")

    model = values.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise refuse("model is no byte-pair encoding (BPE)")
    if model.get("end_of_word_suffix") != "</w>" or model.get("continuing_subword_prefix"):
        raise refuse("its words do not end with </w>, as CLIP's do")
    words, merges = model.get("vocab"), model.get("merges")
    if not isinstance(words, dict) or not isinstance(merges, list):
        raise refuse("model holds no vocab and merges")
    added = values.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise refuse("added_tokens is no list of objects")
    for token in added:
        word = token.get("content")
        if not isinstance(word, str) or words.get(word) != token.get("id"):
            raise refuse(f"the added token {escape(word)} is not in its vocabulary by that id")
    lines = []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_word, pair)):
            raise refuse(f"merges holds {escape(merge)}, which is not a pair of words")
        lines.append(f"{pair[0]} {pair[1]}\n")
    vocabulary = json.dumps(words, ensure_ascii=False).encode()
    return {"vocab.json": vocabulary, "merges.txt": "".join(["#version: 0.2\n", *lines]).encode()}


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and len(value.split()) == 1 and value.isprintable()
