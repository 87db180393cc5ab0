"""`fromnoise film`: a GIF, an MP4 or a folder of frames, of the same pictures."""

import json

import pytest
from PIL import Image

from fromnoise.pipeline.provenance import infotext


def test_folders_of_frames_go_on_and_replay(model, fromnoise, tmp_path):
    args = [
        "film",
        "a cat",
        "a (dog:1.2)",
        "--seeds",
        "1,5",
        "--frames",
        4,
        "--model",
        model,
        "--out",
        tmp_path / "o",
    ]
    code, out, said = fromnoise(*args, "--json")
    assert (code, said) == (0, "")
    report = json.loads(out)
    assert report["pictures"] == [
        {"path": str(tmp_path / "o" / f"{i}.png"), "frame": i} for i in range(4)
    ]
    assert (report["request"]["prompts"], report["request"]["key_seeds"]) == (
        ["a cat", "a (dog:1.2)"],
        [1, 5],
    )
    before = [path.read_bytes() for path in sorted((tmp_path / "o").iterdir())]
    assert fromnoise("replay", tmp_path / "o" / "2.png", "--model", model)[:2] == (0, "identical\n")
    (tmp_path / "o" / "2.png").unlink()
    assert fromnoise(*args)[0] == 0
    assert [path.read_bytes() for path in sorted((tmp_path / "o").iterdir())] == before
    code, _, said = fromnoise(*args, "--steps", "2")
    assert (code, "of other settings" in said) == (2, True)
    fromnoise(
        "generate", "a (dog:1.2)", "--seed", "5", "--model", model, "--out", tmp_path / "a.png"
    )
    with Image.open(tmp_path / "a.png") as alone, Image.open(tmp_path / "o" / "3.png") as last:
        assert alone.tobytes() == last.tobytes()


def test_a_gif_is_what_is_made_where_nothing_is_said(model, fromnoise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = [
        "film",
        "a cat",
        "a dog",
        "--model",
        model,
        "--frames",
        "3",
        "--fps",
        "10",
        "--seed",
        "2",
    ]
    code, out, _ = fromnoise(*args)
    assert (code, out) == (0, "a-cat-2.gif\n")
    with Image.open("a-cat-2.gif") as file:
        assert (file.n_frames, file.size, file.info["duration"]) == (3, (32, 32), 100)
        assert (
            infotext.parse(file.info["comment"].decode())
            .fields["Film"]
            .startswith('{"prompts": ["a cat", "a dog"]')
        )
    code, out, _ = fromnoise("settings", "a-cat-2.gif")
    assert (code, json.loads(out)["seed"], json.loads(out)["prompt"]) == (0, 2, "a cat")
    code, _, said = fromnoise("replay", "a-cat-2.gif", "--model", model)
    assert (code, "give a frame" in said) == (2, True)
    assert fromnoise(*args, "--format", "webp")[1].split() == [
        f"a-cat-2/{i}.webp" for i in range(3)
    ]
    assert fromnoise(*args, "--format", "gif", "--out", "o")[1] == "o/a-cat-2.gif\n"


def test_mp4(model, fromnoise, tmp_path):
    av = pytest.importorskip("av")
    args = [
        "film",
        "a cat",
        "a dog",
        "--model",
        model,
        "--frames",
        "3",
        "--out",
        tmp_path / "a.mp4",
        "--json",
    ]
    code, out, _ = fromnoise(*args)
    assert code == 0
    assert json.loads(out)["pictures"] == [
        {"path": str(tmp_path / "a.mp4"), "frames": 3, "fps": 12}
    ]
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert len([*file.decode(video=0)]) == 3
    code, out, _ = fromnoise("settings", tmp_path / "a.mp4")
    assert (code, json.loads(out)["prompt"]) == (0, "a cat")
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:200])
    (tmp_path / "c.mp4").write_text("no film")
    for name, number, words in (
        ("b", 2, "says nothing"),
        ("c", 2, "a whole MP4"),
        ("d", 1, "there is no file"),
    ):
        code, _, said = fromnoise("settings", tmp_path / f"{name}.mp4")
        assert (code, words in said) == (number, True), said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a"], "does not move"),
        (["a", "b", "--out", "x.png"], "a .gif, an .mp4 or a folder"),
        (["a", "b", "--out", "x.gif", "--format", "mp4"], "two formats"),
        (["a", "b", "--fps", "60"], "--fps 50"),
        (["a", "b", "--format", "tiff"], "cannot write --format tiff"),
        (["a", "b", "--seeds", "1,x"], "key_seeds"),
        (["a", "b", "--format", "gif", "--quality", "9"], "--quality is of frames"),
        (["a", "b", "--easing", "x"], "easing"),
        (["a <lora:x:1>", "b <lora:x:1>", "--out", "o"], "no lora 'x'"),
        (["a", "<lora:x:1>", "--out", "o"], "different LoRA"),
        (["a", "b", "--frames", "0"], "frames"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_drawn(
    model, fromnoise, tmp_path, monkeypatch, args, words
):
    monkeypatch.chdir(tmp_path)
    code, out, said = fromnoise("film", *args, "--model", model)
    assert (code, out) == (2, "")
    assert words in said
    assert not list(tmp_path.iterdir())
