"""The tokenizer against transformers' CLIPTokenizer on the same files, and its own promises."""

import fakes
import pytest

from fromnoise.checkpoints.configs import read_tokenizer
from fromnoise.errors import BadCheckpoint, NotFound
from fromnoise.prompt import tokenizer_files
from fromnoise.prompt.tokenizer import EOS

TEXTS = [
    "a neon cat in space",
    "",
    "  Don't   FLY é ü ß 你好 🐱!! 123\n",
    f"a {EOS} b",
    "hello! world !",
    "x " * 60,
    "unbelievably " * 10,
]


@pytest.mark.parametrize("pad", [None, "!"])  # Stable Diffusion 1 and 2
def test_ids_equal_transformers(tmp_path, pad):
    from transformers import CLIPTokenizer

    tokenizer_files.save(fakes.tokenizer(tmp_path / "made", 16, pad), tmp_path / "saved")
    theirs, ours = (
        CLIPTokenizer.from_pretrained(tmp_path / "saved"),
        read_tokenizer(tmp_path / "saved"),
    )
    assert theirs.model_max_length == ours.max_length
    for text in TEXTS:
        expected = theirs(text, padding="max_length", max_length=16, truncation=True).input_ids
        assert ours.encode(text)[0] == expected, text


def test_what_does_not_fit_is_named_in_whole_words(tmp_path):
    words = fakes.tokenizer(tmp_path, 8)  # 6 tokens of text
    assert words.encode("neon cat in space")[1] == ""
    assert words.encode("neon cat neon cat cat neon Space, cat")[1] == "Space, cat"
    assert words.encode("neon cat neon planet")[1] == "planet"  # p-l-a-… is cut inside the word


def test_saved_files_keep_their_bytes(tmp_path):
    tokenizer_files.save(fakes.tokenizer(tmp_path / "a", 16, "!"), tmp_path / "b")
    tokenizer_files.save(read_tokenizer(tmp_path / "b"), tmp_path / "c")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    assert (tmp_path / "a" / "vocab.json").read_bytes() == (
        tmp_path / "b" / "vocab.json"
    ).read_bytes()


def test_bad_files_are_explained(tmp_path):
    with pytest.raises(NotFound, match=r"vocab\.json"):
        read_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(BadCheckpoint, match="startoftext"):
        read_tokenizer(tmp_path)
