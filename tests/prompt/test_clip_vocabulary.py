"""CLIP's vocabulary: the files are those that everyone has, and the ids those of transformers."""

import json
from hashlib import sha256

import pytest
from transformers import CLIPTokenizer

from fromnoise.errors import BadCheckpoint
from fromnoise.prompt import clip_vocabulary as vocabulary
from fromnoise.prompt.tokenizer_files import save

TEXTS = (
    "an astronaut riding a horse on mars",
    "",
    "naïve café, 東京 — ½ 🦊🦊",
    "!!! ... 1234",
    "it's we'll I'D",
    "word " * 100,
)


def test_the_files_are_those_of_the_hub():
    ids, merges, files = vocabulary.read_vocabulary()
    # of openai/clip-vit-large-patch14 and of every Stable Diffusion's tokenizer/
    assert sha256(files["merges.txt"]).hexdigest() == vocabulary.MERGES_SHA256
    assert sha256(files["vocab.json"]).hexdigest() == vocabulary.VOCAB_SHA256
    assert len(files["vocab.json"]) == 1_059_962
    assert (len(ids), len(merges)) == (49408, 48894)
    assert json.loads(files["vocab.json"]) == ids
    assert vocabulary.FILE.stat().st_size < 170_000
    assert "MIT License" in (vocabulary.FILE.parent / "LICENSE").read_text()


@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_ids_are_those_of_transformers(tmp_path, pad):
    tokenizer = vocabulary.make_tokenizer(pad)
    save(tokenizer, tmp_path)
    peer = CLIPTokenizer.from_pretrained(tmp_path, pad_token=pad)
    for text in TEXTS:
        expected = peer(text, padding="max_length", truncation=True, max_length=77).input_ids
        assert tokenizer.encode(text)[0] == expected, text
    assert tokenizer.encode("")[0][-1] == (0 if pad == "!" else 49407)


def test_a_damaged_file_is_said(tmp_path, monkeypatch):
    for name, data in (("a", b"BZh9"), ("b", vocabulary.FILE.read_bytes()[:-1])):
        (tmp_path / name).write_bytes(data)
        monkeypatch.setattr(vocabulary, "FILE", tmp_path / name)
        with pytest.raises(BadCheckpoint, match="missing or damaged"):
            vocabulary.read_vocabulary.__wrapped__()
    monkeypatch.setattr(vocabulary, "FILE", tmp_path / "none")
    with pytest.raises(BadCheckpoint, match="missing or damaged"):
        vocabulary.read_vocabulary.__wrapped__()
