"""The documents are true: their commands parse, the names in them exist, their recipes for a
sampler and a format work on a copy of the package."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fromnoise.cli.main import app
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SUFFIXES = ("py", "json", "jsonl", "html", "toml", "md", "safetensors", "png", "webp")
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`(fromnoise [^`\n]*)`")


def read_commands() -> list[str]:
    """Every `fromnoise …` command of the pages, without the comment behind it."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    lines = [line for text in texts for block in BLOCK.findall(text) for line in block.splitlines()]
    lines += [command for text in texts for command in INLINE.findall(text)]
    commands = {re.split(r"  +#| # ", line)[0].strip() for line in lines}
    return sorted(c for c in commands if c.startswith("fromnoise ") and "…" not in c)


@pytest.mark.parametrize("command", read_commands())
def test_a_command_of_the_pages_parses(command):
    """click knows the command, its options and their types. Nothing is drawn."""
    args = shlex.split(command)[1:]
    group = typer.main.get_command(app)
    if args[0] in ("--help", "--version"):
        with pytest.raises(typer.Exit):
            group.make_context("fromnoise", list(args))
        return
    context = group.make_context("fromnoise", list(args))
    name, found, rest = group.resolve_command(context, args)  # pyright: ignore
    if len(rest) > 1:  # a command alone, or with one option's name, is only mentioned
        found.make_context(name, rest, parent=context)


def find_definitions() -> dict[str, set[str]]:
    """Name of a module (its last part) → the names that modules of that name define."""
    names: dict[str, set[str]] = {}
    for path in (ROOT / "src/fromnoise").rglob("*.py"):
        stem = path.parent.name if path.stem == "__init__" else path.stem
        own = names.setdefault(stem, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                own |= {t.id for t in targets if isinstance(t, ast.Name)}
        if path.stem == "__init__":
            own |= {p.stem for p in path.parent.iterdir()}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_and_files_of_a_page_exist(page):
    """`fromnoise.module.name` and `module.function` in back-ticks exist, and so do linked files."""
    text, names = page.read_text(encoding="utf-8"), find_definitions()
    missing = []
    for dotted in re.findall(r"`((?:fromnoise\.)?[a-z_]+(?:\.[A-Za-z_]+)+)(?:\(.*?\))?`", text):
        *_, module, name = dotted.split(".")
        if name in SUFFIXES or module == "fields":  # a file; a value in an example
            continue
        if module in names and module != name:
            missing += [] if name in names[module] else [dotted]
        elif dotted.startswith("fromnoise."):
            missing.append(dotted)
    for link in re.findall(r"\]\((?!https?:|#)([^)\s#]+)", text):
        missing += [] if (page.parent / link).exists() else [link]
    assert not missing


def test_the_pictures_of_the_readme_are_small():
    """A checkout stays small: its pages' pictures weigh at most 600 KB together."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\((\S+)\)", text)
    assert len(pictures) >= 5
    assert sum((ROOT / picture).stat().st_size for picture in pictures) <= 600_000


def copy_package(target: Path) -> None:
    """A copy of the package and of what its tests share, without the bundled model."""
    skip = shutil.ignore_patterns("weights", "__pycache__")
    shutil.copytree(ROOT / "src" / "fromnoise", target / "fromnoise", ignore=skip)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests", target / "tests", ignore=skip)


def add_to_registry(path: Path, where: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(where) == 1
    path.write_text(text.replace(where, where + line), encoding="utf-8")


def run_tests(folder: Path, *words: str) -> int:
    """How many tests pass in a copy; all of them must."""
    path = os.pathsep.join((str(folder), str(folder / "tests")))
    # -P and the path first: the copy must be found before the installed package
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", str(folder), *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    return int(passed[1])


def test_adding_a_sampler(tmp_path):
    text = (ROOT / "docs" / "adding-a-sampler.md").read_text(encoding="utf-8")
    [(name, code)] = re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL)
    [line] = re.findall(r"```python line\n(.*?)```", text, re.DOTALL)
    copy_package(tmp_path)
    folder = tmp_path / "fromnoise" / "diffusion" / "samplers"
    (folder / name).write_text(code, encoding="utf-8")
    add_to_registry(folder / "__init__.py", "    for entry in (\n", line)
    tests = tmp_path / "tests" / "diffusion" / "test_samplers.py"
    # order on two kinds of data, questions, batches, points, bad levels
    assert run_tests(tmp_path, str(tests), "-k", "middle") >= 20


def test_adding_a_format(tmp_path):
    text = (ROOT / "docs" / "adding-a-format.md").read_text(encoding="utf-8")
    [(name, code)] = re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL)
    [line] = re.findall(r"```python line\n(.*?)```", text, re.DOTALL)
    [test] = re.findall(r"```python test\n(.*?)```", text, re.DOTALL)
    copy_package(tmp_path)
    folder = tmp_path / "fromnoise" / "checkpoints"
    (folder / "formats" / name).write_text(code, encoding="utf-8")
    add_to_registry(folder / "hub.py", '    "model": {\n', line)
    (tmp_path / "tests" / "test_format.py").write_text(test, encoding="utf-8")
    assert run_tests(tmp_path, str(tmp_path / "tests" / "test_format.py")) == 1


def test_the_table_of_samplers_is_of_today():
    """Its registry columns; the errors beside them take half a minute to measure: `python
    docs/make_samplers.py`."""
    page = (ROOT / "docs" / "samplers.md").read_text(encoding="utf-8")
    for entry in SAMPLERS.values():
        order = f"{entry.order:g}" if entry.order else "–"
        own = f" ({entry.own_order:g})" if entry.own_order else ""
        assert (
            f"| `{entry.name}` | {entry.label} | {order}{own} | {entry.evaluations or 'any'} |"
            in page
        )
        assert not entry.why or entry.why in page
    assert all(f"| `{entry.name}` | {entry.label} |" in page for entry in SPACINGS.values())
