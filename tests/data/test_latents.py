"""The latent cache: whole after a crash, and never larger than the disk."""

import errno
import json
import os
import shutil
from pathlib import Path

import crashes
import numpy as np
import pytest
import torch

from fromnoise.data.latents import LatentCache, reserve
from fromnoise.data.source import Sample
from fromnoise.errors import BadInput


class Numbers:
    """Sample k is a picture of the number k."""

    size = 4

    def sample(self, seed: int, split: str = "train", draw: bool = True) -> Sample:
        image = np.full((4, 4, 3), seed % 256, np.uint8)
        return Sample(image, str(seed), {}, frozenset())


def make(folder: Path, key: str = "a", count: int = 100) -> LatentCache:
    return LatentCache(folder, key, {"small": (3, 2, 2)}, 1, count)


def encode(batch):
    return [batch.images[:, :, ::2, ::2]]


def fill(cache: LatentCache, progress=lambda done: None) -> LatentCache:
    cache.fill(Numbers(), encode, lambda caption: [int(caption)], progress=progress)  # type: ignore
    return cache


def check(cache: LatentCache, count: int) -> None:
    """Every row is its own picture's."""
    assert cache.filled == count
    assert cache.ids[:count, 0].tolist() == list(range(count))
    wanted = (torch.arange(count) % 256 / 127.5 - 1).half().numpy()
    assert np.array_equal(cache.arrays[0][:count, 0, 0, 0], wanted)


def test_grows_and_shrinks_with_the_rows_in_their_places(tmp_path):
    check(fill(make(tmp_path, count=20)), 20)  # no multiple of a chunk
    check(fill(make(tmp_path, count=150)), 150)
    assert make(tmp_path, count=150).filled == 150
    check(fill(make(tmp_path, count=70)), 70)
    check(fill(make(tmp_path, count=200)), 200)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"key": "a"}',
        b"\x00\xff",
        b'{"key": "a", "count": 100, "filled": 1e99}',
        b'{"key": "a", "count": 10, "filled": 20}',
    ],
)
def test_a_damaged_state_makes_the_cache_anew(tmp_path, content, capsys):
    fill(make(tmp_path))
    (tmp_path / "state.json").write_bytes(content)
    cache = make(tmp_path)
    assert cache.filled == 0
    assert "state.json is damaged" in capsys.readouterr().err
    check(fill(cache), 100)


@pytest.mark.parametrize("name", ["small.f16", "ids.i32"])
@pytest.mark.parametrize("size", [None, 0, 100])
def test_an_array_that_is_cut_short_makes_the_cache_anew(tmp_path, name, size, capsys):
    fill(make(tmp_path))
    if size is None:
        (tmp_path / name).unlink()
    else:
        os.truncate(tmp_path / name, size)
    cache = make(tmp_path)  # reading past the end of a mapped file would end the process
    assert cache.filled == 0
    assert "cut short" in capsys.readouterr().err
    check(fill(cache), 100)


def test_what_does_not_fit_is_an_error_with_its_figures(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(BadInput) as caught:
        make(tmp_path)
    needed = 100 * 3 * 2 * 2 * 2 + 100 * 4
    assert f"needs {needed:,} bytes more; 1,000 are free" in caught.value.message
    assert "cached" in caught.value.remedy
    assert not list(tmp_path.glob("*.f16"))  # nothing half reserved is left
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    fill(make(tmp_path))
    # a larger one that does not fit leaves the smaller one whole
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(BadInput):
        make(tmp_path, count=1000)
    check(make(tmp_path), 100)


def test_a_disk_that_fills_while_it_is_reserved_is_an_error(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BadInput, match="No space left"):
        make(tmp_path)
    assert not list(tmp_path.glob("*.f16"))


def test_a_limit_of_the_system_is_an_error_and_no_signal(tmp_path):
    def work():
        with pytest.raises(BadInput, match="needs"):
            make(tmp_path)

    assert crashes.limit_files(1500, work) == 0


def test_a_file_system_that_cannot_reserve_gets_zeros(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    path = tmp_path / "array"
    reserve({path: 5_000_000})
    assert path.stat().st_size == 5_000_000
    assert path.stat().st_blocks * 512 >= 5_000_000  # real blocks, no hole
    check(fill(make(tmp_path / "cache")), 100)


def test_blocks_are_reserved_before_anything_is_mapped(tmp_path):
    make(tmp_path, count=100_000)
    assert (tmp_path / "small.f16").stat().st_blocks * 512 >= 100_000 * 3 * 2 * 2 * 2


def test_killed_while_it_is_filled_it_goes_on_from_there(tmp_path):
    encoded = tmp_path / "encoded"

    def work():
        with encoded.open("a") as file:
            fill(make(tmp_path / "c", count=3000), lambda done: file.write(f"{done}\n"))

    for k in range(40):
        if crashes.kill_at(2 * k, work) == 0:
            break
    assert 1 < k < 39
    check(make(tmp_path / "c", count=3000), 3000)
    state = json.loads((tmp_path / "c" / "state.json").read_text())
    assert state == {"key": "a", "count": 3000, "filled": 3000}
