"""When to ask what again: Leitner's boxes (Sebastian Leitner 1972, "So lernt man lernen"), and the
progress that a reader can take along.

A card climbs one box with each right answer and falls back to the first one with a wrong answer.
The higher its box, the later it is asked again: the days between reviews double from box to box, as
spaced reviews do (Cepeda et al. 2006, "Distributed practice in verbal recall tasks"). The clock and
the chance are arguments, so that every run can be repeated.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from fromnoise.errors import BadInput, escape
from fromnoise.learn.quiz import Option, Question, load_questions

FORMAT, VERSION = "fromnoise-quiz", 1
BOXES = 6
DAY = 86_400  # seconds
RETRY = 600  # seconds after which a wrong answer can be mended
LARGEST_PROGRESS = 1_000_000  # characters of a progress file
LATEST = 2**40  # seconds since 1970: no clock shows more


@dataclass(frozen=True)
class Card:
    """What is known of one question's answers."""

    box: int = 0  # 0: new, or wrong the last time
    due: int = 0  # seconds since 1970, when it is asked again
    wording: int = -1  # the one that was shown last; −1: none
    seen: int = 0
    right: int = 0


@dataclass(frozen=True)
class Asked:
    """A question as it is shown: one of its wordings, its options in a new order."""

    question: Question
    wording: int
    options: tuple[Option, ...]

    @property
    def text(self) -> str:
        return self.question.wordings[self.wording]


@dataclass
class Progress:
    """The cards of one reader, by the question's id."""

    cards: dict[str, Card] = field(default_factory=dict)

    def pick(
        self, questions: Iterable[Question], now: int, chance: random.Random, last: str = ""
    ) -> Asked | None:
        """The next question to ask, or None where nothing is due.

        Due cards come first, those of low boxes before others; then new ones, from easy to hard.
        Every third turn is a new one's, so that a few hard cards do not keep all others away.
        `last`: the id of the question before, which is not asked twice in a row unless it is the
        only one. The wording is never the one that was shown last.
        """
        due, new = [], []
        for question in questions:
            card = self.cards.get(question.id)
            if card is None:
                new.append((question.level, chance.random(), question))
            elif card.due <= now:
                due.append((card.box, card.due, chance.random(), question))
        queues = [[row[-1] for row in sorted(rows, key=lambda r: r[:-1])] for rows in (due, new)]
        if sum(card.seen for card in self.cards.values()) % 3 == 2:
            queues.reverse()
        order = queues[0] + queues[1]
        if len(order) > 1 and order[0].id == last:
            order = order[1:]
        return self.show(order[0], chance) if order else None

    def show(self, question: Question, chance: random.Random) -> Asked:
        shown = self.cards.get(question.id, Card()).wording
        wordings = [i for i in range(len(question.wordings)) if i != shown]
        options = list(question.options)
        chance.shuffle(options)
        return Asked(question, chance.choice(wordings), tuple(options))

    def answer(self, asked: Asked, choice: int, now: int) -> Option:
        """Takes the answer (a number of `asked.options`) in, and returns the chosen option."""
        option = asked.options[choice]
        card = self.cards.get(asked.question.id, Card())
        box = min(card.box + 1, BOXES - 1) if option.right else 0
        due = now + (DAY * 2 ** (box - 1) if box else RETRY)
        right = card.right + option.right
        self.cards[asked.question.id] = Card(box, due, asked.wording, card.seen + 1, right)
        return option

    def export(self) -> str:
        """As JSON, to be kept or taken to another place."""
        cards = {name: asdict(card) for name, card in sorted(self.cards.items())}
        return json.dumps({"format": FORMAT, "version": VERSION, "cards": cards}, indent=1) + "\n"


def load_progress(text: str) -> Progress:
    """What `export` wrote. Raises BadInput, which names the field, for anything else; cards of
    questions that the course does not have (any more) are left out."""
    remedy = "give a file that `fromnoise learn quiz` or the page's export wrote"
    if len(text) > LARGEST_PROGRESS:
        raise BadInput("the quiz progress is larger than 1 MB", remedy)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the quiz progress is no JSON: {escape(error)}", remedy) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadInput(f"the quiz progress has no format {FORMAT!r}", remedy)
    if data.get("version") != VERSION:
        wanted = f"version {VERSION} is known"
        raise BadInput(f"quiz progress of version {escape(data.get('version'))}; {wanted}", remedy)
    cards = data.get("cards")
    if not isinstance(cards, dict):
        raise BadInput("the quiz progress has no cards", remedy)
    questions = load_questions()
    return Progress({n: _card(n, row, remedy) for n, row in cards.items() if n in questions})


def _card(name: str, row: Any, remedy: str) -> Card:
    most = {"box": BOXES - 1, "due": LATEST, "seen": 10**6, "right": 10**6}
    most["wording"] = len(load_questions()[name].wordings) - 1
    if not isinstance(row, dict) or set(row) != set(most):
        raise BadInput(f"quiz card {name!r} has not the fields {', '.join(most)}", remedy)
    for key, value in row.items():
        low = -1 if key == "wording" else 0
        if type(value) is not int or not low <= value <= most[key]:
            raise BadInput(f"quiz card {name!r}: {key} {escape(value, 60)} cannot be", remedy)
    if row["right"] > row["seen"]:
        raise BadInput(f"quiz card {name!r}: more right answers than answers", remedy)
    return Card(**row)
