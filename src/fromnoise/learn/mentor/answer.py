"""A question → one to three sentences, each with the place it was taken from, or the admission that
the course does not say.

Nothing is invented: every sentence stands in the course, the glossary, the documents, a docstring
or an explanation of the quiz. A question whose words are not found together in one place is not
answered.
"""

import re
from dataclasses import asdict, dataclass, replace
from operator import mul
from typing import Any

from fromnoise.errors import UnknownName, escape
from fromnoise.learn.course import FIELDS, Block, load_chapters
from fromnoise.learn.exercises import EXERCISES, load
from fromnoise.learn.mentor.corpus import Span
from fromnoise.learn.mentor.index import Hit, Index, common_stems, load_index
from fromnoise.learn.mentor.premises import Premise, find_premise
from fromnoise.learn.mentor.words import terms_of, unique_terms, units_of

# What speaks for an answer being here, fitted to questions with one and without: a constant, then
# the weights of the share of the question that its best place speaks of, of its likeness to a
# question that is asked of that place, of how many things are spoken of, and of how many unfamiliar
# ones are not.
EVIDENCE = (-5.2, 4.3, 3.7, 1.1, -2.45)
COVERED = 0.5  # share of a question's weight that a place quoted beside others has half of
NEAR = 0.3  # of the best score: what scores less is not quoted beside it
SENTENCES = 3
LONGEST = 2_000  # characters of a question that are read
PERSON_OR_DATE = re.compile(
    r"(who|whose)( \w+)? (is|are|was|were|\w+ed|wrote|made|found|built|drew|won)\b"
    r"|when (did|was|were|will)\b|in (which|what) year\b"
)
ABSTAINS = "That is not in this course."
Values = dict[str, float | str]  # of an explorable's controls
SENTENCE = re.compile(
    r"(?<![\s(][a-zA-Z]\.)(?<!et al\.)(?<!eq\.)(?<!vs\.)(?<=[.!?])\s+(?=[^a-z\s])"
)


@dataclass(frozen=True)
class Citation:
    """Where a sentence stands. place: "path#anchor" or "path:line", to be opened."""

    path: str
    line: int
    anchor: str
    place: str
    sentence: str


@dataclass(frozen=True)
class Answer:
    """sentences and citations belong together, one to one."""

    sentences: tuple[str, ...]
    citations: tuple[Citation, ...]
    abstained: bool = False
    premise: str = ""  # the id of the misconception that was corrected
    spans: tuple[str, ...] = ()  # ids of what is cited, for tests

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    def as_dict(self) -> dict[str, Any]:
        rows = [asdict(citation) for citation in self.citations]
        return {"answer": self.text, "citations": rows, "abstained": self.abstained}


def ask(
    question: str,
    *,
    explorable: str = "",
    values: Values | None = None,
    hint: int = 1,
    in_page: bool = False,
) -> Answer:
    """Answers a question. explorable: the id of the one that is open, whose section is preferred,
    with its values; hint: which hint of an exercise comes next; in_page: whether a page shows the
    answer, where no command can be typed."""
    index = load_index()
    question = index.correct_spelling(question[:LONGEST])
    if exercise := find_exercise(question):
        return give_hint(exercise, hint, in_page)
    if premise := find_premise(question):
        return correct(premise, question, index)
    boosts = {find_explorable(explorable)[1]: 1.5} if explorable else {}
    points = re.search(r"\b(this|here|it|these|that)\b", question.lower())
    if explorable and points and not strong_units(question):
        return explain_explorable(question, explorable, values or {}, index)
    hits = index.search(question, boosts)
    if explorable:  # what comes out of it is not told: first the reader predicts
        place = find_explorable(explorable)[0]
        inside = range(place.line, place.line + len(FIELDS) + 1)
        hits = [h for h in hits if h.span.path != place.path or h.span.line not in inside]
    if not hits or names_stranger(question, index) or not is_known(question, hits):
        return abstain()
    return quote(question, hits, index)


