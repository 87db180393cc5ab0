"""Large files: their hashes are kept until they change, and they are read with little memory."""

import hashlib
import json
import os
import shutil

import peers
import pytest
import torch

from fromnoise.checkpoints import assemble, file_hashes
from fromnoise.checkpoints.convert import convert
from fromnoise.checkpoints.file_hashes import hash_file
from fromnoise.checkpoints.hub import load_parts
from fromnoise.checkpoints.tensors import TensorFile
from fromnoise.errors import BadCheckpoint
from fromnoise.pipeline.generate import generate
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.prepare import prepare_model


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file that counts as large, last changed an hour ago."""
    monkeypatch.setattr(file_hashes, "LARGE", 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "m.safetensors"
    write(path, b"a" * 1000)
    return path


def write(path, data, ago=3600):
    path.write_bytes(data)
    then = path.stat().st_mtime - ago
    os.utime(path, (then, then))


def expect(data):
    return hashlib.sha256(data).hexdigest()


def count_reads(monkeypatch):
    read, whole = [], hashlib.file_digest
    monkeypatch.setattr(
        file_hashes.hashlib, "file_digest", lambda *given: (read.append(1), whole(*given))[1]
    )
    return read


def test_a_large_file_is_read_once(path, monkeypatch):
    read = count_reads(monkeypatch)
    assert hash_file(path) == hash_file(path) == expect(b"a" * 1000)
    assert len(read) == 1


@pytest.mark.parametrize("ago", [3600, 1800])
def test_another_content_has_another_hash(path, ago):
    hash_file(path)
    write(path, b"b" * 1000, ago)  # of the same size and, once, the same time of the last change
    assert hash_file(path) == expect(b"b" * 1000)


def test_what_was_just_written_is_not_kept(path, monkeypatch):
    write(path, b"c" * 1000, ago=0)
    read = count_reads(monkeypatch)
    assert hash_file(path) == hash_file(path) == expect(b"c" * 1000)
    assert len(read) == 2


def test_small_files_leave_nothing(path, tmp_path):
    write(path, b"a" * 99)
    assert hash_file(path) == expect(b"a" * 99)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"PATH": 1}',
        '{"PATH": [1000, 1, 1, 1, "x"]}',
        '{"PATH": [1000, "1", 1, 1, "HASH"]}',
        "{" * 100_000,
        '{"PATH": [1000, 1, 1, 1, "HASH"]}',
    ],
)
def test_a_wrong_note_is_not_believed(path, text):
    place = file_hashes.find_place()
    place.parent.mkdir(parents=True)
    place.write_text(text.replace("PATH", str(path.resolve())).replace("HASH", "0" * 64))
    assert hash_file(path) == expect(b"a" * 1000)
    kept = json.loads(place.read_text())
    assert kept[str(path.resolve())][-1] == expect(b"a" * 1000)


def test_a_folder_that_cannot_be_written_hinders_nothing(path, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert hash_file(path) == expect(b"a" * 1000)


def test_the_last_ones_are_kept(path, tmp_path, monkeypatch):
    monkeypatch.setattr(file_hashes, "KEPT", 3)
    for number in range(5):
        write(tmp_path / f"{number}.bin", bytes(1000))
        hash_file(tmp_path / f"{number}.bin")
    kept = json.loads(file_hashes.find_place().read_text())
    assert [name.rsplit("/", 1)[1] for name in kept] == ["2.bin", "3.bin", "4.bin"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder and the single file made of it, whose U-Net is in fp16."""
    root = tmp_path_factory.mktemp("large")
    folder = peers.make_folder("sd1", root / "m")
    convert(folder, root / "m.safetensors", "single-file", "fp16")
    convert(root / "m.safetensors", root / "half", "folder")
    return root / "half", root / "m.safetensors"


@pytest.fixture
def large(monkeypatch):
    """Every model counts as one of more than a gigabyte."""
    monkeypatch.setattr(assemble, "LARGE", 0)


@pytest.mark.parametrize("which", [0, 1])
def test_a_large_model_is_read_quickly_and_the_same(pair, which, monkeypatch):
    usual = load_parts(str(pair[which]))
    monkeypatch.setattr(assemble, "LARGE", 0)
    quick = load_parts(str(pair[which]))
    assert (quick.digest, quick.vae_digest) == (usual.digest, usual.vae_digest)
    for name in ("unet", "vae", "text_encoder"):
        one, two = getattr(usual, name).state_dict(), getattr(quick, name).state_dict()
        assert one.keys() == two.keys()
        places = [value.untyped_storage().data_ptr() for value in two.values()]
        assert len({*places}) == len(places)  # the buffer is nobody's memory
        for key, value in one.items():
            assert torch.equal(value, two[key])
            assert value.dtype == two[key].dtype
    conv = quick.unet.conv_in.weight
    assert conv.is_contiguous(memory_format=torch.channels_last)
    request = GenerationRequest(prompt="a cat", seed=1, steps=2, sampler="euler")
    pictures = [generate(m, prepare_model(m), request)[0] for m in (usual, quick)]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_a_file_that_changes_while_it_is_read_is_refused(pair, large, tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    shutil.copy(pair[1], path)
    stream = TensorFile.stream

    def change(self, *given):
        yield from stream(self, *given)
        os.utime(path, (1, 1))

    monkeypatch.setattr(TensorFile, "stream", change)
    with pytest.raises(BadCheckpoint, match="changed while it was read"):
        load_parts(str(path))
