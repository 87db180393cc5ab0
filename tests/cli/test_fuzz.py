"""Whatever is typed: files and exit code 0, or an error that says what to do; never a traceback,
never much memory."""

import io
import os
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fromnoise.api import Engine
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.cli import main as command
from fromnoise.pipeline.saving import save_picture


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    parts = fakes.model(folder / "w", steps=2, cfg=3.0)
    diffusers_folder_save.save(parts, folder / "tiny", torch.float32)
    Image.new("RGB", (32, 32), "red").save(folder / "in.png")
    Image.new("L", (32, 32), 255).save(folder / "white.png")
    Image.new("L", (16, 16), 255).save(folder / "small.png")
    (folder / "noise.png").write_bytes(os.urandom(300))
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "in.png").read_bytes()[:60])
    drawn = Engine(parts).generate("a cat", seed=1)
    save_picture(drawn, folder / "drawn.png")
    save_picture(drawn, folder / "drawn.jpg")
    for name, text in SAID.items():
        drawn.info["parameters"] = text
        save_picture(drawn, folder / f"{name}.png")
    (folder / "phrases.txt").write_text("a cat\n猫\n", encoding="utf-8")
    return folder


TEXTS = (
    st.text(max_size=60)
    | st.text('()[]:|\\<>ANDBREAKMSK 0.19,+-"', max_size=60)
    | st.sampled_from(
        [
            "",
            "\x00",
            "a" * 19_999,
            "[" * 500,
            "(" * 500 + ")" * 500,
            "(cat:nan)",
            "(cat:1e999)",
            "<lora:x:1>",
            "IMASK(no)",
            "a MASK(2 1)",
            "[a:b:-1]",
            "[a:b:99999999999]",
            "\ud800",
            "猫 🐱",
            "a AND " * 50,
            "BREAK " * 40,
        ]
    )
)
NUMBERS = st.sampled_from(
    ["0", "-1", "1", "3", "nan", "inf", "-inf", "1e9", "9" * 30, "0.5", "x", "", "2**3", "٣"]
)
SIZES = st.sampled_from(
    ["32", "0", "-8", "31x32", "32x48", "8193", "99999x99999", "x", "1e3", "32x", "٣٢"]
)
NAMES = st.sampled_from(
    ["euler", "DPM++ 2M Karras", "restart", "dpm_adaptive", "nope", "", "beta", "karras", "ddim"]
)
OPTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(
                [
                    "--seed",
                    "--cfg",
                    "--cfg-rescale",
                    "--clip-skip",
                    "--eta",
                    "--s-churn",
                    "--s-noise",
                    "--variation-seed",
                    "--variation-strength",
                    "--apg-norm",
                    "--apg-momentum",
                    "--batch",
                    "--cfg-sigma-min",
                    "--cfg-sigma-max",
                    "--skip-uncond-below",
                    "--ensd",
                ]
            ),
            NUMBERS,
        ),
        st.tuples(
            st.sampled_from(["--steps", "--count"]),
            st.sampled_from(["0", "-1", "1", "2", "x", "nan", "1000000"]),
        ),
        st.tuples(st.just("--size"), SIZES),
        st.tuples(
            st.sampled_from(
                [
                    "--sampler",
                    "--spacing",
                    "--dialect",
                    "--preset",
                    "--rng",
                    "--tiling",
                    "--format",
                    "--noise-scaling",
                    "--prompt-steps",
                ]
            ),
            NAMES | st.sampled_from(["both", "nv", "comfy"]),
        ),
        st.tuples(
            st.sampled_from(["--sampler-option", "--spacing-option"]),
            st.sampled_from(
                ["order=2", "order=99", "rho=0", "rho=nan", "=", "x", "solver=no", "sigma_min=-1"]
            ),
        ),
        st.tuples(st.just("--negative"), TEXTS),
    ),
    max_size=4,
)
EDITS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(
                ["--strength", "--mask-blur", "--padding", "--extend-left", "--extend-top"]
            ),
            NUMBERS,
        ),
        st.tuples(
            st.sampled_from(["--resize", "--content"]),
            st.sampled_from(["fill", "crop", "noise", "original", "no"]),
        ),
        st.tuples(st.just("--only-masked")),
    ),
    max_size=3,
)
SAID = {  # what pictures say of how they were drawn
    "steps": "a cat\nSteps: 99999999, Sampler: Euler, Seed: 1, Size: 32x32",
    "seed": "a cat\nSteps: 2, Sampler: Nope, Seed: -1, Size: 0x0, CFG scale: nan",
    "huge": "cat\nSteps: 2, Seed: 1, Size: 9999x9999, Hires upscale: 1e9, Hires upscaler: Latent",
    "json": 'a\nSteps: 2, Seed: 1, Size: 32x32, Sampler options: "{", Schedule options: "[1]", '
    "APG: x, CFG interval: 1",
    "mask": "IMASK(x)\nSteps: 2, Seed: 1, Size: 32x32, Masks: {}, Denoising strength: 9, "
    "Mask blur: -1, Tiling: x1",
    "blank": "",
    "binary": "\x01\x02Steps: x",
}
FILES = st.sampled_from(
    ["in.png", "white.png", "small.png", "noise.png", "empty.png", "cut.png", "no.png", "", "."]
)
ANY = FILES | st.sampled_from(
    ["drawn.png", "drawn.jpg", "phrases.txt", "tiny", *(f"{name}.png" for name in SAID)]
)
SAYING = st.sampled_from([*SAID.values()])
LESS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def several(**options):
    """Some of the options --name (with - for _), each with a value drawn from what is said of it;
    None: a switch."""
    pairs = [
        st.tuples(st.just("--" + name.replace("_", "-")), *([] if values is None else [values]))
        for name, values in options.items()
    ]
    return st.lists(st.one_of(pairs), max_size=3)


