import errno
import os
import stat
from pathlib import Path

import pytest

from fromnoise.errors import BadCheckpoint, BadInput, UnknownName, escape
from fromnoise.files import write_file
from fromnoise.folders import write_folder
from fromnoise.rare_files import check_writable


def put(text: str):
    return lambda part: part.write_text(text)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    assert write_file(path, put("one")) == path
    assert write_file(path, put("two")) == path
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text() == "two"


def test_a_failed_write_keeps_the_file_of_before(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, put("good"))

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(BadInput, match="No space left"):
        write_file(path, fail)
    assert path.read_text() == "good"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_name_that_the_program_chose_never_overwrites(tmp_path):
    paths = [write_file(tmp_path / "a.png", put(str(i)), overwrite=False) for i in range(3)]
    assert [p.name for p in paths] == ["a.png", "a-2.png", "a-3.png"]
    assert [p.read_text() for p in paths] == ["0", "1", "2"]


def test_new_files_have_the_usual_permissions_and_replaced_ones_keep_theirs(tmp_path):
    path = write_file(tmp_path / "a.txt", put("x"))
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    path.chmod(0o640)
    write_file(path, put("y"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_links_are_followed_and_devices_are_written_in_place(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_file(tmp_path / "link", put("new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    write_file(Path(os.devnull), put("x"))
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(BadInput, match="No space left"):
        write_file(Path("/dev/full"), put("x" * 10))


def test_what_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / ("ä" * 130 + ".png"), tmp_path / "file" / "a.png"):
        with pytest.raises(BadInput, match="cannot write"):
            check_writable(path)
    check_writable(tmp_path / "new" / "deep" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_file_says_is_escaped_and_cut():
    assert escape("a\x1b[2J\x9b\u202eb\ud800\nc") == r"a\x1b[2J\x9b\u202eb\ud800\nc"
    assert escape("猫 café 🚀 é") == "猫 café 🚀 é"
    assert escape("x" * 300) == "x" * 200 + "… (300 characters)"
    error = BadCheckpoint("a\x1b]0;title\x07\nb" + "y" * 10_000_000, "fetch\x1b[31m it again")
    assert len(str(error)) < 5_000
    assert "\x1b" not in str(error)
    assert "\nb" in str(error)
    assert len(str(UnknownName("sampler", "z" * 1_000_000, ["euler"]))) < 1_000


def test_the_same_file_is_not_kept_twice_and_a_cut_one_is_completed(tmp_path):
    path = tmp_path / "a.png"
    write_file(path, put("one"), overwrite=False)
    assert write_file(path, put("one"), overwrite=False) == path
    assert write_file(path, put("two"), overwrite=False).name == "a-2.png"
    assert write_file(path, put("two"), overwrite=False).name == "a-2.png"
    path.write_text("on")  # cut off, as by a full disk of another program
    assert write_file(path, put("one"), overwrite=False) == path
    assert path.read_text() == "one"
    path.write_text("")  # another process may have just reserved it
    assert write_file(path, put("one"), overwrite=False).name == "a-3.png"
    (tmp_path / "b.png").mkdir()
    (tmp_path / "b-2.png").symlink_to("nowhere")
    assert write_file(tmp_path / "b.png", put("x"), overwrite=False).name == "b-3.png"


def test_file_systems_without_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    names = [write_file(tmp_path / "a.png", put(text), overwrite=False).name for text in "abbc"]
    assert names == ["a.png", "a-2.png", "a-2.png", "a-3.png"]
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        "a.png": "a",
        "a-2.png": "b",
        "a-3.png": "c",
    }


def test_what_killed_runs_left_is_removed_after_two_days(tmp_path):
    old, new = tmp_path / ".fromnoise-1.part", tmp_path / ".fromnoise-2.part"
    folder, other = tmp_path / ".fromnoise-3.part", tmp_path / ".other.part"
    folder.mkdir()
    (folder / "a.png").touch()
    for path in (old, new, other):
        path.touch()
    for path in (old, folder, other):
        os.utime(path, (0, 0))
    write_file(tmp_path / "a.txt", put("x"))
    assert {p.name for p in tmp_path.iterdir()} == {new.name, other.name, "a.txt"}


def test_a_pipe_gets_the_bytes(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert write_file(pipe, put("picture"), overwrite=False) == pipe
    assert os.read(reader, 99) == b"picture"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_folders_of_files_overwrite_nothing(tmp_path):
    def write(text):
        def write_two(folder):
            (folder / "a.txt").write_text(text)
            (folder / "b.txt").write_text("same")

        return write_two

    place = tmp_path / "t.1"
    assert write_folder(place, write("one")) == place
    assert write_folder(place, write("one")) == place  # the very same
    assert write_folder(place, write("two")) == tmp_path / "t.1-2"
    (place / "a.txt").unlink()
    assert write_folder(place, write("two")) == place  # nothing to overwrite
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert write_folder(tmp_path / "mine", write("x")) == tmp_path / "mine"
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "t.1", "t.1-2"]
    assert stat.S_IMODE((place / "a.txt").stat().st_mode) & 0o044

    def fail(folder):
        (folder / "a.txt").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BadInput, match="No space left"):
        write_folder(place, fail)
    assert sorted(p.name for p in place.iterdir()) == ["a.txt", "b.txt"]
    with pytest.raises(BadInput, match="cannot write"):
        write_folder(place / "a.txt", write("x"))
