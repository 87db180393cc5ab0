"""A model folder is replaced as a whole or not at all: kills, a full disk, two ways of renaming."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fakes
import pytest
import torch

from fromnoise import folders
from fromnoise.checkpoints import hub
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.errors import BadInput

SAVE = """
import sys
from pathlib import Path
from fromnoise.checkpoints.hub import load_parts
from fromnoise.checkpoints.formats.diffusers_folder_save import save
first, second, target = (Path(p) for p in sys.argv[1:4])
models = load_parts(first), load_parts(second)
print("ready", flush=True)
for i in range(1, 10_000):
    save(models[i % 2], target)
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folders of two models that differ in every weight; one has an image tower."""
    home = tmp_path_factory.mktemp("two")
    for name, vision in (("a", True), ("b", False)):
        model = fakes.model(home / "words", vision=vision)
        with torch.no_grad():
            for part in (model.unet, model.vae, model.text_encoder):
                for weight in part.parameters():
                    weight.fill_(1.0 if vision else 2.0)
        diffusers_folder_save.save(model, home / name)
    return home / "a", home / "b"


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_kill_at_any_moment_leaves_the_old_folder_or_the_new_one(two, tmp_path):
    target = tmp_path / "m"
    diffusers_folder_save.save(hub.load_parts(two[0]), target)
    whole = [content(folder) for folder in two]
    waits = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE, *two, target], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(waits.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert content(target) in whole
        hub.load_parts(target)
    # the next save goes on, and clears away what the killed ones left
    diffusers_folder_save.save(hub.load_parts(two[1]), target)
    assert content(target) == whole[1]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("writes", [1, 3, 6, 9])
def test_a_full_disk_leaves_the_old_folder(two, tmp_path, monkeypatch, writes):
    target = tmp_path / "m"
    diffusers_folder_save.save(hub.load_parts(two[0]), target)
    before, count = content(target), 0
    write_file = diffusers_folder_save.write_file

    def full(path, write, **more):
        nonlocal count
        count += 1

        def fail(part):
            part.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        return write_file(path, fail if count == writes else write, **more)

    monkeypatch.setattr(diffusers_folder_save, "write_file", full)
    monkeypatch.setattr("fromnoise.checkpoints.training_state.write_file", full)
    monkeypatch.setattr("fromnoise.prompt.tokenizer_files.write_file", full)
    with pytest.raises(BadInput, match="No space left"):
        diffusers_folder_save.save(hub.load_parts(two[1]), target)
    assert count == writes
    assert content(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_file_that_outgrows_its_limit_leaves_the_old_folder(two, tmp_path):
    """The system's own error, in a process that may write no file above 20 kB."""
    target = tmp_path / "m"
    diffusers_folder_save.save(hub.load_parts(two[0]), target)
    before = content(target)
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limit + SAVE, *two, target], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "BadInput: cannot write" in done.stderr
    assert content(target) == before


@pytest.mark.parametrize("exchange", [True, False])
def test_a_replaced_folder_keeps_what_is_not_the_models(two, tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    target = tmp_path / "m"
    diffusers_folder_save.save(hub.load_parts(two[0]), target)
    (target / "notes.txt").write_text("mine")
    (target / "judge").mkdir()
    (target / "judge" / "config.json").write_text("{}")
    diffusers_folder_save.save(hub.load_parts(two[1]), target)
    kept = {"notes.txt": b"mine", "judge/config.json": b"{}"}
    assert content(target) == content(two[1]) | kept
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    mask = os.umask(0)
    os.umask(mask)
    for path in target.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path
    assert target.stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_replacement_that_stopped_between_two_renames_is_repaired(two, tmp_path):
    """Where names cannot be swapped at once, a crash may leave the old folder renamed."""
    target = tmp_path / "m"
    diffusers_folder_save.save(hub.load_parts(two[0]), target)
    before = content(target)
    target.rename(tmp_path / ".m.old")
    hub.load_parts(target)
    assert content(target) == before