TWICE = several(
    hires_scale=NUMBERS,
    hires_width=SIZES,
    hires_height=SIZES,
    hires_strength=NUMBERS,
    hires_cfg=NUMBERS,
    hires_sampler=NAMES,
    hires_spacing=NAMES,
    hires_prompt=TEXTS,
    hires_negative_prompt=TEXTS,
    hires_steps=NUMBERS,
    hires_upscaler=st.sampled_from(["latent", "lanczos", "nope", "in.png"]),
)
LARGER = several(
    upscaler=st.sampled_from(["lanczos", "nearest", "nope", "in.png", "phrases.txt", ""]),
    scale=NUMBERS,
    size=SIZES,
    out=st.sampled_from(["up.png", "up.jpg", "up.bmp", "up", ""]),
    json=None,
)
AXES = st.sampled_from(
    [
        "steps=1,2",
        "cfg=1-3 (+1)",
        "cfg=1-1e9 (+1e-9)",
        "seed=1-",
        "nope=1",
        "steps=",
        "=",
        "prompt:a=b",
        "cfg=inf",
        "prompt:cat=dog,ox",
        "sampler=Euler,Heun",
        "size=32,48",
        "steps=nan",
        "seed=0-9 [3]",
        "seed=0-9 [0]",
        "x=(+0)",
    ]
)
SHEETS = several(x=AXES, y=AXES, z=AXES, limit=st.sampled_from(["0", "1", "4", "x"]))
FILMS = several(
    seeds=st.sampled_from(["1,2", "1", "x", "", "1,,2", "-1,2"]),
    fps=NUMBERS,
    easing=NAMES,
    blend=NAMES,
    frames=st.sampled_from(["0", "-1", "1", "2", "5", "x", "9999999999"]),
    loop=None,
    format=st.sampled_from(["gif", "mp4", "png", "avi", ""]),
)
BLENDS = several(prompt=TEXTS, weight=NUMBERS, strength=NUMBERS, clip_scale=NUMBERS, source=NAMES)
FREELY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def memory(what):
    """Bytes that this process holds (VmRSS), or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def said(monkeypatch, capsys, *args):
    """(exit code, standard error). Any exception but the end of the command goes through, and fails
    the test; so does more memory than leaves 2 GiB with the half that a process of its own starts
    with."""
    monkeypatch.setattr(sys, "argv", ["fromnoise", *args])
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = memory("VmRSS")
    with pytest.raises(SystemExit) as end:
        command.main()
    assert memory("VmHWM") - before < 1.5 * 1024**3
    return end.value.code or 0, capsys.readouterr().err


def flat(options):
    return [word for option in options for word in option]


def is_sound(code, err):
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    if code:  # typer's own, or ours with its remedy
        assert "→" in err or "Error" in err or "Usage" in err, err


@FREELY
@given(TEXTS, OPTIONS)
def test_generate(place, monkeypatch, capsys, prompt, options):
    where = ["--model", str(place / "tiny"), "--out", str(place / "out")]
    is_sound(*said(monkeypatch, capsys, "generate", *where, *flat(options), "--", prompt))


@FREELY
@given(FILES, FILES | st.none(), OPTIONS, EDITS)
def test_edit(place, monkeypatch, capsys, image, mask, options, edits):
    where = ["--model", str(place / "tiny"), "--out", str(place / "out")]
    masked = [] if mask is None else ["--mask", str(place / mask) if mask else ""]
    given_ = [str(place / image) if image else "", "a cat"]
    is_sound(
        *said(
            monkeypatch,
            capsys,
            "edit",
            *where,
            *masked,
            *flat(options),
            *flat(edits),
            "--",
            *given_,
        )
    )


@LESS
@given(TEXTS, OPTIONS, TWICE)
def test_hires(place, monkeypatch, capsys, prompt, options, twice):
    where = ["--model", str(place / "tiny"), "--out", str(place / "out")]
    is_sound(
        *said(monkeypatch, capsys, "hires", *where, *flat(options), *flat(twice), "--", prompt)
    )


@LESS
@given(TEXTS, OPTIONS, SHEETS)
def test_grid(place, monkeypatch, capsys, prompt, options, sheets):
    where = ["--model", str(place / "tiny"), "--out", str(place / "out"), "--limit", "9"]
    is_sound(
        *said(monkeypatch, capsys, "grid", *where, *flat(options), *flat(sheets), "--", prompt)
    )


@LESS
@given(st.lists(TEXTS, min_size=1, max_size=3), OPTIONS, FILMS)
def test_film(place, monkeypatch, capsys, prompts, options, films):
    where = ["--model", str(place / "tiny"), "--frames", "2"]
    monkeypatch.chdir(place)
    is_sound(
        *said(monkeypatch, capsys, "film", *where, *flat(options), *flat(films), "--", *prompts)
    )


@LESS
@given(ANY, ANY, OPTIONS, BLENDS)
def test_blend(place, monkeypatch, capsys, first, second, options, blends):
    where = ["--model", str(place / "tiny"), "--out", str(place / "out"), "--prompt", "a cat"]
    monkeypatch.chdir(place)
    is_sound(
        *said(
            monkeypatch, capsys, "blend", *where, *flat(options), *flat(blends), "--", first, second
        )
    )


@LESS
@given(ANY, LARGER)
def test_upscale(place, monkeypatch, capsys, image, larger):
    monkeypatch.chdir(place)
    is_sound(*said(monkeypatch, capsys, "upscale", *flat(larger), "--", image))


@LESS
@given(ANY, several(top=NUMBERS, phrases=ANY, json=None))
def test_describe(place, monkeypatch, capsys, image, options):
    monkeypatch.chdir(place)
    is_sound(
        *said(
            monkeypatch,
            capsys,
            "describe",
            "--model",
            "tiny",
            "--phrases",
            "phrases.txt",
            *flat(options),
            "--",
            image,
        )
    )


@LESS
@given(st.lists(ANY | TEXTS, max_size=3), several(text=None, json=None))
def test_similarity(place, monkeypatch, capsys, items, options):
    monkeypatch.chdir(place)
    is_sound(
        *said(monkeypatch, capsys, "similarity", "--model", "tiny", *flat(options), "--", *items)
    )


@LESS
@given(
    ANY,
    several(
        image=ANY,
        mask=ANY,
        image2=ANY,
        upscaler=ANY,
        mask_file=ANY | TEXTS,
        device=NAMES,
        dtype=NAMES,
        out=st.sampled_from(["again.png", "again.x", ""]),
    ),
)
def test_replay(place, monkeypatch, capsys, file, options):
    monkeypatch.chdir(place)
    code, err = said(monkeypatch, capsys, "replay", "--model", "tiny", *flat(options), "--", file)
    if code != 1 or err:  # 1 without a word: drawn, and not identical
        is_sound(code, err)


@LESS
@given(ANY)
def test_settings_of_files(place, monkeypatch, capsys, file):
    monkeypatch.chdir(place)
    is_sound(*said(monkeypatch, capsys, "settings", "--", file))


@LESS
@given(TEXTS | SAYING | st.text('Steps: 12,\n"{}[]abcSizex-NegativeprompSampler', max_size=80))
def test_settings_of_texts(place, monkeypatch, capsys, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    is_sound(*said(monkeypatch, capsys, "settings", "-"))


def test_a_picture_of_thirty_thousand_squared_costs_no_memory(place):
    bomb = place / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(bomb)  # 110 kB that would be 2.7 GB as RGB
    code = """
import sys
from fromnoise.cli.main import main
try:
    main()
finally:
    lines = open("/proc/self/status").read().splitlines()
    print(*[line.split()[1] for line in lines if line.startswith("VmHWM")], file=sys.stderr)
"""
    for args in (
        ["edit", str(bomb), "a cat"],
        ["edit", str(place / "in.png"), "a cat", "--mask", str(bomb)],
        ["upscale", str(bomb)],
    ):
        rest = ["--model", str(place / "tiny")] if args[0] == "edit" else []
        done = subprocess.run(
            [sys.executable, "-c", code, *args, *rest], capture_output=True, text=True, cwd=place
        )
        assert done.returncode == 2, done.stderr
        assert "too many pixels" in done.stderr
        assert int(done.stderr.split()[-1]) < 2 * 1024**2  # kB: 2 GiB
