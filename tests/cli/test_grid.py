"""`fromnoise grid`: axes in A1111's words, cells that are pictures of their own, errors before the
first of them."""

import json

import pytest
from PIL import Image

from fromnoise.errors import FromnoiseError
from fromnoise.pipeline.provenance import fields as infotext_fields
from fromnoise.pipeline.provenance.read import read_settings
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.sequences.axes import apply_axes, parse_axis, replace_words

REQUEST = GenerationRequest(
    prompt="a cat, red", negative_prompt="dog", sampler_options={"order": 2}
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("steps=4, 8,20", [4, 8, 20]),
        ("steps=1-5", [1, 2, 3, 4, 5]),
        ("steps=1-5 (+2)", [1, 3, 5]),
        ("steps=10-5 (-3)", [10, 7]),
        ("steps=1-10 [5]", [1, 3, 5, 7, 10]),
        ("steps=5-3,9", [5, 4, 3, 9]),
        ("cfg=1-3 (+0.5)", [1, 1.5, 2, 2.5, 3]),
        ("cfg=0.0-1.0 [6]", [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("cfg=0-1 (+0.3)", [0, 0.3, 0.6, 0.9]),
        ("cfg=3-3 [1]", [3.0]),
        ("eta=0.1-0.3 (+0.1)", [0.1, 0.2, 0.3]),
        ("--seed=9007199254740993-9007199254740994", [9007199254740993, 9007199254740994]),
        ("sampler=euler,DPM++ 2M", ["euler", "DPM++ 2M"]),
        ('prompt:cat=dog,"a fox, blue"', ["dog", "a fox, blue"]),
        ("prompt=1-3", ["1-3"]),
        ("size=32,48x32", ["32", "48x32"]),
        ("steps=1.5,many", ["1.5", "many"]),
        ("sampler_option:order=1,true,heun", [1, True, "heun"]),
        ("negative:dog=", None),
        ("steps=", None),
        ("steps", None),
        ("stesp=1", None),
        ("count=1,2", None),
        ("prompt:dog=cat", None),
        ("prompt:=cat", None),
        ("steps:x=1", None),
        ("sampler_options=1", None),
        ("steps=1-9 (-1)", None),
        ("steps=1-9 (+0)", None),
        ("steps=1-9 (+0.5)", None),
        ("steps=1-9 [0]", None),
        ("steps=1-1000000000", None),
        ("cfg=1-2 [99999]", None),
        ('prompt="a', None),
        ("size=big", None),
    ],
)
def test_values_of_an_axis(text, values):
    if values is None:
        with pytest.raises(FromnoiseError) as error:
            parse_axis(text, REQUEST)
        assert error.value.remedy
    else:
        assert list(parse_axis(text, REQUEST).values) == values


@pytest.mark.parametrize(
    ("text", "value", "changed", "label"),
    [
        ("cfg=4", 4, {"cfg": 4}, "cfg 4"),
        ("size=48x32", "48x32", {"width": 48, "height": 32}, "size 48x32"),
        ("prompt:cat=dog", "dog", {"prompt": "a dog, red"}, "dog"),
        ("prompt=b", "b", {"prompt": "b"}, "b"),
        ("negative:dog=", "", {"negative_prompt": ""}, "(nothing)"),
        ("sampler_options:order=3", 3, {"sampler_options": {"order": 3}}, "order 3"),
    ],
)
def test_what_a_value_changes(text, value, changed, label):
    one = parse_axis(text if not text.endswith("=") else f'{text}""', REQUEST)
    fields = REQUEST.model_dump()
    assert one.values == (value,)
    assert apply_axes(fields, [(one, value)]) == fields | changed
    assert one.label(value) == label


@pytest.mark.parametrize(
    ("values", "result"),
    [
        ({"cat": "dog", "dog": "fish"}, "a dog and a fish in a dogalogue"),
        ({"cat": "dog", "dog": "cat"}, "a dog and a cat in a dogalogue"),
        ({"cat": "cat", "dog": "dog"}, "a cat and a dog in a catalogue"),
        ({"cat": "x", "catalogue": "book"}, "a x and a dog in a book"),  # the longest first
        ({"cat and": "x", "dog": ""}, "a x a  in a catalogue"),
        ({"catalogue": "x", "alogue": "y"}, None),  # lies inside the other
        ({"cat and a": "x", "a dog": "y"}, None),  # they overlap
        ({".": "x", "a": "y"}, "y cyt ynd y dog in y cytylogue"),  # no pattern, and not there
    ],
)
def test_words_of_all_axes_are_replaced_at_once(values, result):
    text = "a cat and a dog in a catalogue"
    if result is None:
        with pytest.raises(FromnoiseError, match="overlaps"):
            replace_words(text, values)
    else:
        assert replace_words(text, values) == result


def test_axes_do_not_see_what_others_put_in():
    request = GenerationRequest(prompt="a cat and a dog", negative_prompt="cat")
    axes = [parse_axis(text, request) for text in ("prompt:cat=cat,dog", "prompt:dog=dog,fish")]
    prompts = [
        apply_axes(request.model_dump(), [(axes[0], x), (axes[1], y)])["prompt"]
        for y in axes[1].values
        for x in axes[0].values
    ]
    assert prompts == [
        "a cat and a dog",
        "a dog and a dog",
        "a cat and a fish",
        "a dog and a fish",
    ]
    negative = parse_axis("negative:cat=cow", request)
    fields = apply_axes(request.model_dump(), [(axes[0], "dog"), (negative, "cow")])
    assert (fields["prompt"], fields["negative_prompt"]) == ("a dog and a dog", "cow")


def test_a_cell_is_the_picture_that_its_settings_draw(model, fromnoise, tmp_path):
    args = [
        "grid",
        "a neon cat",
        "--x",
        "prompt:cat=dog,fox",
        "--y",
        "steps=2,3",
        "--z",
        "seed=5,6",
        "--model",
        model,
    ]
    code, out, said = fromnoise(
        *args, "--out", tmp_path / "g.png", "--cells", tmp_path / "c", "--json"
    )
    assert (code, said) == (0, "")
    report = json.loads(out)
    assert report["axes"]["x"] == {"field": "prompt:cat", "values": ["dog", "fox"]}
    assert len(report["cells"]) == 8
    assert report["cells"][5] == {
        "x": "fox",
        "y": 2,
        "z": 6,
        "seed": 6,
        "path": str(tmp_path / "c" / "x2-y1-z2-a-neon-fox-6.png"),
    }
    cells = []
    for cell in report["cells"]:
        path = tmp_path / "alone.png"
        words = f"a neon {cell['x']}"
        fromnoise(
            "generate",
            words,
            "--steps",
            cell["y"],
            "--seed",
            cell["seed"],
            "--model",
            model,
            "--out",
            path,
        )
        with Image.open(cell["path"]) as picture, Image.open(path) as alone:
            assert picture.tobytes() == alone.tobytes()
            assert picture.info == alone.info
            cells.append(picture.tobytes())
    assert len(set(cells)) == 8
    assert fromnoise("replay", report["cells"][3]["path"], "--model", model)[:2] == (
        0,
        "identical\n",
    )
    info = read_settings(tmp_path / "g.png")
    assert (info.prompt, info.fields["X Type"], info.fields["X Values"]) == (
        "a neon cat",
        "prompt:cat",
        "dog,fox",
    )
    assert (info.fields["Y Type"], info.fields["Z Values"]) == ("steps", "5,6")
    assert (
        infotext_fields.to_request(info)[1]["X Type"]
        == "prompt:cat (is of a sheet of many pictures)"
    )
    code, _, said = fromnoise("replay", tmp_path / "g.png", "--model", model)
    assert (code, "sheet of many pictures" in said) == (2, True)
    before = (tmp_path / "g.png").read_bytes()
    code, out, _ = fromnoise(
        *args, "--out", tmp_path / "h.png", "--cells", tmp_path / "c"
    )  # from the cells there are
    assert (code, out) == (0, f"{tmp_path / 'h.png'}\n")
    assert (tmp_path / "h.png").read_bytes() == before
    cells = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    other = [*args, "--out", tmp_path / "h.png", "--cells", tmp_path / "c", "--cfg", 2]
    code, out, _ = fromnoise(*other, "--json")
    report = json.loads(out)
    assert (code, report["cells"][5]["path"]) == (
        0,
        str(tmp_path / "c" / "x2-y1-z2-a-neon-fox-6-2.png"),
    )
    assert all((tmp_path / "c" / name).read_bytes() == data for name, data in cells.items())
    assert len([*(tmp_path / "c").iterdir()]) == 16


def test_every_cell_has_the_same_seed_where_none_is_given(model, fromnoise, tmp_path):
    code, out, _ = fromnoise(
        "grid", "a cat", "--x", "cfg=1,2", "--model", model, "--out", tmp_path, "--json"
    )
    report = json.loads(out)
    assert code == 0
    assert report["pictures"][0]["path"].endswith("-grid.png")
    [seed] = {cell["seed"] for cell in report["cells"]}
    assert report["pictures"][0]["seed"] == seed


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "needs an axis"),
        (["--x", "steps=1-401"], "say --limit 401"),
        (["--x", "steps=1,2", "--limit", "1"], "limit 2"),
        (["--x", "steps=1,2", "--count", "2"], "vary the seed"),
        (["--x", "steps=1", "--y", "steps=2"], "two axes are steps"),
        (["--x", "steps=0,2"], "steps 0: cannot use steps"),
        (["--x", "sampler=euler,eulr", "--y", "seed=1-3"], "seed 2; sampler eulr, seed 3: "),
        (["--x", "size=32,33"], "size 33: width 33"),
        (["--x", "sampler_option:order=1", "--sampler", "euler"], "no option order"),
        (["--x", "prompt:cat=dog,<lora:x:1>"], "<lora:x:1>: no lora 'x'"),
        (
            ["--x", "steps=1", "--format", "jpeg", "--negative", "🦊" * 16_000],
            "write .webp or .png",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_drawn(model, fromnoise, tmp_path, args, words):
    args = [
        "grid",
        "a cat",
        "--model",
        model,
        "--out",
        tmp_path / "o",
        "--cells",
        tmp_path / "o",
        *args,
    ]
    code, out, said = fromnoise(*args)
    assert (code, out) == (2, "")
    assert words in said
    assert not (tmp_path / "o").exists()
