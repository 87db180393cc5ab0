"""Whatever is typed: files and exit code 0, or an error that says what to do; never a traceback, never much memory."""

import os
import subprocess
import sys

import fakes
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fromnoise.checkpoints.formats import diffusers_folder
from fromnoise.cli import main as command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    diffusers_folder.save(fakes.model(folder / "w", steps=2, cfg=3.0), folder / "tiny", torch.float32)
    Image.new("RGB", (32, 32), "red").save(folder / "in.png")
    Image.new("L", (32, 32), 255).save(folder / "white.png")
    Image.new("L", (16, 16), 255).save(folder / "small.png")
    (folder / "noise.png").write_bytes(os.urandom(300))
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "in.png").read_bytes()[:60])
    return folder


TEXTS = st.text(max_size=60) | st.text("()[]:|\\<>ANDBREAKMSK 0.19,+-\"", max_size=60) | st.sampled_from(
    ["", "\x00", "a" * 19_999, "[" * 500, "(" * 500 + ")" * 500, "(cat:nan)", "(cat:1e999)", "<lora:x:1>", "IMASK(no)",
     "a MASK(2 1)", "[a:b:-1]", "[a:b:99999999999]", "\ud800", "猫 🐱", "a AND " * 50, "BREAK " * 40]
)  # fmt: skip
NUMBERS = st.sampled_from(["0", "-1", "1", "3", "nan", "inf", "-inf", "1e9", "9" * 30, "0.5", "x", "", "2**3", "٣"])
SIZES = st.sampled_from(["32", "0", "-8", "31x32", "32x48", "8193", "99999x99999", "x", "1e3", "32x", "٣٢"])
NAMES = st.sampled_from(["euler", "DPM++ 2M Karras", "restart", "dpm_adaptive", "nope", "", "beta", "karras", "ddim"])
OPTIONS = st.lists(st.one_of(
    st.tuples(st.sampled_from(["--seed", "--cfg", "--cfg-rescale", "--clip-skip", "--eta", "--s-churn", "--s-noise",
                               "--variation-seed", "--variation-strength", "--apg-norm", "--apg-momentum", "--batch",
                               "--cfg-sigma-min", "--cfg-sigma-max", "--skip-uncond-below", "--ensd"]), NUMBERS),
    st.tuples(st.sampled_from(["--steps", "--count"]), st.sampled_from(["0", "-1", "1", "2", "x", "nan", "1000000"])),
    st.tuples(st.just("--size"), SIZES),
    st.tuples(st.sampled_from(["--sampler", "--spacing", "--dialect", "--preset", "--rng", "--tiling", "--format",
                               "--noise-scaling", "--prompt-steps"]), NAMES | st.sampled_from(["both", "nv", "comfy"])),
    st.tuples(st.sampled_from(["--sampler-option", "--spacing-option"]),
              st.sampled_from(["order=2", "order=99", "rho=0", "rho=nan", "=", "x", "solver=no", "sigma_min=-1"])),
    st.tuples(st.just("--negative"), TEXTS),
), max_size=4)  # fmt: skip
EDITS = st.lists(st.one_of(
    st.tuples(st.sampled_from(["--strength", "--mask-blur", "--padding", "--extend-left", "--extend-top"]), NUMBERS),
    st.tuples(st.sampled_from(["--resize", "--content"]), st.sampled_from(["fill", "crop", "noise", "original", "no"])),
    st.tuples(st.just("--only-masked")),
), max_size=3)  # fmt: skip
FILES = st.sampled_from(["in.png", "white.png", "small.png", "noise.png", "empty.png", "cut.png", "no.png", "", "."])
FREELY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def said(monkeypatch, capsys, *args):
    """(exit code, standard error). Any exception but the end of the command goes through, and fails the test."""
    monkeypatch.setattr(sys, "argv", ["fromnoise", *args])
    with pytest.raises(SystemExit) as end:
        command.main()
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
    is_sound(*said(monkeypatch, capsys, "edit", *where, *masked, *flat(options), *flat(edits), "--", *given_))


def test_a_picture_of_thirty_thousand_squared_costs_no_memory(place):
    bomb = place / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(bomb)  # 110 kB that would be 2.7 GB as RGB
    code = """
import sys
from fromnoise.cli.main import main
try:
    main()
finally:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""
    for args in (["edit", str(bomb), "a cat"], ["edit", str(place / "in.png"), "a cat", "--mask", str(bomb)],
                 ["upscale", str(bomb)]):  # fmt: skip
        rest = ["--model", str(place / "tiny")] if args[0] == "edit" else []
        done = subprocess.run([sys.executable, "-c", code, *args, *rest], capture_output=True, text=True, cwd=place)
        assert done.returncode == 2, done.stderr
        assert "too many pixels" in done.stderr
        assert int(done.stderr.split()[-1]) < 2 * 1024**2  # kB: 2 GiB