def abstain() -> Answer:
    return Answer((ABSTAINS,), (), abstained=True)


NAME = re.compile(r"(?<=\s)\W?([A-Z][\w+.-]*\w|[a-z]+\d\w*)(?: (\d[\d.]*))?")


def names_stranger(question: str, index: Index) -> bool:
    """Whether a question names something that no text here names: a word with a capital letter
    behind the first word, letters and digits together, or a version of a name."""
    for name, version in NAME.findall(question):
        terms = terms_of(name)
        if terms and not any(map(index.postings.get, terms)):
            return True
        said = f"{name} {version.rstrip('.')}"
        if version and not any(said in span.text for span in index.spans):
            return True
    return False


def is_known(question: str, hits: list[Hit]) -> bool:
    """Whether the best places speak of what is asked. Who and when need a name or a year."""
    best = hits[0]
    spoken = max(hit.spoken for hit in hits[:SENTENCES])
    strange = min(hit.strange for hit in hits[:SENTENCES])
    facts = (best.coverage, best.likeness, spoken, strange)
    if EVIDENCE[0] + sum(map(mul, EVIDENCE[1:], facts)) < 0:
        return False
    if PERSON_OR_DATE.match(question.strip().lower()) and hits[0].span.kind != "glossary":
        return any(
            re.search(r"[A-Z]\w+ (et al\.|& [A-Z]\w+)|\b(19|20)\d\d\b", hit.span.text)
            for hit in hits[:SENTENCES]
            if hit.coverage >= 0.9
        )
    return True


def strong_units(question: str) -> list[tuple[str, ...]]:
    """What a question asks about, without words that say little."""
    return [unit for unit in units_of(question) if unit[0] not in common_stems()]


def quote(question: str, hits: list[Hit], index: Index) -> Answer:
    """The sentence that fits best from each of the best places, at most three; of a single place,
    its two best."""
    chosen, places = [], set()
    for hit in hits[: SENTENCES + 2]:
        far = hit.score < NEAR * hits[0].score or hit.coverage < COVERED / 2
        if len(chosen) == SENTENCES or (chosen and far):
            break
        if hit.span.id not in places:
            places.add(hit.span.id)
            sentence = choose_sentences(question, hit.span, index, 1)[0]
            if not any(sentence == before for _, before in chosen):
                chosen.append((hit.span, sentence))
    if len(chosen) == 1:
        span = chosen[0][0]
        chosen = [(span, sentence) for sentence in choose_sentences(question, span, index, 2)]
    return make(chosen)


def choose_sentences(question: str, span: Span, index: Index, many: int) -> list[str]:
    """The sentences of a span that say most of what is asked, in their order."""
    parts = split(span.text)
    if span.kind == "quiz":  # the right option and why it is right belong together
        return [" ".join(parts[:2])]
    asked = set(unique_terms(question))

    def value(number: int) -> tuple[float, int]:
        terms = set(terms_of(parts[number]))
        weight = sum(index.weight(term) for term in asked & terms)
        short = 0.5 if len(terms) < 4 else 1.0
        return weight * short + 0.5 * (number == 0), -number

    best = sorted(sorted(range(len(parts)), key=value, reverse=True)[:many])
    return [parts[number] for number in best]


def split(text: str) -> list[str]:
    """The sentences of a text."""
    return [part.strip() for part in SENTENCE.split(text) if part.strip()] or [text]


def make(chosen: list[tuple[Span, str]], premise: str = "") -> Answer:
    sentences = tuple(sentence for _, sentence in chosen)
    citations = tuple(
        Citation(span.path, span.line, span.anchor, span.place, sentence)
        for span, sentence in chosen
    )
    return Answer(sentences, citations, False, premise, tuple(span.id for span, _ in chosen))


