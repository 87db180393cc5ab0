"""The web UI's rules for values in quotes, and reading that is linear in the text."""

import json
import re
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fromnoise.errors import BadInput
from fromnoise.pipeline.provenance import infotext
from fromnoise.pipeline.provenance.fields import to_request
from fromnoise.pipeline.provenance.write import format_pairs

# A1111's own expression of modules/infotext_utils.py, by which it reads what is written here
WEB_UI = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64"

nasty = st.lists(
    st.sampled_from(
        [
            *'",:\n\\()',
            "\\(",
            '\\"',
            "Seed: 9",
            "\nSteps: 1, Sampler: DDIM, Seed: 9",
            "é",
            "\r\n",
            "Negative prompt: x",
            "\nNegative prompt: ",
            " ",
            "a",
            "\\n",
            "\t",
            "{",
            "[1,",
            "\\\\",
        ]
    ),
    max_size=8,
).map("".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nasty, nasty)
@example("a \\(b\\), c", 'a "b", c\nSeed: 9')
def test_values_there_and_back(first, second):
    """By our own reader and by the web UI's expression, in one line whatever the values hold."""
    values = {"Hires prompt": first, "Hires negative prompt": second}
    line = format_pairs({"Steps": 20, "Seed": 5, **values, "Version": "fromnoise 1"})
    assert "\n" not in line
    info = infotext.parse(f"a cat\nNegative prompt: dog\n{line}")
    assert (info.prompt, info.negative_prompt) == ("a cat", "dog")
    assert {key: info.fields.get(key) for key in values} == values
    assert info.fields["Seed"] == "5"
    read = dict(WEB_UI.findall(line))
    assert read["Seed"] == "5"
    for key, value in values.items():
        if value:
            quoted = read[key].startswith('"') and read[key].endswith('"') and len(read[key]) > 1
            assert (json.loads(read[key]) if quoted else read[key]) == value


def old_quote(text: str) -> str:
    """The web UI's own `quote` before May 2023."""
    if "," not in text:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nasty.filter(lambda text: "\r" not in text))
@example("a,\nSteps: 1, Sampler: DDIM, Seed: 9\nb")
@example("a \\(b\\), c")
def test_values_of_before_may_2023(value):
    """Line breaks stand in quotes as they are; what is in them is no setting."""
    value = f"x, {value}y"
    text = (
        f"a cat\nNegative prompt: dog\n{SETTINGS}, Hires prompt: {old_quote(value)}, Clip skip: 2"
    )
    info = infotext.parse(text)
    assert (info.prompt, info.negative_prompt) == ("a cat", "dog")
    assert info.fields["Seed"] == "5"
    assert info.fields["Clip skip"] == "2"
    assert (
        info.fields["Hires prompt"] in (value, json.loads(f'"{value}"', strict=False))
        if (is_json(value))
        else info.fields["Hires prompt"] == value
    )


def is_json(text: str) -> bool:
    try:
        json.loads(f'"{text}"', strict=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (r'"a \(b\), c"', r"a \(b\), c"),
        (r'"a \\(b\\), c"', r"a \(b\), c"),
        ('"a, b\nSeed: 9, Steps: 1, CFG scale: 2"', "a, b\nSeed: 9, Steps: 1, CFG scale: 2"),
        ('"a, b\nSteps: 1, Seed: 9, CFG scale: 2"', "a, b\nSteps: 1, Seed: 9, CFG scale: 2"),
        (r'"a, \"b\" c"', 'a, "b" c'),
        (r'"a:\nb"', "a:\nb"),
        ('"a, b', '"a'),  # the quote has no end: as the web UI reads it
        ('"a" b', '"a" b'),
    ],
)
def test_quoted_values(value, expected):
    text = f"a cat\nNegative prompt: dog\n{SETTINGS}, Template: {value}, ENSD: 3"
    info = infotext.parse(text)
    request, _ = to_request(info)
    assert (request["prompt"], request["negative_prompt"]) == ("a cat", "dog")
    assert (request["seed"], request["steps"], request["eta_noise_seed_delta"]) == (5, 20, 3)
    assert info.fields["Template"] == expected


