"""BM25 over spans (Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework", eq. 3.15),
with the title counted more than the text and the surroundings less (their BM25F, eq. 3.19)."""

import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from fromnoise.learn.mentor.corpus import Span, load_asked, load_spans
from fromnoise.learn.mentor.spelling import correct, list_words
from fromnoise.learn.mentor.words import (
    RELATED_STEMS,
    STOPWORDS,
    WEAK,
    frame_of,
    pairs_of,
    stem,
    terms_of,
    unique_terms,
    units_of,
)

K1, B = 1.2, 0.5
SHORTEST = 1.0  # of the mean length: what is shorter is not better for it
SAME_PLACE = 1  # hits of one section: more of them would hide other places
TITLE, TEXT, TOPIC, WORDS = 2.0, 1.0, 0.2, 1.5  # how much an occurrence counts, by where it stands
RELATED_WEIGHT = 0.4
NAMED = 2.2  # how much more a place in the source counts where the question holds a name from it
PAIR = 0.5  # how much two neighbouring words count beside each of them
AROUND = 0.6  # how much counts what only the rest of the section says
OTHERS = 0.3  # and what only the wrong options of a question say
WEAKEST = 1.5  # the weight of a word that says little
FIGURE = 2.0  # and of a number
FAMILIAR = 4.0  # the weight of a word that stands in about 30 places
SMALL, MOST, NEIGHBOURS = 1.6, 4.0, 0.15  # what small words, rare ones and pairs tell of a wording
ALIKE, ASKED, FAR = 0.3, 14.0, 0.1  # how much a like question counts, and from where on
CAPITAL = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")  # behind the first word of a sentence
WEAK_STEMS = frozenset(map(stem, WEAK))
# Only the copy in a browser tab has this file: building the index there would take too long.
PREBUILT = Path(__file__).with_name("index.json")


@cache
def common_stems() -> frozenset[str]:
    """Common English words, whose absence from a place says nothing."""
    text = Path(__file__).with_name("common.txt").read_text(encoding="utf-8")
    return frozenset(map(stem, text.split())) | WEAK_STEMS


@dataclass(frozen=True)
class Hit:
    span: Span
    score: float
    coverage: float  # share of the question's weight that the span speaks of
    spoken: float  # how many things of the question it speaks of
    strange: int  # how many unfamiliar ones it does not speak of
    likeness: float  # to the nearest question that the place answers


# How far a kind of text is to be preferred: the course explains, docstrings state.
PRIORS = {"course": 1.25, "glossary": 1.15, "quiz": 1.0, "docs": 1.1, "code": 0.75}


