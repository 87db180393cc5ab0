"""Where pictures go: names for words of any script, files or folders, and what cannot be written,
known before the model is read."""

import json
import unicodedata

import pytest
from PIL import Image

from fromnoise.cli.output_files import cut_name, split_out
from fromnoise.cli.run import name_picture, simplify_words
from fromnoise.pipeline.request import GenerationRequest


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("a (cat:1.2), #'1'", "a-cat-1-2-1"),
        ("🐱", "🐱"),
        ("👩\u200d🚀!", "👩-🚀"),
        ("हिन्दी बिल्ली", "हिन्दी-बिल्ली"),
        ("แมวน่ารัก", "แมวน่ารัก"),
        (unicodedata.normalize("NFD", "Café Ü"), "café-ü"),
        ("...-cat-...", "cat"),
        ("\u0301a", "a"),
        ("", "picture"),
        ("\x1b[2J/../\\", "2j"),
        ('<>:"|?*', "picture"),
        ("x" * 70, "x" * 60),
        ("snake_case ©", "snake_case"),
    ],
)
def test_words_become_names(words, name):
    assert simplify_words(words) == name


@pytest.mark.parametrize("words", ["猫" * 90, "🐱" * 90, "हि" * 90, "x" * 20_000])
def test_names_fit_in_255_bytes(words, tmp_path):
    name = name_picture(GenerationRequest(prompt=words, seed=2**63 - 1), 0, ".webp")
    assert len(name.encode()) < 200  # what lines, cells and numbers add finds room
    (tmp_path / f"100000-{name}").touch()
    assert len((cut_name(words, "-1x1.png") + "-1x1.png").encode()) <= 240


def test_what_is_a_folder_and_what_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").touch()
    for out, is_file in (
        (None, False),
        ("", False),
        (".", False),
        ("v1.5", False),
        ("my.folder", False),
        ("a.png", False),
        ("new.png/", False),
        ("b.png", True),
        ("new.JPG", True),
        ("new.gif", True),
        ("/dev/null", True),
    ):
        file, folder = split_out(out)
        assert (file is not None) == is_file, out
        assert file is None or file.parent == folder


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["generate", "a", "--out", "file/x.png"], "is no folder"),
        (["generate", "a", "--out", "file"], "is no folder"),
        (["generate", "a", "--out", "é" * 130 + ".png"], "more than 255 bytes"),
        (["generate", "a", "--count", "2", "--out", "x" * 245 + ".png"], "more than 255 bytes"),
        (["generate", "a", "--out", "o/" + "é" * 130], "more than 255 bytes"),
        (["generate", "a", "--out", "/proc/x.png"], "cannot write"),
        (["generate", "a", "--out", "x.gif"], "cannot write"),
        (["generate", "a", "--trace", "file"], "--trace"),
        (["grid", "a", "--x", "steps=1", "--cells", "file"], "--cells"),
        (["film", "a", "b", "--out", "file/x.gif"], "is no folder"),
        (["hires", "a", "--out", "file/x.png"], "is no folder"),
        (["upscale", "in.png", "--out", "file/x.png"], "is no folder"),
        (["replay", "in.png", "--out", "file/x.png"], "file"),
    ],
)
def test_what_cannot_be_written_is_known_before_the_model(
    fromnoise, tmp_path, monkeypatch, args, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    Image.new("RGB", (8, 8)).save("in.png")
    before = sorted(tmp_path.iterdir())
    model = [] if args[0] == "upscale" else ["--model", "nowhere"]  # reading it would be the error
    code, out, said = fromnoise(*args, *model)
    assert (code, out) == (2, ""), said
    assert words in said
    assert sorted(tmp_path.iterdir()) == before


def test_two_runs_overwrite_nothing(model, fromnoise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["--model", model, "--seed", "1"]
    for prompt in ("🐱", "x" * 61):
        first = fromnoise("generate", prompt, *args)[1].strip()
        assert fromnoise("generate", prompt, *args)[1].strip() == first
        other = fromnoise("generate", prompt, *args, "--cfg", "2")[1].strip()
        assert other == first.replace(".png", "-2.png")
        before = (tmp_path / first).read_bytes()
        assert fromnoise("generate", prompt + "y", *args)[1].strip() not in (first, other)
        assert (tmp_path / first).read_bytes() == before
    assert fromnoise("generate", "a", *args, "--out", "mine.png")[1] == "mine.png\n"
    before = (tmp_path / "mine.png").read_bytes()
    assert fromnoise("generate", "b", *args, "--out", "mine.png")[1] == "mine.png\n"
    assert (tmp_path / "mine.png").read_bytes() != before  # the user's own word
    edits = [
        fromnoise("edit", "mine.png", "a", *args, "--strength", s)[1] for s in ("0.5", "0.9", "0.9")
    ]
    assert edits == ["a-1.png\n", "a-1-2.png\n", "a-1-2.png\n"]
    films = [
        fromnoise("film", "a", "b", *args, "--frames", "2", "--cfg", c)[1] for c in ("1", "2", "1")
    ]
    assert films == ["a-1.gif\n", "a-1-2.gif\n", "a-1.gif\n"]
    grids = [fromnoise("grid", "a", "--x", f"steps={n}", *args)[1] for n in (1, 2, 1)]
    assert grids == ["a-1-grid.png\n", "a-1-grid-2.png\n", "a-1-grid.png\n"]
    frames = ["film", "a", "b", *args, "--frames", "2", "--format", "png", "--cfg"]
    assert [fromnoise(*frames, c)[1].split()[0] for c in ("1", "2", "1")] == [
        "a-1/0.png",
        "a-1-2/0.png",
        "a-1/0.png",
    ]


def test_a_batch_goes_on_beside_any_file(model, fromnoise, tmp_path):
    """Unreadable files of its names are not drawn pictures, and no reason to refuse."""
    (tmp_path / "a.txt").write_text("a cat\na dog\na fish\na cow\n")
    args = ["generate", "--prompts", tmp_path / "a.txt", "--model", model, "--seed", "1"]
    out = tmp_path / "v1.5"
    assert fromnoise(*args, "--out", out)[0] == 0
    files = sorted(out.iterdir())
    good = [path.read_bytes() for path in files]
    files[0].write_text("notes of mine")
    files[1].write_bytes(good[1][:20])
    files[2].write_bytes(b"")
    files[3].unlink()
    files[3].mkdir()
    code, _, said = fromnoise(*args, "--out", out)
    assert (code, "Traceback" in said) == (0, False)
    assert files[0].read_text() == "notes of mine"
    names = ["1-a-cat-1-2.png", "2-a-dog-1.png", "3-a-fish-1-2.png", "4-a-cow-1-2.png"]
    assert [(out / name).read_bytes() for name in names] == good
    code, text, said = fromnoise(*args, "--out", out)
    assert (code, text, "4 of 4 lines" in said) == (0, "", True)


def test_upscale_takes_formats_and_folders(fromnoise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8), "red").save("in.png")
    for args, name in (
        ([], "in-16x16.png"),
        (["--format", "webp", "--quality", "lossless"], "in-16x16.webp"),
        (["--out", "o", "--format", "jpeg"], "o/in-16x16.jpg"),
        (["--upscaler", "nearest"], "in-16x16-2.png"),
    ):
        code, out, _ = fromnoise("upscale", "in.png", *args)
        assert (code, out) == (0, f"{name}\n")
        with Image.open(name) as picture:
            assert picture.size == (16, 16)
    code, out, _ = fromnoise("upscale", "in.png", "--out", "o", "--json")
    assert json.loads(out)["path"] == "o/in-16x16.png"
