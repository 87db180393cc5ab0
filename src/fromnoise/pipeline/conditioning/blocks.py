"""A prompt's words in blocks of as many tokens as the text encoder reads at once."""

from collections.abc import Callable, Sequence

from torch import Tensor

from fromnoise.diffusion.samplers.base import Query
from fromnoise.prompt.inversions import FIRST, split_units
from fromnoise.prompt.tokenizer import Tokenizer
from fromnoise.prompt.tree import Break, Chunk

# a block ends behind a comma that lies within so many tokens of its end: A1111's default
BACKTRACK = 20
LONG_WORD = 8  # tokens from which ComfyUI lets a word begin in one block and end in the next
Chunks = tuple[Chunk | Break, ...]
# what the network is shown as one context: a text, or the texts that compel joins, by weight
Texts = tuple[tuple[Chunks, float], ...]
# is called after each call of the network: the plain prompts or the parsed texts that it was shown,
# then what denoiser.Observer is given
Observer = Callable[
    [list[str] | Texts, Query, tuple[int, ...], Tensor, Tensor | None, dict[str, Tensor]], None
]
Block = list[tuple[int, float]]  # token ids and their weights, without start, end and padding


def split_blocks(
    tokenizer: Tokenizer, chunks: Sequence[Chunk | Break], dialect: str = "a1111"
) -> list[Block]:
    """The tokens of a prompt of any length, in blocks of what the text encoder reads at once (CLIP:
    75, and start and end). A full block ends behind its last comma (a1111), before a word (comfy),
    or anywhere (compel). The vectors of an embedding stand in one block; in comfy, which takes
    them for the tokens of a word, only if they are few."""
    room, comma = tokenizer.max_length - 2, tokenizer.encode_words(",")
    blocks: list[Block] = [[]]
    for chunk in chunks:
        if isinstance(chunk, Break):
            blocks.append([])
            continue
        if chunk.embedding:
            units = [tokenizer.encode_words(f"embedding:{chunk.text}")]
        elif dialect == "comfy":
            units = [*map(tokenizer.encode_words, chunk.text.replace("\n", " ").split(" "))]
        else:
            units = split_units(tokenizer.encode_words(chunk.text))
        for unit in units:
            block = blocks[-1]
            if dialect == "a1111" and len(block) == room and unit != comma:
                ends = [
                    place + 1
                    for place in range(max(room - BACKTRACK, 0), room)
                    if [block[place][0]] == comma
                ]
                if ends:
                    blocks[-1:] = [block[: ends[-1]], block[ends[-1] :]]
            whole = len(unit) < LONG_WORD if dialect == "comfy" else unit[0] >= FIRST
            if whole and len(blocks[-1]) + len(unit) > room:
                blocks.append([])
            for token in unit:
                if len(blocks[-1]) == room:
                    blocks.append([])
                blocks[-1].append((token, chunk.weight))
    return blocks if blocks[-1] or len(blocks) == 1 else blocks[:-1]
