"""The quiz: its questions, its reviews, and progress that comes from outside."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromnoise.errors import BadInput
from fromnoise.learn.course import load_chapters
from fromnoise.learn.quiz import LEVELS, choose_questions, load_questions, read_questions
from fromnoise.learn.quiz.review import BOXES, DAY, RETRY, Card, Progress, load_progress

QUESTIONS = load_questions()
FIVE = load_chapters()[:5]


def test_there_are_enough_of_every_kind():
    assert len(QUESTIONS) >= 60
    for chapter in FIVE:
        rows = choose_questions(chapter.id)
        assert len(rows) >= 12
        assert {q.level for q in rows} == set(LEVELS)
    assert {q.chapter for q in QUESTIONS.values()} == {c.id for c in FIVE}


def test_the_right_option_cannot_be_told_by_its_length():
    """Of four options each is the longest, or the shortest, in a quarter by chance."""
    for pick in (max, min):
        told = [pick(q.options, key=lambda o: len(o.text)).right for q in QUESTIONS.values()]
        assert sum(told) <= 0.35 * len(told)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_whole(name):
    question = QUESTIONS[name]
    chapter = next(c for c in FIVE if c.id == question.chapter)
    assert question.section in {s.anchor for s in chapter.sections}
    assert len(set(question.wordings)) >= 2
    assert all(w.endswith("?") for w in question.wordings)
    assert len({o.text for o in question.options}) == len(question.options) >= 4
    assert [o.right for o in question.options].count(True) == 1
    for option in question.options:
        assert len(option.why.split()) >= 4
        assert bool(option.tag) != option.right
        assert option.tag == option.tag.lower().replace(" ", "_")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("level = 1", "level = 4"), "level"),
        (('"B?"', '"A?"'), "wordings"),
        (("right = true, ", "right = true, tag = 'x', "), "tag"),
        ((', tag = "t"', ""), "tag"),
        (('text = "3"', 'text = "2"'), "options"),
        (('why = "w"', 'why = ""'), "why"),
    ],
)
def test_bad_questions_are_refused(change, word):
    good = """[[question]]
id = "a"
level = 1
section = "s"
wordings = ["A?", "B?"]
options = [ { text = "1", right = true, why = "w" }, { text = "2", tag = "t", why = "v" },
  { text = "3", tag = "u", why = "v" }, { text = "4", tag = "u", why = "v" } ]
"""
    assert len(read_questions(good, "c")) == 1
    with pytest.raises(BadInput, match=word):
        read_questions(good.replace(*change), "c")


def test_two_tries_never_show_the_same_wording():
    progress, chance, now, last, shown = Progress(), random.Random(0), 0, "", {}
    pool = choose_questions("latent-diffusion")
    for _ in range(200):
        asked = progress.pick(pool, now, chance, last)
        assert asked is not None
        name = asked.question.id
        assert name != last
        assert shown.get(name) != asked.text
        shown[name], last = asked.text, name
        progress.answer(asked, chance.randrange(len(asked.options)), now)
        now += 40 * DAY  # everything is due again
    assert len(shown) == len(pool)


def place_of(asked, right):
    return next(i for i, option in enumerate(asked.options) if option.right == right)


def test_boxes_climb_and_fall():
    progress, chance, now = Progress(), random.Random(1), 1_000_000
    pool = choose_questions("clip-the-bridge", [1])[:1]
    waits = []
    for _ in range(BOXES):
        asked = progress.pick(pool, now, chance)
        progress.answer(asked, place_of(asked, True), now)
        card = progress.cards[pool[0].id]
        assert progress.pick(pool, card.due - 1, chance) is None
        waits.append((card.due - now) // DAY)
        now = card.due
    assert waits == [1, 2, 4, 8, 16, 16]
    asked = progress.pick(pool, now, chance)
    assert not progress.answer(asked, place_of(asked, False), now).right
    assert progress.cards[pool[0].id] == Card(0, now + RETRY, asked.wording, BOXES + 1, BOXES)
    assert progress.pick(pool, now, chance) is None
    assert progress.pick(pool, now + RETRY, chance) is not None


def test_due_cards_come_before_new_ones_and_easy_before_hard():
    chance, pool = random.Random(2), choose_questions("train-one-yourself")
    progress = Progress()
    levels = []
    while asked := progress.pick(pool, 0, chance):
        levels.append(asked.question.level)
        progress.answer(asked, place_of(asked, True), 0)
    assert levels == sorted(levels)
    weak = pool[5].id
    progress.cards[weak] = Card(0, 0, 0, 1, 0)
    assert progress.pick(pool, 10 * DAY, chance).question.id == weak


def test_progress_goes_round():
    progress, chance = Progress(), random.Random(3)
    for i in range(30):
        asked = progress.pick(QUESTIONS.values(), i, chance)
        progress.answer(asked, i % 4, i)
    assert load_progress(progress.export()) == progress


def test_cards_of_another_course_are_left_out():
    row = {"box": 1, "due": 5, "wording": 0, "seen": 1, "right": 1}
    text = {"format": "fromnoise-quiz", "version": 1, "cards": {"gone": row, "kl-zero": row}}
    assert set(load_progress(json.dumps(text)).cards) == {"kl-zero"}


CARD = {"box": 1, "due": 5, "wording": 0, "seen": 1, "right": 1}


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"format": "fromnoise-quiz"}',
        "x" * 1_000_001,
        {"format": "other", "version": 1, "cards": {}},
        {"format": "fromnoise-quiz", "version": 2, "cards": {}},
        {"format": "fromnoise-quiz", "version": 1, "cards": []},
        *(
            {"format": "fromnoise-quiz", "version": 1, "cards": {"kl-zero": card}}
            for card in (
                None,
                {},
                {**CARD, "box": 99},
                {**CARD, "box": True},
                {**CARD, "due": -1},
                {**CARD, "due": 1e300},
                {**CARD, "due": float("nan")},
                {**CARD, "wording": 7},
                {**CARD, "right": 2},
                {**CARD, "extra": 1},
                {**CARD, "seen": "1"},
            )
        ),
    ],
    ids=str,
)
def test_nothing_from_outside_gets_in_unread(data):
    with pytest.raises(BadInput):
        load_progress(data if isinstance(data, str) else json.dumps(data))


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_refused_or_read(data):
    for text in (data, {"format": "fromnoise-quiz", "version": 1, "cards": {"kl-zero": data}}):
        with pytest.raises(BadInput):
            load_progress(json.dumps(text))
