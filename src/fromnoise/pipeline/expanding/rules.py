"""A short prompt → one that also says style, light and surroundings, by rules: no model is asked.

The same prompt always becomes the same one. What the prompt says itself stays as it is."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from fromnoise.data.source import Source
from fromnoise.data.sources import SOURCES, open_source
from fromnoise.prompt.words import split_words

SYNTAX = re.compile(r"[()\[\]{}\\<|]|\bAND\b|\bBREAK\b")  # more than words: docs/prompts.md
LONG = 40  # words: a prompt of so many says enough
# what is said of a picture → (words of a prompt that says it, what is added where none is there)
ADDED: dict[str, tuple[str, tuple[str, ...]]] = {
    "style": (
        r"photo|picture|paint|drawing|sketch|illustration|render|watercolou?r|art|style|anime|logo",
        ("a photograph", "an oil painting", "a watercolour", "a digital illustration"),
    ),
    "light": (
        r"light|sun|shadow|dark|night|dawn|dusk|bright",
        ("soft daylight", "warm evening light", "light from one side", "bright studio light"),
    ),
    "view": (
        r"close|wide|view|portrait|angle|macro|background|landscape|aerial",
        ("a wide view", "a close view", "seen from the front", "a plain background"),
    ),
    "detail": (r"detail|sharp|intricate|simple|minimal", ("fine details", "clear shapes")),
}


@dataclass(frozen=True)
class Vocabulary:
    """What a model was taught. words: None where it does not say; source: the one whose captions
    it learnt from, where that is one of this program's."""

    words: frozenset[str] | None = None
    source: Source | None = None


@dataclass(frozen=True)
class Expansion:
    """A prompt that says more, and what the user should know of it."""

    prompt: str
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=16)
def find_vocabulary(words: tuple[str, ...]) -> Vocabulary:
    """The vocabulary of a model whose captions had these words; none: it does not say."""
    if not words:
        return Vocabulary()
    known = frozenset(words)
    for name in SOURCES:
        source = open_source(name)
        if all(known.issuperset(split_words(phrase)) for phrase, _, _ in list_phrases(source)):
            return Vocabulary(known, source)
    return Vocabulary(known)


def list_phrases(source: Source) -> Iterator[tuple[str, str, str]]:
    """(what captions write, the attribute that it states, its value)."""
    for attribute in source.schema:
        for value, names in source.list_names(attribute).items():
            yield from ((name, attribute, value) for name in names)


def keep_as_it_is(prompt: str) -> Expansion | None:
    """The prompt itself where there is nothing to expand, with the reason; None: there is."""
    if SYNTAX.search(prompt):
        return Expansion(prompt, ("the prompt has signs of its own and is not expanded",))
    if len(prompt.split()) >= LONG:
        return Expansion(prompt, ("the prompt is long and is not expanded",))
    return None if prompt.strip() else Expansion(prompt)


def expand(prompt: str, vocabulary: Vocabulary) -> Expansion:
    """The prompt with what it leaves open, in words that the model knows."""
    if (same := keep_as_it_is(prompt)) is not None:
        return same
    if vocabulary.source is not None:
        return expand_caption(prompt, vocabulary, vocabulary.source)
    head, *rest = (choose_addition(prompt, what, vocabulary.words) for what in ADDED)
    subject = prompt.strip().rstrip(".,;")
    parts = [f"{head} of {subject}" if head else subject, *filter(None, rest)]
    text = ", ".join(parts)
    notes = () if len(parts) > 1 or head else ("nothing is added: the prompt says all there is",)
    return Expansion(text if not notes else prompt, notes)


def choose_addition(prompt: str, what: str, words: frozenset[str] | None) -> str:
    """What is added to a prompt that does not say it; "" where it does, or the model knows no words
    for it."""
    said, choices = ADDED[what]
    if re.search(rf"\b(?:{said})", prompt.lower()):
        return ""
    if words is not None:
        choices = [choice for choice in choices if words.issuperset(split_words(f"{choice} of"))]
    return choose(choices, prompt, what) if choices else ""


def choose(choices: Sequence[str], *by: str) -> str:
    """One of them, always the same for the same texts."""
    digest = hashlib.sha256("\n".join(by).encode("utf-8", "replace")).digest()
    return choices[int.from_bytes(digest[:8], "big") % len(choices)]


def expand_caption(prompt: str, vocabulary: Vocabulary, source: Source) -> Expansion:
    """The plainest caption of a source that says what the prompt says, and its open details."""
    stated, left, clear = read_caption(prompt, source)
    subject = next(iter(source.schema))
    if subject not in stated:
        known = ", ".join([*source.schema[subject]][:8])
        why = f"it names nothing that this model was taught ({known}, …)"
    elif not clear:
        why = "it names more than one thing"
    elif (caption := complete_caption(prompt, stated, source)) is None:
        why = "no caption that this model was taught says it"
    else:
        names = " ".join(sum(source.list_names(subject).values(), ()))
        known = (vocabulary.words or frozenset(left)) - {*split_words(names)}
        lost = [repr(word) for word in left if word not in known]
        note = f"what is expanded leaves out {', '.join(lost)}: this model was not taught to say it"
        return Expansion(caption, (note,) if lost else ())
    return Expansion(prompt, (f"the prompt is not expanded: {why}",))


def read_caption(prompt: str, source: Source) -> tuple[dict[str, str], list[str], bool]:
    """(attribute → value that a prompt states, its words beside these, whether no attribute has two
    values and none of two that share their names is a second one)."""
    words = re.findall(r"[\w-]+", prompt.lower())
    meanings: dict[tuple[str, ...], dict[str, str]] = {}
    for phrase, attribute, value in list_phrases(source):
        meanings.setdefault(tuple(phrase.lower().split()), {}).setdefault(attribute, value)
    found: list[tuple[int, dict[str, str]]] = []
    free = [True] * len(words)
    for phrase in sorted(meanings, key=len, reverse=True):  # "palm tree" before "tree"
        for i in range(len(words) - len(phrase) + 1):
            span = slice(i, i + len(phrase))
            if tuple(words[span]) == phrase and all(free[span]):
                free[span] = [False] * len(phrase)
                found.append((i, meanings[phrase]))
    stated: dict[str, str] = {}
    clear = True
    for _, meaning in sorted(found, key=lambda pair: pair[0]):
        attribute = next(iter(meaning))  # the schema's first one
        value = stated.setdefault(attribute, meaning[attribute])
        clear = clear and value == meaning[attribute]
    return stated, [word for word, is_free in zip(words, free, strict=True) if is_free], clear


def complete_caption(prompt: str, stated: dict[str, str], source: Source) -> str | None:
    """The caption of what is stated, as many open details as can be, and as little else as must be;
    None where the source has none."""
    said = {
        name: [*filter(source.list_names(name).get, source.schema[name])] for name in source.schema
    }
    details = [name for name in source.details if name not in stated]
    others = [name for name in source.schema if name not in stated and name not in details]
    for many in range(len(details), -1, -1):
        chosen = {name: choose(said[name], prompt, name) for name in details[:many]}
        for few in range(min(len(others), 3) + 1):
            for names in combinations(others, few):
                least = {name: source.schema[name][0] for name in names}
                if caption := source.write_caption(stated | chosen | least):
                    return caption
    return None
