"""`fromnoise generate --prompts`: lines of all kinds, checked before anything is drawn; no file
lost or overwritten."""

import io
import json
import re
import sys

import fakes
import pytest
import torch
from PIL import Image

from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.cli import batch
from fromnoise.cli.batch import parse_line_options
from fromnoise.errors import BadInput
from fromnoise.pipeline.provenance import fields as infotext_fields
from fromnoise.pipeline.provenance.read import read_settings, read_text

LINES = """# a comment

a (cat:1.2), #'1'
{"prompt": "a dog", "seed": 7, "count": 2, "cfg": 1.5, "sampler_options": {"order": 2}, \
"sampler": "lms"}
--prompt "a fish" at sea --negative_prompt red --steps 2 --sampler_name "Euler a" \
--cfg_scale 2 --size 48x32\
 --sampler-option eta=0.5 --subseed -1
a (cat:1.2), #'1'
"""


def drawn(path):
    return infotext_fields.to_request(read_settings(path))[0]


def test_lines_of_all_kinds(model, fromnoise, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())
    args = [
        "--prompts",
        str(tmp_path / "a.txt"),
        "--model",
        model,
        "--seed",
        "5",
        "--steps",
        "4",
        "--json",
    ]
    code, out, said = fromnoise("generate", *args, "--out", str(tmp_path / "o"), "--format", "webp")
    assert (code, said) == (0, "")
    reports = [json.loads(line) for line in out.splitlines()]
    assert [report["line"] for report in reports] == [3, 4, 5, 6]
    names = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert names == [
        "3-a-cat-1-2-1-5.webp",
        "4-a-dog-7.webp",
        "4-a-dog-8.webp",
        "5-a-fish-at-sea-5.webp",
        "6-a-cat-1-2-1-5.webp",
    ]
    assert [p["path"] for report in reports for p in report["pictures"]] == [
        str(tmp_path / "o" / n) for n in names
    ]
    first, _, dog, fish, _ = (drawn(tmp_path / "o" / name) for name in names)
    assert (first["prompt"], first["seed"], first["steps"]) == ("a (cat:1.2), #'1'", 5, 4)
    assert (dog["seed"], dog["cfg"], dog["sampler"], dog["sampler_options"]) == (
        8,
        1.5,
        "lms",
        {"order": 2},
    )
    assert (fish["prompt"], fish["negative_prompt"], fish["steps"]) == ("a fish at sea", "red", 2)
    assert fish["sampler_options"] == {"eta": 0.5}
    assert (fish["sampler"], fish["cfg"], fish["width"], fish["height"]) == ("euler_a", 2.0, 48, 32)


