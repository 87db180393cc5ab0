"""docs/adding-a-sampler.md, followed to the letter on a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS

ROOT = Path(__file__).parent.parent


def test_adding_a_sampler(tmp_path):
    text = (ROOT / "docs" / "adding-a-sampler.md").read_text(encoding="utf-8")
    [(name, code)] = re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL)
    [line] = re.findall(r"```python line\n(.*?)```", text, re.DOTALL)
    skip = shutil.ignore_patterns("weights", "__pycache__")
    shutil.copytree(ROOT / "src" / "fromnoise", tmp_path / "fromnoise", ignore=skip)
    shutil.copytree(
        ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__")
    )
    folder = tmp_path / "fromnoise" / "diffusion" / "samplers"
    (folder / name).write_text(code, encoding="utf-8")
    registry = (folder / "__init__.py").read_text(encoding="utf-8")
    where = "    for entry in (\n"
    assert registry.count(where) == 1
    (folder / "__init__.py").write_text(registry.replace(where, where + line), encoding="utf-8")
    path = os.pathsep.join((str(tmp_path), str(tmp_path / "tests")))
    # -P and the path first: the copy must be found before the installed package
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path / "tests" / "diffusion" / "test_samplers.py"),
        "-k",
        "middle",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert (
        int(passed[1]) >= 20
    )  # order on two kinds of data, questions, batches, points, bad levels


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