@dataclass(frozen=True)
class Index:
    """Spans that can be searched. What stands in a list at place i belongs to spans[i]."""

    spans: tuple[Span, ...]
    postings: dict[str, list[tuple[int, float]]]  # term → (number of a span, weighted count), …
    inside: list[frozenset[str]]  # terms of the span itself
    around: list[frozenset[str]]  # terms of its topic
    norms: list[float]  # what a count is compared with, longer for a longer span
    asked: tuple[tuple[str, str], ...]  # (id of a place, a question that it answers)
    vocabulary: tuple[str, ...]  # words that stand in many places, the most frequent first

    @classmethod
    def build(cls, spans: tuple[Span, ...], asked: tuple[tuple[str, str], ...] = ()) -> "Index":
        """In the order of the spans, without chance."""
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        inside, around, lengths = [], [], []
        questions: dict[str, str] = defaultdict(str)
        for name, question in asked:
            questions[name] += f" {question}?"
        for number, span in enumerate(spans):
            counts: Counter[str] = Counter()
            near: set[str] = set()
            for field, weight in (
                (span.title, TITLE),
                (span.text, TEXT),
                (span.topic, TOPIC),
                (span.words, WORDS),
            ):
                terms = terms_of(field)
                for term in terms:
                    counts[term] += weight  # type: ignore[assignment]
                if weight in (TITLE, WORDS):
                    for pair in sorted(pairs_of(field)):  # the same order in every process
                        counts[pair] += weight * PAIR  # type: ignore[assignment]
                near.update(terms if weight != TOPIC else ())
            inside.append(frozenset(near))
            around.append(frozenset(terms_of(f"{span.topic} {questions.get(span.id, '')}")))
            lengths.append(sum(counts.values()))
            for term, count in counts.items():
                postings[term].append((number, count))
        mean = sum(lengths) / max(len(lengths), 1)
        lengths = [max(length / mean, SHORTEST) for length in lengths]
        norms = [K1 * (1 - B + B * length) for length in lengths]
        return cls(
            spans,
            dict(postings),
            inside,
            around,
            norms,
            asked,
            list_words(f"{span.title} {span.text}" for span in spans),
        )

    def export(self) -> str:
        """As JSON, for `read_index`."""
        spans = [astuple(replace(span, topic="", words="")) for span in self.spans]
        terms = [[sorted(part) for part in parts] for parts in (self.inside, self.around)]
        whole = [spans, self.postings, *terms, self.norms, self.asked, self.vocabulary]
        return json.dumps(whole, ensure_ascii=False)

    def weight(self, term: str) -> float:
        """How much a term tells: its inverse document frequency; the most for an unknown one."""
        if term in WEAK_STEMS:
            return WEAKEST
        n, N = len(self.postings.get(term, ())), len(self.spans)
        return math.log(1 + (N - n + 0.5) / (n + 0.5))

    def is_common(self, term: str) -> bool:
        """Whether a term is common English: by itself, or as what is made of a common word."""
        parts = (term.removesuffix(end) for end in ("ness", "ful", "less", "abl", "iv", "al"))
        return any(stem(part) in common_stems() for part in (term, *parts) if len(part) > 2)

    def burden(self, term: str, named: bool = False) -> float:
        """How much a place is expected to speak of a term: little of a common English word, but
        all of one that is written as a name."""
        weight = self.weight(term)
        if term[0].isdigit():  # how many of something
            return min(weight, FIGURE)
        return min(weight, WEAKEST) if self.is_common(term) and not named else weight

    def speaks(self, number: int, unit: tuple[str, ...]) -> float:
        """How far a span speaks of one thing: 1 in its own words, AROUND beside it. The parts of a
        name stand for it where they are words."""
        parts = unit[1:] if all(len(p) > 1 and p.isalpha() for p in unit[1:]) else ()
        beside = OTHERS if self.spans[number].kind == "quiz" else AROUND
        for words, share in ((self.inside[number], 1.0), (self.around[number], beside)):
            if unit[0] in words or (parts and all(part in words for part in parts)):
                return share
        return 0.0

    def is_spelt(self, word: str) -> bool:
        """Whether a word is known here, or in common English."""
        return word in STOPWORDS or stem(word) in self.postings or stem(word) in common_stems()

    def correct_spelling(self, question: str) -> str:
        """The question with slips of one letter mended."""
        return correct(question, self.vocabulary, self.is_spelt)

    def importance(self, word: str) -> float:
        """How much a word, or two neighbours, tell of a question's wording."""
        if " " in word:
            return NEIGHBOURS * sum(map(self.importance, word.split()))
        return SMALL if word.startswith("~") else min(max(self.weight(word), 1.0), MOST)

    @cached_property
    def wordings(self) -> tuple[list[tuple[str, float]], dict[str, list[int]]]:
        """([(id, length of the question as a vector)], word → questions that hold it)."""
        rows, holders = [], defaultdict(list)
        for number, (name, question) in enumerate(self.asked):
            words = set(frame_of(question))
            rows.append((name, math.sqrt(sum(self.importance(w) ** 2 for w in sorted(words)))))
            for word in sorted(words):
                holders[word].append(number)
        return rows, dict(holders)

    def resemble(self, question: str) -> dict[str, float]:
        """id → the cosine of the question with the nearest one that is asked of the place."""
        rows, holders = self.wordings
        sums: dict[int, float] = defaultdict(float)
        length = 0.0
        for word in dict.fromkeys(frame_of(question)):
            weight = self.importance(word) ** 2
            length += weight
            for number in holders.get(word, ()):
                sums[number] += weight
        best: dict[str, float] = {}
        for number, product in sums.items():
            name, other = rows[number]
            best[name] = max(best.get(name, 0.0), product / (other * math.sqrt(length)))
        return best

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """id → the numbers of its spans."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, span in enumerate(self.spans):
            found[span.id].append(number)
        return dict(found)

    def search(self, question: str, boosts: dict[str, float] | None = None) -> list[Hit]:
        """The spans that speak of a question, best first. boosts: id → factor."""
        asked = unique_terms(question)
        wanted = dict.fromkeys(asked, 1.0)
        for term in asked:
            for other in RELATED_STEMS.get(term, ()):
                wanted.setdefault(other, RELATED_WEIGHT)
        wanted |= dict.fromkeys(pairs_of(question), PAIR)
        scores: dict[int, float] = defaultdict(float)
        for term, share in wanted.items():
            idf = self.weight(term)
            for number, count in self.postings.get(term, ()):
                scores[number] += share * idf * count * (K1 + 1) / (count + self.norms[number])
        code = 1.0
        if re.search(r"\w_\w|[a-z][A-Z]|\.py\b", question):
            code = NAMED
        elif re.search(r"\b(code|function|class|implement\w*)\b", question):
            code = 1.5
        names = set(re.findall(r"\b(?=\w*[A-Z_])[A-Za-z_]\w*", question))
        amount = bool(re.match(r"how (many|much|long|large|big|high)\b", question.lower()))
        short = (
            bool(re.match(r"(what|which) (is|are|does)\b", question.lower())) and len(asked) == 1
        )
        written = {stem(name.lower()) for name in CAPITAL.findall(question)}
        units = [(u, self.burden(u[0], u[0] in written)) for u in units_of(question)]
        total = sum(weight for _, weight in units) or 1.0
        alike = self.resemble(question)
        for name, likeness in alike.items():
            for number in self.places.get(name, ()) if likeness > FAR else ():
                scores.setdefault(number, 0.0)
        hits = []
        for number, score in scores.items():
            known, spoken, strange = 0.0, 0.0, 0
            for unit, weight in units:
                share = self.speaks(number, unit)
                known += weight * share
                spoken += share
                strange += not share and weight > FAMILIAR
            span = self.spans[number]
            factor = (boosts or {}).get(span.id, 1.0) * PRIORS[span.kind]
            if span.kind == "code":
                factor *= NAMED if span.id.rsplit(":")[-1].rsplit(".")[-1] in names else code
            if amount:
                factor *= 1.3 if re.search(r"\d|\b(once|twice)\b", span.text) else 0.8
            if short and span.kind == "glossary" and asked[0] in unique_terms(span.title):
                factor *= 2
            known /= total
            near = alike.get(span.id, 0.0)
            score = score * factor * (0.5 + 0.5 * known) * (1 + ALIKE * near)
            score += ASKED * max(near - FAR, 0.0)
            hits.append(Hit(span, score, known, spoken, strange, near))
        hits.sort(key=lambda hit: (-hit.score, hit.span.path, hit.span.line))
        places: Counter[str] = Counter()
        kept = []
        for hit in hits:
            places[hit.span.id] += 1
            if places[hit.span.id] <= SAME_PLACE:
                kept.append(hit)
        return kept


@cache
def load_index() -> Index:
    """The index over everything, built at its first use (about a second, once a process)."""
    if PREBUILT.is_file():
        return read_index(PREBUILT.read_text(encoding="utf-8"))
    return Index.build(load_spans(), load_asked())


def read_index(text: str) -> Index:
    """What `Index.export` wrote: all that a search needs."""
    spans, postings, inside, around, norms, asked, vocabulary = json.loads(text)
    return Index(
        tuple(Span(*row) for row in spans),
        postings,
        [frozenset(terms) for terms in inside],
        [frozenset(terms) for terms in around],
        norms,
        tuple((name, question) for name, question in asked),
        tuple(vocabulary),
    )
