"""CLIP's vocabulary: the files are those that everyone has, and the ids those of transformers."""

import json
from hashlib import sha256

import pytest
from transformers import CLIPTokenizer

from fromnoise.checkpoints import configs
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
    assert len(files["vocab.json"]) == configs.CLIP_BYTES == 1_059_962
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


@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_known_tables_give_the_tokenizer_that_their_files_do(tmp_path, monkeypatch, pad):
    save(vocabulary.make_tokenizer(pad), tmp_path)
    known = configs.read_tokenizer(tmp_path)
    monkeypatch.setattr(configs, "CLIP_BYTES", 0)
    parsed = configs.read_tokenizer(tmp_path)
    assert known.files == parsed.files
    assert (known.max_length, known.pad_id) == (parsed.max_length, parsed.pad_id)
    assert [*map(known.encode, TEXTS)] == [*map(parsed.encode, TEXTS)]


def test_a_vocabulary_of_the_same_size_is_not_taken_for_clips(tmp_path):
    save(vocabulary.make_tokenizer(), tmp_path)
    path = tmp_path / "vocab.json"
    text = (
        path.read_text()
        .replace('"cat</w>": 2368', '"cat</w>": 1929')
        .replace('"dog</w>": 1929', '"dog</w>": 2368')
    )
    assert text != path.read_text()
    path.write_text(text)
    one, other = vocabulary.make_tokenizer(), configs.read_tokenizer(tmp_path)
    assert other.encode("cat")[0] == one.encode("dog")[0]


def test_a_damaged_file_is_said(tmp_path, monkeypatch):
    for name, data in (("a", b"BZh9"), ("b", vocabulary.FILE.read_bytes()[:-1])):
        (tmp_path / name).write_bytes(data)
        monkeypatch.setattr(vocabulary, "FILE", tmp_path / name)
        with pytest.raises(BadCheckpoint, match="missing or damaged"):
            vocabulary.read_vocabulary.__wrapped__()
    monkeypatch.setattr(vocabulary, "FILE", tmp_path / "none")
    with pytest.raises(BadCheckpoint, match="missing or damaged"):
        vocabulary.read_vocabulary.__wrapped__()
