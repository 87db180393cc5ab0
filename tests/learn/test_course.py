"""The course: its form, its code, its figures and its references."""

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path

import pytest

from fromnoise.errors import BadInput, NotFound, UnknownName
from fromnoise.learn import reader
from fromnoise.learn.course import (
    EXPLORABLES,
    FIELDS,
    WORDS_A_MINUTE,
    chapter_files,
    figures,
    find_chapter,
    load_chapters,
    parse,
    resolve,
)
from fromnoise.learn.exercises import EXERCISES
from fromnoise.learn.sources import find_place

ROOT = Path(__file__).parents[2]
CHAPTERS = load_chapters()
FIVE = CHAPTERS[:5]
EACH = pytest.mark.parametrize("chapter", CHAPTERS, ids=[c.id for c in CHAPTERS])
READ = ("text", "misconception", "takeaways")


def test_six_chapters_in_their_order():
    assert [c.title for c in CHAPTERS] == [
        "Order from chaos",
        "Latent diffusion",
        "CLIP, the bridge",
        "Prompts and sampling",
        "Train one yourself",
        "Video, audio and 3-D",
    ]
    assert [c.number for c in CHAPTERS] == [1, 2, 3, 4, 5, 6]
    assert find_chapter("3") is find_chapter("clip-the-bridge")
    with pytest.raises(UnknownName):
        find_chapter("7")


@EACH
def test_a_chapter_keeps_to_the_form(chapter):
    anchors = [s.anchor for s in chapter.sections]
    assert len(set(anchors)) == len(anchors)
    assert anchors[-1] == "takeaways"
    assert len(chapter.blocks("takeaways")) == 1
    assert len(chapter.objectives) >= 2
    for block in chapter.blocks("explorable"):
        fields = block.fields()
        assert tuple(fields) == FIELDS
        question, *choices = fields["Predict"].split(" | ")
        assert question.endswith("?")
        assert len(choices) == len(set(choices)) >= 3
        assert fields["Answer"] in choices
    for block in chapter.blocks("exercise"):
        assert block.name in EXERCISES


def minutes(chapter):
    """Reading time: 150 words a minute, 15 s a formula, 3 s a line of code. Playing with
    explorables and exercises comes on top."""
    words = sum(len(b.text.split()) for s in chapter.sections for b in s.blocks if b.kind in READ)
    code = sum(len(b.text.splitlines()) for b in chapter.blocks("python"))
    return words / WORDS_A_MINUTE + len(chapter.blocks("formula")) / 4 + code / 20


@EACH
def test_reading_time_is_what_the_head_says(chapter):
    assert abs(minutes(chapter) - chapter.minutes) <= 1.0, minutes(chapter)
    assert chapter not in FIVE or 10 <= chapter.minutes <= 15


def test_all_explorables_and_exercises_have_one_place():
    places = [b.name for c in CHAPTERS for b in c.blocks("explorable")]
    assert sorted(places) == sorted(EXPLORABLES)
    assert len(EXPLORABLES) == 13
    exercises = [(b.name, c.id) for c in CHAPTERS for b in c.blocks("exercise")]
    assert sorted(exercises) == sorted((n, reader.load(n).chapter) for n in EXERCISES)


def test_misconceptions_are_dispelled_by_name():
    names = " ".join(b.name for c in CHAPTERS for b in c.blocks("misconception"))
    for wanted in (
        "Steps are timesteps",
        "CFG mixes",
        "VAE is an upscaler",
        "CLIP draws",
        "Euler a becomes exact",
        "One seed proves",
        "Noise is stored pictures",
    ):
        assert wanted in names


@EACH
def test_code_prints_what_stands_below_it(chapter):
    """Blocks of a chapter share one namespace, as a reader would type them."""
    space, printed = {}, ""
    for section in chapter.sections:
        for block in section.blocks:
            if block.kind == "python":
                assert not printed, f"line {block.line}: the output of the code before is missing"
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    exec(compile(block.text, f"{chapter.path}:{block.line}", "exec"), space)
                printed = out.getvalue().rstrip("\n")
            elif block.kind == "output":
                assert block.text == printed
                printed = ""
    assert not printed


def test_shell_lines_are_commands_that_exist():
    from fromnoise.cli.main import COMMANDS

    lines = [line for c in CHAPTERS for b in c.blocks("sh") for line in b.text.splitlines() if line]
    lines += re.findall(r"`(fromnoise [^`]+)`", "".join(p.read_text() for p in chapter_files()))
    assert lines
    for line in lines:
        assert line.split()[0] == "fromnoise"
        assert line.split()[1] in COMMANDS


