"""How a model reads a prompt: its tokens in blocks, its weights, and words that it never learnt.
For a form that shows it while somebody writes."""

import re
from dataclasses import dataclass, field

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.conditioning.blocks import split_blocks
from fromnoise.prompt import dialects
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.offsets import find_offsets
from fromnoise.prompt.tree import Break, Chunk, Prompt, list_leaves

LETTERS = re.compile(r"[^\W\d_]+")
SPANS = 2_000  # of each kind, at most


@dataclass(frozen=True)
class Span:
    """A stretch of the text as it was written, from `start` to before `end`, in characters."""

    start: int
    end: int
    weight: float = 1.0


@dataclass(frozen=True)
class Reading:
    """What is known of a prompt. `borders`: where the second and every later block begins."""

    tokens: int
    room: int  # tokens of one block
    blocks: int
    borders: list[int] = field(default_factory=list)
    weights: list[Span] = field(default_factory=list)  # of words whose weight is not 1
    unknown: list[Span] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)


def read_words(model: LatentDiffusion, text: str, dialect: str, negative: bool) -> Reading:
    """How the model reads a prompt at its first step. Raises BadInput, in compel only."""
    # in A1111's negative prompts AND is a word like another
    read = re.sub(r"\bAND\b", "and", text) if negative else text
    prompt = parse_prompt(read, dialect)
    tokens = blocks = 0
    borders = []
    shown = hide_tags(read, dialect)
    places = Places(shown)
    for part in prompt.resolve(0, 1):
        split = split_blocks(model.tokenizer, part.chunks, dialect)
        tokens += sum(map(len, split))
        blocks += len(split)
        offsets = list_offsets(model, part.chunks, places)
        begin = 0
        for block in split[:-1]:
            begin += len(block)
            if len(offsets) == sum(map(len, split)):  # else an embedding stands among the words
                borders.append(offsets[begin])
    known = {*model.defaults.get("words", ())}
    spans = find_leaves(prompt, shown)
    return Reading(
        tokens,
        model.tokenizer.max_length - 2,
        blocks,
        borders[:SPANS],
        [span for span in spans if span.weight != 1][:SPANS],
        [word for span in spans for word in find_unknown(shown, span, known)][:SPANS],
        [f"{network.kind}: {network.name}" for network in prompt.networks],
    )


def hide_tags(text: str, dialect: str) -> str:
    """The text with a character that no prompt has in place of each tag such as <lora:…>."""
    return dialects.find(dialect).tags.sub(lambda match: "\0" * len(match[0]), text)


class Places:
    """Finds pieces of a parsed prompt again in its text, from left to right."""

    def __init__(self, text: str):
        self.text, self.at = text, 0

    def find(self, piece: str) -> list[int]:
        """The place of each character of the piece; signs of the syntax are passed over. A
        character that the parser put in has the place of the next one."""
        start = self.text.find(piece, self.at)
        if start >= 0:
            self.at = start + len(piece)
            return [*range(start, self.at)]
        found = []
        for letter in piece:
            place = self.text.find(letter, self.at)
            if place >= 0:
                self.at = place + 1
            found.append(place if place >= 0 else min(self.at, len(self.text)))
        return found


def list_offsets(
    model: LatentDiffusion, chunks: tuple[Chunk | Break, ...], places: Places
) -> list[int]:
    """The place in the text where each token begins."""
    found = []
    for chunk in chunks:
        if isinstance(chunk, Chunk):
            at = places.find(chunk.text)
            found += [at[begin] for begin, _ in find_offsets(model.tokenizer, chunk.text)]
    return found


def find_leaves(prompt: Prompt, text: str) -> list[Span]:
    """Where the words of each chunk stand, those of later steps too."""
    places, found = Places(text), []
    for part in prompt.parts:
        for chunk in list_leaves(part.nodes):
            if at := places.find(chunk.text):
                found.append(Span(at[0], at[-1] + 1, chunk.weight))
    return found


def find_unknown(text: str, span: Span, known: set[str]) -> list[Span]:
    """The words of a span that no caption had from which the model learnt; none where it does not
    say what it learnt from."""
    words = LETTERS.finditer(text, span.start, span.end) if known else ()
    return [Span(*word.span()) for word in words if word[0].lower() not in known]