def correct(premise: Premise, question: str, index: Index) -> Answer:
    """What is true, at the place that explains it, and the sentence there that fits best."""
    chosen: list[tuple[Span, str]] = []
    for number, source in enumerate(premise.sources[:2]):
        spans = [span for span in index.spans if span.id == source]
        asked = set(unique_terms(f"{question} {premise.says}"))
        best = max(spans, key=lambda span: len(asked & set(terms_of(span.text))))
        if number == 0:
            chosen.append((best, premise.says))
        sentence = choose_sentences(premise.says, best, index, 1)[0]
        if not any(repeats(sentence, before) for _, before in chosen):
            chosen.append((best, sentence))
    return make(chosen[:SENTENCES], premise.id)


def repeats(sentence: str, before: str) -> bool:
    """Whether a sentence says hardly more than another one."""
    terms = set(terms_of(sentence))
    return len(terms & set(terms_of(before))) >= 0.7 * len(terms)


def find_exercise(question: str) -> str:
    """The name of the exercise that a question asks to be solved, or ""."""
    low = question.lower()
    if not re.search(r"\b(solution|solve|exercise|implement|write|code|hint|stuck|task)\b", low):
        return ""
    spoken = re.sub(r"[ -]", "_", low)
    for name in sorted(EXERCISES, key=len, reverse=True):
        if re.search(rf"(?<![a-z0-9]){name}(?![a-z0-9])", spoken):
            exact = re.search(rf"\b{name}\b", low) is not None
            if exact or re.search(r"\b(exercise|task|hint|solution|stuck)\b", low):
                return name
    return ""


def give_hint(name: str, number: int, in_page: bool = False) -> Answer:
    """The next hint. The solution is one's own word away: `fromnoise learn exercise NAME
    --solution`, or the exercise's own button in a page."""
    exercise = load(name)
    many = len(exercise.hints)
    number = min(max(number, 1), many)
    path = f"src/fromnoise/learn/exercises/tasks/{name}.py"
    span = Span(f"{path}:", path, 1, "", exercise.title, exercise.task)
    more = f"--hint {number + 1}" if number < many else "--solution"
    after = f"Try it with `fromnoise learn check`; next: `fromnoise learn exercise {name} {more}`."
    if in_page:  # where the exercise is, not its solution
        span = replace(find_in_course("exercise", name)[0], title=exercise.title)
        last = "This was the last hint: the exercise can show you the solution."
        after = (
            f"Try it, then ask again for hint {number + 1} of {many}." if number < many else last
        )
    said = [f"A hint first: {exercise.hints[number - 1]}", after]
    return make([(span, sentence) for sentence in said])


def find_explorable(name: str) -> tuple[Span, str]:
    """(the place of an explorable, with what to do there; the id of its section)."""
    span, block = find_in_course("explorable", name)
    fields = block.fields()
    return replace(span, title=fields["Title"], text=fields["Run"]), span.id


def find_in_course(kind: str, name: str) -> tuple[Span, Block]:
    """Where the course has an explorable or an exercise. Raises UnknownName."""
    names = []
    for chapter in load_chapters():
        for section in chapter.sections:
            for block in section.blocks:
                if (block.kind, block.name) == (kind, name):
                    where = (chapter.path, block.line, section.anchor)
                    return Span(f"{chapter.number}#{section.anchor}", *where, "", ""), block
                names += [block.name] if block.kind == kind else []
    raise UnknownName(kind, name, names)


def explain_explorable(question: str, name: str, values: Values, index: Index) -> Answer:
    """What is open, with which values, what to do there, and what its section says of it. What
    comes out is not told: first the reader predicts."""
    span, section = find_explorable(name)
    at = ", ".join(
        f"{key} = {escape(value, 40) if isinstance(value, str) else f'{value:g}'}"
        for key, value in sorted(values.items())
    )
    said = f"“{span.title}” is open{' with ' + at if at else ''}: {span.text}"
    hits = index.search(f"{question} {span.title} {span.text}", {section: 5.0})
    best = next(hit.span for hit in hits if hit.span.id == section)
    return make([(span, said), (best, choose_sentences(span.text, best, index, 1)[0])])
