"""Every kind of file that a run writes, killed at every step and on a full disk: what was there
before is whole, and the next start goes on."""

import os
import resource
import signal
import sys
import traceback
from functools import partial

import numpy as np
import pytest
from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.folders import write_folder
from fromnoise.pipeline.saving import save_picture
from fromnoise.pipeline.video import write_film

KINDS = ["png", "jpg", "webp", "gif", "mp4", "folder"]
# what Python reports before it does it: each is a moment at which a process may be killed
MOMENTS = ("open", "os.rename", "os.link", "os.chmod", "os.mkdir", "os.remove", "tempfile.mkstemp")


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    made = Image.fromarray(pixels)
    made.info["parameters"] = f"a cat\nSteps: {seed}"
    return made


def write(path, seed, overwrite=True):
    """A file of the kind that its suffix says, or a folder of two pictures as a trace is."""
    if path.suffix in (".gif", ".mp4"):
        frames = [picture(seed), picture(seed + 1)]
        return write_film(path, frames, 12, "a cat", overwrite=overwrite)
    if path.suffix == ".folder":

        def write_two(folder):
            picture(seed).save(folder / "a.png")
            picture(seed + 1).save(folder / "b.png")

        return write_folder(path, write_two)
    return save_picture(picture(seed), path, overwrite=overwrite)


def content(path):
    """The bytes of a file, or of the files in a folder that are not hidden."""
    if path.is_dir():
        return {p.name: p.read_bytes() for p in path.iterdir() if p.name[0] != "."}
    return path.read_bytes()


def fork(run):
    """The exit status of a child that calls `run`; 0: it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BadInput:
            os._exit(3)
        except BaseException:
            traceback.print_exc()
            os._exit(4)
    return os.waitpid(child, 0)[1]


def die_at(number, run):
    """Runs, and is killed by signal 9 just before the moment of that number."""
    count = 0

    def watch(event, _):
        nonlocal count
        count += event in MOMENTS
        if count == number:
            count += 1  # to kill is an event, too
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run()


def skip_without(kind):
    if kind == "mp4":
        pytest.importorskip("av")


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_moment(tmp_path, kind, overwrite):
    skip_without(kind)
    (tmp_path / "new").mkdir()
    new = content(write(tmp_path / "new" / f"a.{kind}", 5))
    path, moments = tmp_path / "o" / f"a.{kind}", 0
    write(path, 1)
    old = content(path)
    while True:
        moments += 1
        status = fork(partial(die_at, moments, partial(write, path, 5, overwrite)))
        there = [content(p) for p in path.parent.iterdir() if not p.name.startswith(".")]
        if kind == "folder":  # its files come one after the other, each whole
            pictures = {name: [old[name], new[name]] for name in old}
            for folder in there:
                for name, data in folder.items():
                    assert data in pictures[name]
            assert all(content(path).get(name) == data for name, data in old.items())
        else:
            assert all(data in (old, new) for data in there)
            assert overwrite or content(path) == old
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert moments < 200
    assert moments > 5  # it was killed at several moments indeed
    end = write(path, 5, overwrite)  # the next start goes on
    assert content(end) == new
    assert (end == path) == (overwrite and kind != "folder")


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(tmp_path, kind):
    """RLIMIT_FSIZE stands for the disk: Python ignores the signal, and the write fails."""
    skip_without(kind)
    path = tmp_path / f"a.{kind}"
    write(path, 1)
    old = content(path)
    names = sorted(os.listdir(tmp_path))

    def limited(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        write(path, 5)

    for size in (0, 100, 1000):
        assert os.waitstatus_to_exitcode(fork(partial(limited, size))) == 3  # BadInput
        assert content(path) == old
        assert sorted(os.listdir(tmp_path)) == names  # nothing half is left
    write(path, 5)


@pytest.mark.parametrize("kind", KINDS[:5])
def test_the_programs_own_names_never_overwrite(tmp_path, kind):
    skip_without(kind)
    path = tmp_path / f"a.{kind}"
    names = [write(path, seed, overwrite=False).name for seed in (1, 5, 1, 5, 9)]
    assert names == [f"a{n}.{kind}" for n in ("", "-2", "", "-2", "-3")]
    assert write(path, 5) == path  # the user's own word