def test_again_it_goes_on_and_overwrites_nothing(model, fromnoise, monkeypatch, tmp_path):
    def batched(*more, text="a cat\na dog\na fish"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        args = ["generate", "--prompts", "-", "--model", model, "--out", str(tmp_path), *more]
        return fromnoise(*args)

    assert batched("--seed", "1")[0] == 0
    files = sorted(tmp_path.iterdir())
    before = [path.read_bytes() for path in files]
    files[1].unlink()
    files[2].write_bytes(before[2][:-100])  # cut off, as by a crash
    code, out, said = batched("--seed", "1")
    assert (code, out.split()) == (0, [str(files[1]), str(files[2])])
    assert "1 of 3 lines were drawn before" in said
    assert [path.read_bytes() for path in files] == before
    skipped = [json.loads(line) for line in batched("--seed", "1", "--json")[1].splitlines()]
    assert skipped[1] == {
        "line": 2,
        "skipped": True,
        "pictures": [{"path": str(files[1]), "seed": 1}],
    }
    code, out, said = batched("--seed", "1", text="a cat\n--prompt a dog --steps 2\na fish")
    assert (code, out.split()) == (0, [str(tmp_path / "2-a-dog-1-2.png")])  # nothing overwritten
    assert [path.read_bytes() for path in files] == before
    code, out, said = batched("--seed", "1", text="a cat\n--prompt a dog --steps 2\na fish")
    assert (code, out) == (0, "")  # the numbered name is found again
    assert batched()[0] == 0  # other seeds, other names
    assert len(list(tmp_path.iterdir())) == 7


def test_what_is_wrong_is_said_of_every_line_before_anything_is_drawn(
    model, fromnoise, monkeypatch, tmp_path
):
    wrong = [
        "a cat",
        '{"prompt": "a", "steps": 0}',
        "{red|blue} cat",
        '{"seed": 3}',
        "--steps 3",
        "--prompt a --stesp 3",
        "--prompt 'a",
        "--prompt a --n_iter 2 --batch_size 2",
        '{"prompt": "a", "sampler": "eulr"}',
        "a" * 20_001,
        '{"prompt": "a", "width": 33}',
        "<lora:x:1>",
    ]
    said_of = {
        2: "steps",
        3: "brace",
        4: "no prompt",
        5: "no prompt",
        6: "'steps'",
        7: "quotation",
        8: "twice",
        9: "euler",
        10: "20000",
        11: "multiple of 8",
        12: "lora",
    }
    path, out = tmp_path / "a.txt", tmp_path / "o"
    for lines in (wrong[:10], [""] * 10 + wrong[10:]):  # the last two need the model
        path.write_text("\n".join(lines), encoding="utf-8")
        code, _, said = fromnoise(
            "generate", "--prompts", str(path), "--model", model, "--out", str(out)
        )
        assert code == 2
        assert not out.exists()
        for number, words in said_of.items():
            if number <= len(lines) and lines[number - 1]:
                [line] = [
                    line for line in said.splitlines() if re.search(rf"line {number}[:;] ", line)
                ]
                assert words in line, line
    monkeypatch.setattr(batch, "LINES", 1)
    for content, words in (
        (b"# nothing", "no prompt"),
        (b"a\ncaf\xe9", "line 2 of"),
        (b"a\nb", "too long"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=words):
            batch.read_lines(path)


def test_what_does_not_go_together(model, fromnoise, tmp_path):
    path = str(tmp_path / "a.txt")
    for args, code, words in (
        ([], 2, "say what to draw"),
        (["a cat", "--prompts", path], 2, "either words"),
        (["--prompts", path], 1, "there is no file"),
        (["--prompts", str(tmp_path)], 2, "cannot read"),
        (["--prompts", path, "--out", "x.png"], 2, "name a folder"),
        (["--prompts", path, "--trace", "t"], 2, "one run"),
    ):
        found, _, said = fromnoise("generate", *args, "--model", model)
        assert (found, words in said) == (code, True), said


def test_a_picture_of_a_line_is_the_same_alone(model, fromnoise, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a cat\na dog"))
    args = ["--model", model, "--seed", "3", "--out"]
    fromnoise("generate", "--prompts", "-", *args, str(tmp_path / "o"))
    fromnoise("generate", "a dog", *args, str(tmp_path / "a.png"))
    with (
        Image.open(tmp_path / "a.png") as alone,
        Image.open(tmp_path / "o" / "2-a-dog-3.png") as of_many,
    ):
        assert alone.tobytes() == of_many.tobytes()
        assert alone.info == of_many.info


def test_another_guide_is_another_picture(model, fromnoise, tmp_path):
    """What a guide drew is not taken for what another one, or none, would draw."""
    other = fakes.model(tmp_path / "words", steps=3, cfg=3.0)
    with torch.no_grad():
        other.unet.conv_out.weight += 0.5
    diffusers_folder_save.save(other, tmp_path / "guide")
    (tmp_path / "a.txt").write_text("a cat\n")
    args = ["--prompts", tmp_path / "a.txt", "--model", model, "--seed", "5", "--out"]
    args += [tmp_path / "o"]
    guide = ["--guide", str(tmp_path / "guide")]
    for more, skipped in (([], False), ([], True), (guide, False), (guide, True)):
        code, _, notes = fromnoise("generate", *args, *more)
        assert code == 0
        assert ("skipped" in notes) == skipped
    texts = [read_settings(path).fields for path in (tmp_path / "o").iterdir()]
    assert sorted("Guide hash" in fields for fields in texts) == [False, True]
    guided = next(p for p in (tmp_path / "o").iterdir() if "Guide hash" in (read_text(p) or ""))
    code, out, error = fromnoise("replay", guided, "--model", model)
    assert code != 0
    assert "--guide" in error
    code, out, _ = fromnoise("replay", guided, "--model", model, *guide)
    assert (code, out) == (0, "identical\n")


def test_a_line_asks_for_add_ons_as_the_command_line_does():
    line = '--prompt "a cat" --lora paper:0.8 --lora ink:0.3 --control c --control-image a.png'
    addons = parse_line_options(line)["addons"]
    assert [lora["name"] for lora in addons["loras"]] == ["paper", "ink"]
    assert addons["controls"][0]["image"] == "a.png"
    assert parse_line_options('--prompt "a cat"') == {"prompt": "a cat"}
