"""What the tab adds: code judged in the same interpreter, an index that was built before, answers
for a page."""

import builtins
import math
import random

import pytest
from mentor_questions import rows
from wrong import WRONG

from fromnoise.errors import BadInput
from fromnoise.learn.exercises import EXERCISES, load
from fromnoise.learn.exercises.in_tab import LARGEST_OUTPUT, LARGEST_SOURCE, check_source
from fromnoise.learn.mentor.answer import ask
from fromnoise.learn.mentor.index import load_index, read_index

ALL = [(name, tag, source) for name, wrong in WRONG.items() for tag, source in wrong]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(name):
    assert check_source(name, load(name).solution)[0].passed
    assert not check_source(name, load(name).starter)[0].passed


@pytest.mark.parametrize(("name", "tag", "source"), ALL, ids=[f"{n}-{t}" for n, t, _ in ALL])
def test_each_misconception_is_named(name, tag, source):
    verdict, _ = check_source(name, "import math\n" + source)
    assert (verdict.passed, verdict.tag) == (False, tag)
    assert verdict.hint in {m.hint for m in load(name).misconceptions if m.tag == tag}


@pytest.mark.parametrize(
    ("source", "tag", "says"),
    [
        ("import os\nos.fork()", "error", "cannot import os"),
        ("def cfg(a, b, s):\n    import socket", "error", "in line 2: an exercise cannot import"),
        ("open('/tmp/x', 'w')", "error", "must not read files"),
        ("def cfg(a, b, s):\n    return input()", "error", "must not read files"),
        ("import fromnoise.learn.exercises.tasks.cfg", "error", "cannot import fromnoise"),
        ("import js", "error", "cannot import js"),
        ("raise SystemExit", "error", "SystemExit"),
        ("def cfg(a, b, s):\n    raise KeyboardInterrupt", "error", "KeyboardInterrupt in line 2"),
        ("x = (", "error", "SyntaxError in line 1"),
        ("def other(): pass", "missing", "no function cfg"),
        ("def cfg(*args): return cfg(*args)", "error", "RecursionError"),
        ("def cfg(a, b, s): print('x' * 10**6)", "output", "printed more than"),
        ("def cfg(a, b, s):\n  while True:\n    print('x' * 999)", "output", "printed more than"),
    ],
)
def test_hostile_code_is_contained(source, tag, says):
    verdict, printed = check_source("cfg", source, 0)
    assert (verdict.passed, verdict.tag) == (False, tag)
    assert says in verdict.message
    assert len(printed) < 3_000


def test_output_that_the_code_tries_to_keep_printing_is_cut():
    source = """
def cfg(a, b, s):
    try:
        print("x" * 10**6)
    except BaseException:
        pass
    return [u + s * (c - u) for c, u in zip(a, b)]
"""
    verdict, printed = check_source("cfg", source, 0)
    assert verdict.tag == "output"
    assert f"{LARGEST_OUTPUT:,} characters" in printed


@pytest.mark.parametrize(
    "trick",
    [
        "import math\nmath.isclose = lambda *a, **k: True",
        "import random\nrandom.Random.gauss = lambda *a: 0.0",
        "import random\nrandom.Random.randint = lambda *a: 2",
        "import copy\ncopy.deepcopy = lambda x: x",
        "__builtins__['len'] = lambda x: 1",
        "import random\nrandom.__builtins__['isinstance'] = lambda *a: True",
        "import random\nrandom.__builtins__['all'] = lambda *a: True",
        "a = b = s = 0\nglobals()['near'] = lambda *a: True",
    ],
)
def test_simple_tricks_neither_pass_nor_stay(trick):
    before = {place: dict(vars(place)) for place in (builtins, math, random, random.Random)}
    verdict, _ = check_source("cfg", f"{trick}\ndef cfg(a, b, s): return a", 0)
    assert not verdict.passed
    for place, names in before.items():
        assert {k: v for k, v in vars(place).items() if k in names} == names
    assert check_source("cfg", load("cfg").solution, 0)[0].passed


def test_answers_that_only_look_like_numbers_are_refused():
    fake = """
class Same(float):
    def __eq__(self, other): return True
    def __float__(self): return 0.0
class Many(list):
    def __len__(self): return 5
def cfg(a, b, s): return ANSWER
"""
    for answer in ("[Same(x) for x in a]", "str(a)", "iter(a)", "{}"):
        verdict, _ = check_source("cfg", fake.replace("ANSWER", answer), 0)
        assert "numbers and lists of numbers are wanted" in verdict.message
    assert not check_source("cfg", fake.replace("ANSWER", "Many(a)"), 0)[0].passed


def test_arguments_are_copies():
    source = """
def cfg(cond, uncond, scale):
    for i in range(len(cond)):
        cond[i] = uncond[i] + scale * (cond[i] - uncond[i])
    return cond
"""
    assert check_source("cfg", source)[0].passed


def test_code_that_is_too_long_is_refused():
    with pytest.raises(BadInput, match="more than"):
        check_source("cfg", "#" * (LARGEST_SOURCE + 1))


def test_an_index_that_was_written_and_read_answers_the_same(monkeypatch):
    index = load_index()
    read = read_index(index.export())
    for _, question in [*rows("answerable")[:40], *rows("unanswerable")[:10]]:
        ours = [(h.span.id, h.score, h.coverage, h.spoken) for h in index.search(question)]
        assert [(h.span.id, h.score, h.coverage, h.spoken) for h in read.search(question)] == ours
    answers = [ask(question) for _, question in rows("answerable")[:20]]
    monkeypatch.setattr("fromnoise.learn.mentor.answer.load_index", lambda: read)
    assert [ask(question) for _, question in rows("answerable")[:20]] == answers


def test_hints_name_no_command_in_a_page():
    first = ask("give me a hint for the cfg exercise", in_page=True)
    assert "ask again for hint 2 of 3" in first.text
    last = ask("give me a hint for the cfg exercise", in_page=True, hint=3)
    assert "last hint" in last.text
    assert "fromnoise learn" not in first.text + last.text
    assert first.citations[0].path == "src/fromnoise/learn/course/4-prompts-and-sampling.md"


def test_values_of_an_explorable_may_be_words():
    answer = ask("What is this?", explorable="destroy", values={"t": 0.5, "schedule": "cosine"})
    assert "schedule = cosine, t = 0.5" in answer.text
