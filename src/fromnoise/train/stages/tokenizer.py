"""Trains the byte-pair tokenizer on captions of the data source, in CLIP's own file format."""

import json
from typing import Any

from fromnoise.checkpoints.configs import read_tokenizer
from fromnoise.data.source import Source
from fromnoise.files import write_file
from fromnoise.prompt import tokenizer_files
from fromnoise.prompt.tokenizer import BOS, EOS, build_splitters
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.results import REMEDY, describe_stage, write_done


def run(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Learns merges from `captions` captions until `vocab_size` (Sennrich 2016). Words end in
    `</w>` as in CLIP."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    source: Source = recipe.open_source()
    bpe = tokenizers.Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    bpe.normalizer, bpe.pre_tokenizer = build_splitters()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=int(stage["vocab_size"]) - 256,  # the bytes that end a word come on top
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        continuing_subword_prefix="",
        show_progress=False,
    )
    captions = (source.sample(i, draw=False).caption for i in range(int(stage["captions"])))
    bpe.train_from_iterator(captions, trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    # CLIP's order: the bytes, the bytes that end a word, one id a merge, the two special tokens
    words = [*alphabet, *(a + "</w>" for a in alphabet), *(a + b for a, b in merges), BOS, EOS]
    ids = {word: i for i, word in enumerate(dict.fromkeys(words))}
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    texts = {
        "vocab.json": json.dumps(ids, ensure_ascii=False),
        "merges.txt": "\n".join(lines) + "\n",
    }
    for name, text in texts.items():
        data = text.encode()
        write_file(
            stage.folder / name, lambda part, data=data: part.write_bytes(data), remedy=REMEDY
        )
    tokenizer = read_tokenizer(stage.folder, int(stage["max_length"]), EOS)
    tokenizer_files.save(tokenizer, stage.folder)
    result = {"vocab_size": tokenizer.vocab_size, "merges": len(merges)}
    write_done(stage, result, describe_stage(stage, recipe))
    return result
