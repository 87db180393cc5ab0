"""The assembled model replaces the one before it whole, or not at all."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace

import crashes
import pytest

from fromnoise.errors import BadInput
from fromnoise.files import write_file
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.stages import assemble

FILES = ("model_index.json", "unet/config.json", "fromnoise.json")


class Assembly:
    """A recipe whose model is three files that hold its name."""

    def __init__(self, runs: Path, monkeypatch):
        self.runs, self.name = runs, "first"
        stage = Stage("assemble", runs / "assemble", {})
        self.recipe = Recipe("tiny", runs, 0, "tiny", {}, {"assemble": stage})
        monkeypatch.setattr(assemble, "build_model", lambda recipe: SimpleNamespace(defaults={}))
        monkeypatch.setattr(assemble, "fit_latent_rgb", lambda model, recipe: [])
        monkeypatch.setattr(assemble, "list_caption_words", lambda source: [])
        monkeypatch.setattr("fromnoise.data.sources.open_source", lambda name: None)
        monkeypatch.setattr(assemble.diffusers_folder_save, "save", self.save)
        monkeypatch.setattr(assemble.card, "write_card", lambda *args: None)

    def save(self, model, folder: Path) -> None:
        for name in FILES:
            write_file(folder / name, lambda part: part.write_text(self.name))

    def run(self):
        return assemble.run(self.recipe.stage("assemble"), self.recipe)

    def read(self) -> set[str]:
        """The names in the model's files: one alone where it is whole."""
        assert json.loads((self.runs / "model" / "training.json").read_text()) == {}
        return {(self.runs / "model" / name).read_text() for name in FILES}


@pytest.fixture
def assembly(tmp_path, monkeypatch) -> Assembly:
    assembly = Assembly(tmp_path / "runs", monkeypatch)
    assembly.run()
    (assembly.runs / "model" / "old_part.json").write_text("a part that the new model lacks")
    assembly.name = "second"
    return assembly


def test_an_older_models_parts_are_gone(assembly):
    assembly.run()
    assert assembly.read() == {"second"}
    assert not (assembly.runs / "model" / "old_part.json").exists()
    assert (assembly.runs / "model").stat().st_mode & 0o077  # as open as any folder


def test_killed_at_any_write_one_whole_model_is_there(assembly):
    seen = set()
    for k in range(100):
        status = crashes.kill_at(k, assembly.run)
        names = assembly.read()
        assert len(names) == 1
        seen |= names
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert 5 < k < 99
    assert seen == {"first", "second"}
    left = {path.name for path in assembly.runs.iterdir()}
    assert left == {"model"}  # what the killed runs left is removed


@pytest.mark.parametrize("k", range(0, 12, 2))
def test_a_full_disk_leaves_the_model_that_was_there(assembly, k):
    assert crashes.fill_disk_at(k, assembly.run) != 0
    assert len(assembly.read()) == 1
    assembly.run()
    assert assembly.read() == {"second"}


def test_a_damaged_record_of_the_start_is_an_error(assembly):
    for content in ("", "[]", '{"unet": 3}'):
        (assembly.runs / "start.json").write_text(content)
        with pytest.raises(BadInput, match=r"start\.json is damaged"):
            assembly.run()
    assert assembly.read() == {"first"}
