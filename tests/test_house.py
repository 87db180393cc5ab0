"""The walls of the house: a circle of files is found, and the formatter is rarely switched off."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter on the copy of the package in a folder, with the contracts of this project."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); "
    code += "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-P", "-c", code, "--config", str(ROOT / "pyproject.toml")]
    command += ["--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_circle_of_two_files_is_found(tmp_path):
    skip = shutil.ignore_patterns("weights", "__pycache__")
    package = tmp_path / "fromnoise"
    shutil.copytree(ROOT / "src/fromnoise", package, ignore=skip)
    (package / "weights").mkdir()
    clean = lint(tmp_path)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    # noise.py imports refusals.py; this closes the circle, inside of a function too
    with (package / "diffusion/refusals.py").open("a", encoding="utf-8") as file:
        file.write(
            "\n\ndef plant():\n    from fromnoise.diffusion import noise\n\n    return noise\n"
        )
    planted = lint(tmp_path)
    assert planted.returncode != 0
    assert "BROKEN" in planted.stdout
    circle = planted.stdout[planted.stdout.index("Broken contracts") :]
    assert "noise" in circle
    assert "refusals" in circle


def test_the_formatter_is_rarely_switched_off():
    """The mark stands only at tables, that is behind a closing bracket, and at most 20 times."""
    mark, lines = "# fmt: " + "skip", []
    for folder in ("src", "tests", "benchmarks", "docs"):
        for path in (ROOT / folder).rglob("*.py"):
            lines += [
                line for line in path.read_text(encoding="utf-8").splitlines() if mark in line
            ]
    assert len(lines) <= 20
    assert all(re.search(r"[\])}]  " + mark + "$", line) for line in lines)


def test_benchmarks_and_documents_import_names_that_exist():
    """No other test runs these programs: a name that moved would be found on the day of need."""
    missing = []
    for path in [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fromnoise"):
                module = importlib.import_module(node.module or "")
                names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                folder = Path(module.__file__ or "").parent
                missing += [f"{path.name}: {n}" for n in names if not (folder / f"{n}.py").exists()]
    assert not missing
