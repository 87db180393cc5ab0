"""`fromnoise learn` as a reader types it, and the wall around the room: no torch, no other room."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fromnoise.cli.main import app
from fromnoise.errors import BadInput, UnknownName
from fromnoise.learn.quiz import load_questions

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "src/fromnoise/learn"
FILES = sorted(ROOM.rglob("*.py"))


def run(*args, **options):
    return CliRunner().invoke(app, ["learn", *args], catch_exceptions=False, **options)


def test_the_contents_and_a_chapter(monkeypatch, tmp_path):
    monkeypatch.setattr("fromnoise.learn.server.FOLDER", tmp_path)  # no site is built
    assert "Order from chaos" in run().output
    assert "make site" in run().output
    assert "Takeaways" not in run("read", "1").output
    assert "Forward diffusion is one line" in run("read", "order-from-chaos").output


def test_an_exercise_is_shown_and_checked(tmp_path):
    path = tmp_path / "cfg.py"
    shown = run("exercise", "cfg").output
    path.write_text(shown[shown.index("import math") :])
    result = run("check", str(path))
    assert result.exit_code == 1
    assert "✗" in result.output
    shown = run("exercise", "cfg", "--solution").output
    path.write_text(shown[shown.index("import math") :])
    result = run("check", str(path))
    assert result.exit_code == 0
    assert "✓ cfg: right in all 16 random cases" in result.output


def test_the_quiz_explains_and_remembers(tmp_path):
    path = tmp_path / "quiz.json"
    args = ("quiz", "--chapter", "2", "--level", "1", "--questions", "2", "--progress", str(path))
    result = run(*args, input="a\nx\nb\n")
    cards = json.loads(path.read_text())["cards"]
    assert len(cards) == 2
    chosen = [o for name in cards for o in load_questions()[name].options if o.why in result.output]
    assert chosen
    right = sum(card["right"] for card in cards.values())
    assert f"{right} right" in result.output
    assert "Progress" in run(*args, input="q\n").output
    path.write_text("{}")
    with pytest.raises(BadInput):
        run(*args)


@pytest.mark.parametrize(
    "args",
    [
        ["nothing"],
        ["read"],
        ["read", "9"],
        ["exercise", "none"],
        ["check", "none.py"],
        ["quiz", "--chapter", "x"],
    ],
)
def test_errors_say_the_remedy(args):
    with pytest.raises((BadInput, UnknownName)) as error:
        run(*args)
    assert error.value.remedy


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOM)) for p in FILES])
def test_the_room_needs_python_alone(path):
    """Standard library, errors, files and the room itself: so it runs in a browser tab."""
    assert len(path.read_text().splitlines()) <= 300
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
        for name in names:
            root = name.split(".")[0]
            allowed = ("fromnoise.learn", "fromnoise.errors", "fromnoise.files")
            assert root in sys.stdlib_module_names or name.startswith(allowed), name


def test_it_loads_without_what_a_browser_lacks():
    """The whole room but the sandbox, with no site packages and no module of processes."""
    code = """
import sys
for name in ("subprocess", "resource", "ctypes", "multiprocessing", "torch", "numpy"):
    sys.modules[name] = None
sys.path.insert(0, SRC)
from fromnoise.learn import reader
from fromnoise.learn.exercises.exercise import judge
from fromnoise.learn.quiz.review import Progress
for name in reader.EXERCISES:
    assert judge(reader.load(name), reader.load(name).reference, 0).passed
for chapter in reader.load_chapters():
    reader.show_chapter(chapter)
""".replace("SRC", repr(str(ROOT / "src")))
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60)


def test_drawing_a_picture_needs_nothing_of_it():
    code = (
        "import sys; import fromnoise.cli.generate, fromnoise.cli.main; "
        "sys.exit(any(m.startswith('fromnoise.learn') for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
