"""What the tests of commands share: a tiny model in a folder, and the command line in this
process."""

import sys

import fakes
import pytest

from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.cli import main as command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    diffusers_folder_save.save(fakes.model(folder / "w", steps=3, cfg=3.0), folder / "tiny")
    return str(folder / "tiny")


@pytest.fixture
def fromnoise(monkeypatch, capsys):
    """`fromnoise(*args)` → (exit code, stdout, stderr)."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["fromnoise", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            command.main()
        return end.value.code or 0, *capsys.readouterr()

    return run
