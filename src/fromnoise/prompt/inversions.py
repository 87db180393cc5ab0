"""Names of textual inversions in prompts: words → ids that stand for vectors of no vocabulary (Gal
et al. 2022 "An Image is Worth One Word")."""

from collections.abc import Mapping, Sequence
from copy import copy
from itertools import count

from tokenizers.pre_tokenizers import ByteLevel

from fromnoise.prompt.tokenizer import Tokenizer

FIRST = 1 << 20  # ids from here on stand for vectors: a vocabulary ends at 2^18
MOST = 1 << 8  # vectors of one embedding
NUMBERS = count()  # so that no two embeddings share an id


def number_vectors(vectors: int) -> list[int]:
    """New ids for the vectors of one embedding, MOST at most."""
    first = FIRST + next(NUMBERS) * MOST
    return list(range(first, first + vectors))


def split_units(ids: Sequence[int]) -> list[list[int]]:
    """What a block of tokens holds whole: each token, and all vectors of an embedding."""
    units: list[list[int]] = []
    for token in ids:
        if token > FIRST and (token - FIRST) % MOST:
            units[-1].append(token)
        else:
            units.append([token])
    return units


def add_names(tokenizer: Tokenizer, names: Mapping[str, Sequence[int]]) -> Tokenizer:
    """A tokenizer that reads each name as these ids, and all else as the given one, which does not
    change.

    As in A1111, a name counts wherever its tokens stand in a text, in any case of letters; where
    several names begin at a token, the longest counts."""
    read, room = tokenizer.encode_words, tokenizer.max_length - 2
    forms: dict[int, list[tuple[list[int], Sequence[int]]]] = {}
    spelled: dict[int, str] = {}
    for name, ids in names.items():
        if words := read(name):
            forms.setdefault(words[0], []).append((words, ids))
        pieces = ByteLevel(add_prefix_space=False).pre_tokenize_str(name)
        whole = "".join(piece for piece, _ in pieces)
        for i in ids:
            spelled.setdefault(i, whole * (i == ids[0]) + "</w>" * (i == ids[-1]))
    for some in forms.values():
        some.sort(key=lambda form: -len(form[0]))

    def encode_words(text: str) -> list[int]:
        words, found, place = read(text), list[int](), 0
        while place < len(words):
            near = forms.get(words[place], [])
            fits = (form for form in near if words[place : place + len(form[0])] == form[0])
            name, ids = next(fits, (words[place : place + 1], words[place : place + 1]))
            found += ids
            place += len(name)
        return found

    def encode(text: str) -> tuple[list[int], str]:
        kept = list[int]()
        for unit in split_units(encode_words(text)):
            if len(kept) + len(unit) > room:
                return pad(kept), text
            kept += unit
        return pad(kept), ""

    def pad(words: list[int]) -> list[int]:
        ids = [tokenizer.bos_id, *words, tokenizer.eos_id]
        return ids + [tokenizer.pad_id] * (tokenizer.max_length - len(ids))

    def spell(token_id: int) -> str:
        return spelled[token_id] if token_id in spelled else tokenizer.spell(token_id)

    other = copy(tokenizer)
    other.encode_words, other.encode, other.spell = encode_words, encode, spell
    return other