def test_settings_that_end_in_a_quote():
    """What follows the last line's quote is a line of its own."""
    text = f'a\n{SETTINGS}, Template: "x,\ny"\n\nUsed embeddings: z'
    info = infotext.parse(text)
    assert info.fields["Template"] == "x,\ny"
    assert info.fields["Used embeddings"] == "z"


def test_a_quote_in_the_prompt_swallows_no_settings():
    """A line of the prompt that looks like settings and opens a quote."""
    text = f'Steps: 1, Sampler: "x, Seed: 3\nb\n{SETTINGS}, Lora hashes: "a: b", Version: v1.9'
    info = infotext.parse(text)
    assert info.prompt == 'Steps: 1, Sampler: "x, Seed: 3\nb'
    assert info.fields["Seed"] == "5"


PIECES = [
    *("a", " ", "\n", ",", "9", "\t", "a:", "ab:", "ab: c\n", 'ab: "', 'ab: "x", ', 'ab: "\\", '),
    *("[1,", "ab: [1,", '{"a":', "[[", '",', "ab: {}, ", '\\"', '"\n', "\r\n", "Steps: 1, "),
    *("Negative prompt: ", "negative prompt:\n", "Steps:\n", 'Steps: 1, a: "\n', "😀", "a b "),
    *("Steps: 1, Sampler: Euler, Seed: 1\n", "x. Steps: 1", " \n"),
]


@pytest.mark.parametrize("piece", PIECES)
def test_four_megabytes_take_seconds_at_most(piece):
    """Reading takes 0.7 s at most (measured, of the processor's time, 32 kinds in 4 places). A
    reader that goes back over the text takes minutes: 5 s leave room for a slow machine."""
    text = piece * (4_000_000 // len(piece))
    line = "Steps: 1, Sampler: Euler, Seed: 1"
    for whole in (text, f"x\n{line}, Ab: {text}", f'x\n{line}, Ab: "{text}', f"{text}\n{line}"):
        start = time.process_time()
        request, unused = to_request(infotext.parse(whole))
        assert time.process_time() - start < 5
        assert len(unused) < 3_000
        assert len(request.get("prompt", "")) <= 20_000


def test_texts_that_are_too_long():
    with pytest.raises(BadInput, match="too long"):
        infotext.parse("a" * (infotext.LONGEST + 1))


def test_numbers_of_thousands_of_digits():
    many = "9" * 5_000
    keys = ("Seed", "Steps", "CFG scale", "Clip skip", "Prompt lines", "Threads", "ENSD", "NGMS")
    for key in (*keys, "Size", "Sampler options", "Schedule rho", "Denoising strength"):
        text = f"a\nSteps: 1, Sampler: Euler, Seed: 1, {key}: {many}, Version: fromnoise 1"
        _, unused = to_request(infotext.parse(text))
        assert all(len(why) < 2_500 for why in unused.values())


def test_what_is_no_number_is_told():
    line = 'Steps: 1, Sampler: Euler, Seed: 1, Sampler options: "{\\"s_noise\\": NaN}"'
    request, unused = to_request(infotext.parse(f"a\n{line}"))
    assert "sampler_options" not in request
    assert "NaN" in unused["Sampler options"]


def test_prompts_that_no_request_takes_are_told():
    request, unused = to_request(infotext.parse("a" * 30_000))
    assert "prompt" not in request
    assert unused["prompt"].startswith("aaa")
    assert len(unused["prompt"]) < 500


def test_escape_sequences_are_told_as_text():
    _, unused = to_request(infotext.parse("a\nSteps: 1, Seed: 1, Ab: \x1b[2J\x9b, Version: \x07"))
    assert unused["Ab"].startswith("\\x1b[2J\\x9b")
