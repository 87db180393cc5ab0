"""GIF and MP4 files, read back by the libraries that play them."""

import builtins
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from fromnoise.errors import BadInput, NotFound
from fromnoise.pipeline import video


def moving(count=10, size=(64, 48)):
    """A sky of many blues, in which a red box moves."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 200, size[1]))
    sky = np.dstack((x * 0.3, y, 255 - x * 0.2)).astype(np.uint8)
    for i in range(count):
        picture = Image.fromarray(sky)
        picture.paste((220, 10, 10), (4 * i, 10, 4 * i + 10, 20))
        yield picture


def test_gif(tmp_path):
    frames = list(moving())
    path = video.write_film(tmp_path / "o" / "a.gif", iter(frames), 12, "a cat 日\nSteps: 3")
    with Image.open(path) as file:
        assert (file.n_frames, file.info["loop"], file.info["comment"].decode()) == (
            10,
            0,
            "a cat 日\nSteps: 3",
        )
        back, times = [], []
        for frame in ImageSequence.Iterator(file):
            times.append(frame.info["duration"])
            back.append(np.asarray(frame.convert("RGB"), np.int16))
    assert set(times) == {
        80,
        90,
    }  # GIF counts in hundredths of a second: 12 frames a second on average
    assert sum(times) == 830
    still = np.stack(back)[:, 24:]
    assert (still == still[0]).all()  # what stands still does not flicker
    for was, now in zip(frames, back, strict=True):
        difference = np.asarray(was, np.int16) - now
        assert abs(difference.mean((0, 1))).max() < 2  # dots are as light as dark
        assert abs(difference).mean() < 6  # 256 colours for a smooth plane of them


def test_mp4(tmp_path):
    av = pytest.importorskip("av")
    frames = list(moving())
    path = video.write_film(tmp_path / "o" / "a.mp4", iter(frames), 12, "a cat 日\nSteps: 3")
    with av.open(str(path)) as file:
        assert file.metadata["comment"] == "a cat 日\nSteps: 3"
        assert file.streams.video[0].average_rate == 12
        back = [frame.to_image() for frame in file.decode(video=0)]
    assert len(back) == 10
    for was, now in zip(frames, back, strict=True):
        difference = np.asarray(was, np.int16) - np.asarray(now, np.int16)
        assert (
            abs(difference.mean((0, 1))).max() < 3
        )  # another matrix or range of colours would shift them by 10
        assert abs(difference).mean() < 5  # colour has half the pixels


def test_mp4_bytes_do_not_hang_on_what_memory_held(tmp_path):
    pytest.importorskip("av")
    video.write_film(tmp_path / "a.mp4", moving(), 12, "")
    for fill in (
        "85",
        "170",
    ):  # glibc fills fresh memory with it; x264's machine code read some of that
        subprocess.run(
            (
                sys.executable,
                "-c",
                f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_video import Path, moving, video
video.write_film(Path({str(tmp_path / (fill + ".mp4"))!r}), moving(), 12, "")
""",
            ),
            check=True,
            env=os.environ | {"MALLOC_PERTURB_": fill},
        )
        assert (tmp_path / (fill + ".mp4")).read_bytes() == (tmp_path / "a.mp4").read_bytes()


def test_what_cannot_be_written_is_said_before(tmp_path, monkeypatch):
    for size, count, fps, words in (
        ((64, 64), 9, 60, "--fps 50"),
        ((4096, 4096), 99, 12, "too many"),
    ):
        with pytest.raises(BadInput, match=words):
            video.check_film(".gif", size, count, fps)
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(NotFound, match="PyAV") as error:
        video.check_film(".mp4", (64, 64), 9, 12)
    assert "fromnoise[film]" in error.value.remedy
    monkeypatch.setattr(video, "find_spec", lambda name: builtins)
    with pytest.raises(BadInput, match="odd side"):
        video.check_film(".mp4", (65, 64), 9, 12)
    (tmp_path / "f").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        video.write_film(tmp_path / "f" / "a.gif", moving(2), 12, "")