@EACH
def test_formulas_stand_beside_their_code(chapter):
    for block in chapter.blocks("formula"):
        place = find_place(block.name, block.fragment)
        assert block.fragment in (ROOT / place.path).read_text().splitlines()[place.line - 1]
        assert block.text.count("{") == block.text.count("}")
        assert "$" not in block.text


def test_a_moved_line_is_noticed():
    path = "src/fromnoise/diffusion/guidance.py:apply_cfg"
    assert "lerp" in find_place(path, "torch.lerp").text
    for reference, fragment in (
        (path, "no such line"),
        ("src/fromnoise/diffusion/guidance.py:none", ""),
        ("src/fromnoise/none.py:cfg", ""),
        ("src/fromnoise/../../README.md:cfg", ""),
    ):
        with pytest.raises(NotFound):
            find_place(reference, fragment)


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_those_of_the_measurements():
    figures = load_script("make_course_figures").build()
    assert (ROOT / "src/fromnoise/learn/course/figures.json").read_text() == figures


def test_answers_are_those_of_the_measurements():
    """What needs no model is measured again here; the rest was, by docs/make_explorables.py."""
    script = load_script("make_explorables")
    measured = json.loads(script.TARGET.read_text())["explorables"]
    blocks = {b.name: b.fields() for c in CHAPTERS for b in c.blocks("explorable")}
    assert set(measured) == set(script.PURE) | set(script.DRAWN) == set(EXPLORABLES)
    for name, row in measured.items():
        assert blocks[name]["Answer"] == row["answer"]
    for name, function in script.PURE.items():
        answer, figures = function()
        assert measured[name] == {"answer": answer, "figures": figures}


def test_every_figure_is_used_and_every_placeholder_resolves():
    used = set(re.findall(r"\{\{(\w+)\}\}", "".join(p.read_text() for p in chapter_files())))
    assert used == set(figures())
    with pytest.raises(UnknownName):
        resolve("{{none}}")


# Numbers that text may hold without a placeholder, beside whole numbers up to 20: none of them was
# measured here.
CHOSEN = {
    "0.6": "a weight that the reader types",
    "1.3": "a weight that the reader types",
    "40": "20 steps of two questions",
    "50": "steps that were asked for",
    "255": "the largest level of a byte",
    "256": "captions of a test, by its definition",
    "300": "pictures of a test, by its definition",
    "1.4": "a weight that the reader types",
    "500": "steps that were asked for",
}


@EACH
def test_no_measured_number_stands_bare_in_the_text(chapter):
    path = ROOT / chapter.path
    text = path.read_text().split("\n---\n", 1)[1]
    text = re.sub(
        r"```.*?```|\$\$.*?\$\$|^Code: .*?$|\{#.*?\}|\{\{\w+\}\}|`[^`]*`",
        "",
        text,
        flags=re.S | re.M,
    )
    for number in re.findall(r"(?<![\w.])\d+(?:[.,]\d+)*", text):
        assert number in CHOSEN or (number.isdigit() and int(number) <= 20), number


@EACH
def test_a_chapter_can_be_read_in_a_terminal(chapter):
    text = reader.show_chapter(chapter)
    assert "{{" not in text
    assert ":::" not in text
    # tables and code keep their own width
    prose = [row for row in text.splitlines() if not row.startswith(("|", "    "))]
    assert max(map(len, prose)) <= 100
    assert chapter.title in reader.show_contents()


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_can_be_read_in_a_terminal(name):
    exercise = reader.load(name)
    bare, whole = reader.show_exercise(exercise), reader.show_exercise(exercise, 9, True)
    assert exercise.signature in bare
    assert all(hint.split()[0] in whole for hint in exercise.hints)
    assert "Hint" not in bare
    assert "Solution" not in bare


@pytest.mark.parametrize(
    "text",
    [
        "no head",
        "---\nid: a\ntitle: b\nminutes: 1\n---\ntext before a section\n\n## A {#a}\n",
        "---\nid: a\ntitle: b\nminutes: 1\n---\n## A {#a}\n$$\nx\n$$\nno code\n",
        "---\nid: a\ntitle: b\nminutes: 1\n---\n## A {#a}\n```python\nx\n",
        "---\nid: a\ntitle: b\nminutes: 1\n---\n## A {#a}\n::: explorable x\n",
        "---\nid: a\ntitle: b\nminutes: 1\n---\n## A without an anchor\n",
    ],
)
def test_bad_chapters_are_refused(text):
    with pytest.raises(BadInput):
        parse(text, "src/fromnoise/learn/course/1-a.md")
