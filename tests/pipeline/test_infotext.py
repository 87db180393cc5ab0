"""Settings → text → settings; texts and files of other programs; whatever is broken.

infotexts.json holds strings that people and programs published (where from is said with each; the
numbers are those of files in an index of public repositories), some with prompts shortened, and
what they must give, worked out by hand from A1111's own code: nothing in it was taken from what
this program answers."""

import json
import math
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from fromnoise import __version__
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS
from fromnoise.errors import BadInput, FromnoiseError, NotFound
from fromnoise.pipeline.provenance import infotext, others, unusual
from fromnoise.pipeline.provenance.comfyui import read_comfyui
from fromnoise.pipeline.provenance.exif import write_exif
from fromnoise.pipeline.provenance.fields import FIELDS, SAMPLER_OPTIONS, SPACING_OPTIONS
from fromnoise.pipeline.provenance.fields import to_request as recalled
from fromnoise.pipeline.provenance.read import read_settings, read_text
from fromnoise.pipeline.provenance.write import write_infotext
from fromnoise.pipeline.request import OPTIONS, GenerationRequest
from fromnoise.pipeline.saving import save_picture

PUBLISHED = json.loads(Path(__file__).with_name("infotexts.json").read_text("utf-8"))
TEXT = """a café, Steps: 12
“日出” 🦊
Negative prompt: bad: a, b
Steps: 3, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x32"""


def answer(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    return recalled(infotext.parse(text))


# ---- this program's own texts


def number(low: float, high: float) -> st.SearchStrategy[float]:
    """Of six digits, which is what `write.write_infotext` keeps of cfg, its interval and apg (of
    others, 15): with these the way there and back is exact, and the test needs no tolerance."""
    return st.floats(low, high).map(lambda x: float(f"{x:g}"))


plain = st.text(
    st.characters(exclude_categories=["Cs"]), max_size=12
)  # no lone surrogates: no file could hold them
parts = [
    *', \n:"\\',
    "\r\n",
    "Steps: 12",
    "Negative prompt:",
    "\nNegative prompt: ",
    "Steps: 9, Sampler: DDIM, CFG scale: 7, Seed: 1",
]
# one that ends in \r looks like Windows' line ending, see `parse`
words = (
    st.lists(st.sampled_from(parts) | plain, max_size=6)
    .map("".join)
    .filter(lambda text: not text.endswith("\r"))
)
value = st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | plain


@st.composite
def requests(draw) -> GenerationRequest:
    """Resolved by hand, whatever the sampler would say to the options' values."""
    entry, spacing = (
        draw(st.sampled_from([*registry.values()])) for registry in (SAMPLERS, SPACINGS)
    )
    limits = {"eta": 10, "s_churn": 1000, "s_tmin": 50, "s_tmax": math.inf, "s_noise": 10}
    own = {
        name: draw(number(0, min(limits[name], 1e6)) | st.just(float(limits[name])))
        for name in OPTIONS
        if name in entry.options and draw(st.booleans())
    }
    more = {
        name: draw(value) for name in entry.options if name not in OPTIONS and draw(st.booleans())
    }
    apg = (
        {
            "apg": True,
            "apg_parallel": draw(number(0, 1)),
            "apg_norm": draw(st.none() | number(0.001, 1e4)),
            "apg_momentum": draw(number(-0.99, 0.99)),
        }
        if draw(st.booleans())
        else {}
    )
    blend = draw(st.sampled_from(["slerp", "columns"]))
    varied = (
        {
            "variation_strength": draw(number(0.001, 1)),
            "variation_seed": draw(st.integers(0, 2**64 - 4)),
            "variation_blend": blend,
        }
        if draw(st.booleans())
        else {}
    )
    return GenerationRequest.of(
        prompt=draw(words),
        negative_prompt=draw(words),
        dialect=draw(st.sampled_from(["a1111", "comfy", "compel"])),
        prompt_steps=draw(st.sampled_from(["step", "call"])),
        clip_skip=draw(st.integers(1, 64)),
        steps=draw(st.integers(1, 1000)),
        sampler=entry.name,
        spacing=spacing.name,
        cfg=draw(number(0, 100)),
        cfg_rescale=draw(number(0, 1)),
        cfg_sigma_min=draw(st.none() | number(0.001, 5)),
        cfg_sigma_max=draw(st.none() | number(6, 1e4)),
        skip_uncond_below=draw(number(0, 100)),
        discard_penultimate=draw(st.booleans()),
        noise_scaling=draw(st.sampled_from(["unit", "sigma_max"])),
        seed=draw(st.integers(0, 2**64 - 4)),
        rng=draw(st.sampled_from(["cpu", "nv"])),
        # of 15 digits, see `number`
        eta_noise_seed_delta=draw(st.integers(-(10**15) + 1, 10**15 - 1)),
        tiling=draw(st.sampled_from(["none", "both", "x", "y"])),
        count=draw(st.integers(1, 4)),
        width=draw(st.integers(8, 8192)),
        height=draw(st.integers(8, 8192)),
        sampler_options=more,
        spacing_options={name: draw(value) for name in spacing.options if draw(st.booleans())},
        **own,
        **apg,
        **varied,
    )


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests(), st.data(), plain.map(str.strip), st.sampled_from(["", "0a1b2c3d4e"]))
def test_there_and_back(request, data, source, digest):
    """The picture's own request, types and all: everything that `parameters` writes, and nothing
    besides."""
    index = data.draw(st.integers(0, request.count - 1))
    prefers = data.draw(st.sampled_from([{}, {"cfg_sigma_max": 3.0}]))
    model = SimpleNamespace(digest=digest, vae_digest=digest, source=source, defaults=prefers)
    model.vae_source, model.refiner, model.prediction_told = "", None, False
    model.text_encoder = SimpleNamespace(config=SimpleNamespace(dim=16))  # reads no embedding
    plan = data.draw(st.sampled_from(["exact", "batched: 2, fp32", '{"a": [1, 2]}']))
    info = infotext.parse(write_infotext(model, request, index, plan))  # pyright: ignore[reportArgumentType]
    back, unused = recalled(info)
    varied = request.variation_seeds()
    own = {"seed": request.seeds()[index], "variation_seed": varied and varied[index], "count": 1}
    bounds = {
        name: back.get(name) for name in ("cfg_sigma_min", "cfg_sigma_max")
    }  # None is written as 0 or inf
    assert repr(GenerationRequest.of(**back)) == repr(request.model_copy(update=own | bounds))
    assert GenerationRequest.of(**back).guidance == request.guidance
    assert not prefers or None not in bounds.values()  # else the model's own would take their place
    said = {
        "Model hash": digest,
        "VAE hash": digest,
        "Model": source,
        "Plan": plan,
        "Version": f"fromnoise {__version__}",
        "Torch": torch.__version__,
        "Threads": str(torch.get_num_threads()),
    }
    assert {key: info.fields.get(key, "") for key in said} == said
    assert unused.keys() == {key for key, value in said.items() if value}


def test_the_writers_numbers_are_known():
    assert unusual.WRITTEN.items() <= FIELDS.items()


def test_a_text_that_went_through_windows():
    written = (
        "a cat\n  on a mat\nNegative prompt: dog\n"
        "Steps: 3, Sampler: Euler, Seed: 1, Version: fromnoise 1"
    )
    info = infotext.parse(written.replace("\n", "\r\n") + "\r\n")
    assert info == infotext.parse(written)
    assert info.prompt == "a cat\n  on a mat"


# ---- other programs' texts


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published["source"])
def test_published_texts(published):
    info = infotext.parse(published["text"])
    found, unused = recalled(info)
    assert (info.prompt, info.negative_prompt) == (
        published["prompt"],
        published["negative_prompt"],
    )
    assert {k: v for k, v in found.items() if k not in ("prompt", "negative_prompt")} == published[
        "given"
    ]
    assert sorted(unused) == sorted(published["unused"])
    assert all(unused[key].startswith(info.fields[key]) for key in unused)
    GenerationRequest.of(**found)


def test_there_are_thirty_of_them():
    assert len({published["text"] for published in PUBLISHED}) >= 30


@pytest.mark.parametrize(
    ("sampler", "schedule", "name", "spacing"),
    [
        ("DPM++ 2M Karras", None, "dpmpp_2m", "karras"),
        ("DPM++ 2M SDE Exponential", None, "dpmpp_2m_sde", "exponential"),
        # 1.6's setting wins over the name
        ("DPM++ 2M Karras", "exponential", "dpmpp_2m", "exponential"),
        ("DPM++ 2M Karras", "Automatic", "dpmpp_2m", "karras"),
        ("DPM++ 2M", None, "dpmpp_2m", "linspace"),  # before 1.9; later ones name it
        ("DPM++ 2M", "Automatic", "dpmpp_2m", "karras"),
        ("Euler a", "Automatic", "euler_a", "linspace"),
        ("Restart", None, "restart", "karras"),
        ("DDIM", "Automatic", "ddim", "ddim"),
        ("UniPC", None, "unipc", "ddim"),
        ("DDIM", "SGM Uniform", "ddim", "sgm_uniform"),
        ("k_euler_a", None, "euler_a", "linspace"),
        ("k_lms_ka", None, "lms", "karras"),
        ("dpmpp_2m_sde_gpu_karras", None, "dpmpp_2m_sde", "karras"),
        ("euler_ddim_uniform", None, "euler", "ddim"),
        ("dpmpp_2m simple", None, "dpmpp_2m", "simple"),
        ("Heun", "KL Optimal", "heun", "kl_optimal"),
        ("Euler", "Turbo", "euler", None),
        ("Euler SMEA Dy", None, None, None),
        ("Foo Karras", "Automatic", None, None),
    ],
)
def test_samplers_and_schedules(sampler, schedule, name, spacing):
    middle = f", Schedule type: {schedule}" if schedule else ""
    found, unused = answer(f"x\nSteps: 20, Sampler: {sampler}{middle}, Seed: 1, CFG scale: 7")
    assert (found.get("sampler"), found.get("spacing")) == (name, spacing)
    assert ("Sampler" in unused) == (name is None)
    assert ("Schedule type" in unused) == (schedule is not None and spacing is None)


@pytest.mark.parametrize(
    ("more", "expected", "unused"),
    [
        ("RNG: CPU", {"rng": "cpu"}, []),
        ("RNG: GPU", {"rng": "nv"}, []),
        ("RNG: NV", {"rng": "nv"}, []),
        ("RNG: MPS", {"rng": None}, ["RNG"]),
        ("Version: ComfyUI", {"rng": None, "noise_scaling": None}, ["Version"]),
        ("Eta DDIM: 0.5", {"eta": None}, ["Eta DDIM"]),  # Heun takes none
        (
            "Sigma churn: 4.0, Sigma tmin: 0.5, Sigma tmax: 10.0, Sigma noise: 1.003",
            {"s_churn": 4.0, "s_tmin": 0.5, "s_tmax": 10.0, "s_noise": 1.003},
            [],
        ),
        (
            "Schedule type: Karras, Schedule max sigma: 10.0, Schedule min sigma: 0.1, "
            "Schedule rho: 5.0",
            {"spacing_options": {"sigma_max": 10.0, "sigma_min": 0.1, "rho": 5.0}},
            [],
        ),
        (
            "Schedule type: Exponential, Schedule rho: 5.0, Schedule max sigma: 0",
            {"spacing_options": None},
            ["Schedule rho", "Schedule max sigma"],
        ),
        ("Discard penultimate sigma: True", {"discard_penultimate": True}, []),
        ("", {"discard_penultimate": None}, []),
        ("SGM noise multiplier: True", {"noise_scaling": "unit"}, []),
        ("SGM noise multplier: True", {"noise_scaling": "unit"}, []),  # 1.6's slip
        ("UniPC order: 2", {"sampler_options": None}, ["UniPC order"]),
        ("Seed: 18446744073709551615", {"seed": 2**64 - 1, "rng": "nv"}, []),
        ("Seed: 18446744073709551616", {"seed": None, "rng": None}, ["Seed"]),
        ("Size: big", {"width": None}, ["Size"]),
        (
            "Variation seed: 3, Variation seed strength: 0.5, Variation blend: slerp",
            {"variation_blend": "slerp"},
            [],
        ),
        (
            "APG: 0.5 inf -0.5",
            {"apg": True, "apg_parallel": 0.5, "apg_norm": None, "apg_momentum": -0.5},
            [],
        ),
        ("CFG interval: 0 5.5", {"cfg_sigma_min": 0.0, "cfg_sigma_max": 5.5}, []),
        ("Tiling: True", {"tiling": "both"}, []),
        ("Tiling: False", {"tiling": "none"}, []),
        ("Tiling: x", {"tiling": "x"}, []),
        ("Tiling: maybe", {"tiling": None}, ["Tiling"]),
        ("Schedule type: Beta", {"spacing_options": None}, []),
        (
            "Schedule type: beta, Version: ComfyUI",
            {"spacing_options": {"of": "timestep"}},
            ["Version"],
        ),
    ],
)
def test_fields(more, expected, unused):
    found, left = answer(f"x\nSteps: 20, Sampler: Heun, CFG scale: 7, Seed: 1, {more}")
    assert {key: found.get(key) for key in expected} == expected
    assert sorted(left) == sorted(unused)


def test_unipc_options():
    options = "UniPC variant: bh2, UniPC order: 2, UniPC lower order final: False"
    found, _ = answer(f"x\nSteps: 9, Sampler: UniPC, Seed: 1, {options}")
    assert found["sampler_options"] == {"variant": "bh2", "order": 2, "lower_order_final": False}


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        ("", "", ""),
        ("\n", "", ""),
        ("a cat", "a cat", ""),
        ("a\nNegative prompt: b", "a", "b"),
        ("big: no, small: yes", "big: no, small: yes", ""),  # two pairs are too few
        # A1111 takes these for settings
        ("(cat:1.2), (dog:1.3), (bird:1.4)", "(cat:1.2), (dog:1.3), (bird:1.4)", ""),
        (
            "a, Steps: 12\nmore\nNegative prompt: b,\nc\nSteps: 9, Sampler: DDIM, Seed: 1",
            "a, Steps: 12\nmore",
            "b,\nc",
        ),
        (
            "Steps: 1, Sampler: x, Seed: 3\nb\nSteps: 9, Sampler: DDIM, Seed: 1",
            "Steps: 1, Sampler: x, Seed: 3\nb",
            "",
        ),
    ],
)
def test_prompts(text, prompt, negative):
    info = infotext.parse(text)
    assert (info.prompt, info.negative_prompt) == (prompt, negative)
    assert info.fields.get("Steps") in (None, "9")


def test_values_in_quotes():
    line = r'Ab: "a \"b\", c: d\ne", Cd: {"e": [1, "f, g"]}, alone, Ef: "torn, Gh: [1, 2, Ij: C:\x'
    info = infotext.parse(f"x\n{line}")
    assert info.fields == {
        "Ab": 'a "b", c: d\ne',
        "Cd": '{"e": [1, "f, g"]}',
        "alone": "alone",
        "Ef": '"torn',
        "Gh": "[1",
        "2": "2",
        "Ij": "C:\\x",
    }


anything = st.text() | st.lists(
    st.sampled_from(
        [
            *parts,
            *FIELDS,
            *SPACING_OPTIONS,
            "Sampler options",
            "Schedule options",
            "APG",
            "CFG interval",
            "Size",
            "RNG",
            ": ",
            "\r\n",
            "{",
            "[",
            "1",
            "-1",
            "nan",
            "1e999",
            "64x32",
            "Karras",
            '{"s_noise": "\\ud800"}',
            "Version: fromnoise 1",
            "Version: ComfyUI",
            "9" * 5000,
        ]
    )
    | st.text(max_size=9),
    max_size=40,
).map("".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything)
@example('a\nSteps: 1, Sampler: Euler, Seed: 1, Model: "\\ud800"\nVersion: \\')
def test_no_text_is_an_error(text):
    """And what is found can be asked for, what cannot is said, and each field is one of the two."""
    info = infotext.parse(text)
    found, unused = recalled(info)
    GenerationRequest.of(**found)
    known = {
        *FIELDS,
        *SAMPLER_OPTIONS,
        *SPACING_OPTIONS,
        "Sampler",
        "Schedule type",
        "Size",
        "RNG",
        "APG",
        "CFG interval",
        "Sampler options",
        "Schedule options",
        "SGM noise multiplier",
    }
    assert info.fields.keys() - known <= unused.keys() <= info.fields.keys()


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        " ",
        "\n",
        ",",
        "a:",
        'ab: "',
        "[1,",
        "ab: [1,",
        '{"a":',
        "[[",
        '",',
        "Steps: 1, ",
        "Negative prompt: ",
        "Steps: 1, Sampler: Euler, Seed: 1\n",
        "ab: {}, ",
        '\\"',
    ],
)
def test_long_texts_take_no_longer_than_they_are(piece):
    """200,000 characters take this module 0.5 s of the CPU at most; going back for each, and be it
    by a thousand levels of brackets, takes minutes: 20 s lie between."""
    start = time.process_time()
    text = piece * (200_000 // len(piece))
    last = "Steps: 1, Sampler: Euler, Seed: 1"
    for whole in (text, f"x\n{last}, Ab: {text}", f"{text}\n{last}"):
        recalled(infotext.parse(whole))
    assert time.process_time() - start < 20


# ---- files


def picture() -> Image.Image:
    return Image.new("RGB", (64, 32), (200, 100, 50))


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize(
    "text", [TEXT, TEXT.encode("ascii", "ignore").decode(), "x" * 20_000 + TEXT]
)
def test_there_and_back_through_files(tmp_path, kind, text):
    path, drawn = tmp_path / f"a.{kind}", picture()
    if kind == "png":
        drawn.info["parameters"] = text
        save_picture(drawn, path)
    else:
        drawn.save(path, exif=write_exif(text))
    assert read_text(path) == text
    assert read_settings(path) == infotext.parse(text)


def exif(comment: bytes, high_first: bool) -> bytes:
    """As TIFF 6.0 has it: one entry that leads to EXIF's directory, which has one entry,
    UserComment (type 7)."""
    order = ">" if high_first else "<"
    head = struct.pack(f"{order}2sHI", b"MM" if high_first else b"II", 42, 8)
    first = struct.pack(f"{order}HHHIII", 1, 0x8769, 4, 1, 26, 0)
    second = struct.pack(f"{order}HHHIII", 1, 0x9286, 7, len(comment), 44, 0)
    return b"Exif\0\0" + head + first + second + comment


@pytest.mark.parametrize("kind", ["jpg", "webp", "png"])
@pytest.mark.parametrize("high_first", [True, False])
@pytest.mark.parametrize(
    ("code", "encoding"),
    [
        (b"UNICODE\0", "utf-16-be"),
        (b"UNICODE\0", "utf-16-le"),
        (b"UNICODE\0", "utf-16"),
        (b"ASCII\0\0\0", "utf-8"),
        (bytes(8), "utf-8"),
        (b"", "utf-8"),
    ],
)
def test_user_comments(tmp_path, kind, high_first, code, encoding):
    path = tmp_path / f"a.{kind}"
    picture().save(path, exif=exif(code + TEXT.encode(encoding), high_first))
    assert read_text(path) == TEXT


def test_a_comment_in_latin_1(tmp_path):
    text = "café\nSteps: 3, Sampler: Euler a, Seed: 5"
    raw = text.encode("latin-1") + b"\0"
    picture().save(tmp_path / "a.jpg", exif=exif(raw, high_first=True))
    assert read_text(tmp_path / "a.jpg") == text


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_text_behind_the_pixels(tmp_path):
    path = tmp_path / "a.png"
    picture().save(path)
    whole = path.read_bytes()
    path.write_bytes(
        whole[:-12] + chunk(b"iTXt", b"parameters\0\0\0\0\0" + TEXT.encode()) + whole[-12:]
    )
    assert read_text(path) == TEXT


def test_files_that_say_nothing(tmp_path):
    for kind in ("png", "jpg", "webp", "gif"):
        picture().save(tmp_path / f"a.{kind}")
        assert read_text(tmp_path / f"a.{kind}") is None
        with pytest.raises(BadInput, match="says nothing") as error:
            read_settings(tmp_path / f"a.{kind}")
        assert error.value.remedy


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_broken_files(tmp_path, kind):
    """Cut anywhere, or with bytes changed: the text, none, or an error with a remedy."""
    path = with_chunk(tmp_path / f"a.{kind}", "parameters", TEXT)
    if kind != "png":
        picture().save(path, exif=write_exif(TEXT))
    whole, errors = path.read_bytes(), []
    for i in range(0, len(whole), 3):
        for broken in (whole[:i], whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]):
            path.write_bytes(broken)
            try:
                read_text(path)
            except BadInput as error:
                errors.append(error)
    assert len(errors) > 10
    assert all(error.remedy for error in errors)


def test_too_many_pixels(tmp_path):
    """A file of a few bytes that claims 10 Gpx, and one of 120 Mpx, which are left undecoded."""
    path = tmp_path / "a.png"
    for side, ends in ((100_000, "error"), (11_000, None)):
        ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + ihdr + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        if ends:
            with pytest.raises(BadInput, match="too many pixels"):
                read_text(path)
        else:
            assert read_text(path) is None


def test_no_file(tmp_path):
    with pytest.raises(NotFound):
        read_text(tmp_path / "none.png")
    for wrong in (tmp_path, Path(__file__)):
        with pytest.raises(BadInput):
            read_settings(wrong)


# ---- ComfyUI and InvokeAI

GRAPH = {  # the workflow that ComfyUI starts with, as its API takes it
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208700286,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "v1-5-pruned-emaonly.ckpt"},
    },
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 512, "height": 768, "batch_size": 1},
    },
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {
            "text": "beautiful scenery nature glass bottle landscape, , purple galaxy bottle,",
            "clip": ["4", 1],
        },
    },
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
}
DRAWN = {
    "dialect": "comfy",
    "prompt": "beautiful scenery nature glass bottle landscape, , purple galaxy bottle,",
    "negative_prompt": "text, watermark",
    "steps": 20,
    "cfg": 8.0,
    "sampler": "euler",
    "spacing": "linspace",
    "seed": 156680208700286,
    "width": 512,
    "height": 768,
    "rng": "cpu",
}


def with_chunk(path: Path, name: str, content: Any) -> Path:
    text = PngImagePlugin.PngInfo()
    text.add_text(name, content if isinstance(content, str) else json.dumps(content))
    picture().save(path, pnginfo=text)
    return path


def test_comfyui(tmp_path):
    path = with_chunk(tmp_path / "a.png", "prompt", GRAPH)
    assert read_text(path) is None
    found, unused = recalled(read_settings(path))
    assert found == DRAWN
    assert unused.keys() == {"Model", "Version"}
    assert unused["Model"].startswith("v1-5-pruned-emaonly.ckpt")
    path = tmp_path / "a.webp"  # where the node for animations writes it
    tags = Image.Exif()
    tags[0x0110] = "prompt:" + json.dumps(GRAPH)
    picture().save(path, exif=tags)
    assert recalled(read_settings(path))[0] == DRAWN


def test_comfyui_two_passes_with_detours(tmp_path):
    """The second pass and the ControlNet do not lead astray, links stand for values, a LoRA is told
    of."""
    second = {**GRAPH["3"]["inputs"], "denoise": 0.5, "seed": 1, "latent_image": ["11", 0]}
    first = {
        **GRAPH["3"]["inputs"],
        "noise_seed": ["14", 0],
        "add_noise": "enable",
        "model": ["13", 0],
    }
    first |= {"positive": ["12", 0], "negative": ["12", 1]}
    del first["seed"], first["denoise"]
    detours = {
        "2": {"class_type": "KSampler", "inputs": second},
        "3": {"class_type": "KSamplerAdvanced", "inputs": first},
        "11": {
            "class_type": "LatentUpscale",
            "inputs": {"width": 1024, "height": 1536, "samples": ["3", 0]},
        },
        "12": {
            "class_type": "ControlNetApplyAdvanced",
            "inputs": {
                "negative": ["7", 0],
                "positive": ["6", 0],
                "strength": 1.0,
                "image": ["12", 0],
            },
        },
        "13": {
            "class_type": "LoraLoader",
            "inputs": {"lora_name": "x.safetensors", "strength_model": 0.8, "model": ["4", 0]},
        },
        "14": {"class_type": "PrimitiveInt", "inputs": {"value": 156680208700286}},
    }
    found, unused = recalled(
        read_settings(with_chunk(tmp_path / "a.png", "prompt", {**GRAPH, **detours}))
    )
    assert found == DRAWN
    assert unused.keys() == {"Model", "Version", "Loras", "ControlNetApplyAdvanced"}
    assert unused["Loras"].startswith("x.safetensors: 0.8")


# the fields are those of a picture of 3.x that sd-parsers has among its tests (index 4553400120)
INVOKE = {
    "generation_mode": "sdxl_txt2img",
    "positive_prompt": "digital artwork, oil painting. painterly brushstrokes, holidays,",
    "negative_prompt": "grainy+, photo, oversaturated",
    "width": 1024,
    "height": 1024,
    "seed": 3293022630,
    "rand_device": "cpu",
    "cfg_scale": 8.0,
    "cfg_rescale_multiplier": 0.0,
    "steps": 35,
    "scheduler": "euler",
    "model": {"model_name": "juggernautXL", "base_model": "sdxl", "model_type": "main"},
    "strength": None,
    "vae": {"model_name": "VAEFix", "base_model": "sdxl"},
    "positive_style_prompt": "",
    "app_version": "3.5.0",
}


@pytest.mark.parametrize(
    ("scheduler", "sampler", "spacing"),
    [
        ("euler", "euler", None),
        ("dpmpp_2m_k", "dpmpp_2m", "karras"),
        ("kdpm_2_a_k", "dpm2_a", "karras"),
        ("pndm", "plms", None),
        ("dpmpp_2m_sde", "dpmpp_2m_sde", None),
        ("tcd", "tcd", None),
        ("a_later_one", None, None),
    ],
)
def test_invokeai(tmp_path, scheduler, sampler, spacing):
    found, unused = recalled(
        read_settings(
            with_chunk(tmp_path / "a.png", "invokeai_metadata", {**INVOKE, "scheduler": scheduler})
        )
    )
    known = {"sampler": sampler} if sampler else {}
    known |= {"spacing": spacing} if spacing else {}
    assert found == {
        "prompt": INVOKE["positive_prompt"],
        "negative_prompt": INVOKE["negative_prompt"],
        "steps": 35,
        "dialect": "compel",
        "cfg": 8.0,
        "cfg_rescale": 0.0,
        "seed": 3293022630,
        "width": 1024,
        "height": 1024,
        "rng": "cpu",
        **known,
    }
    assert unused["Model"].startswith("juggernautXL")
    assert unused["Version"].startswith("InvokeAI 3.5.0")
    assert {"generation_mode", "vae"} <= unused.keys()


@pytest.mark.parametrize(
    ("axes", "tiling"),
    [
        ({}, None),
        ({"seamless_x": True, "seamless_y": True}, "both"),
        ({"seamless_x": False, "seamless_y": True}, "y"),
    ],
)
def test_invokeai_seamless(tmp_path, axes, tiling):
    found, _ = recalled(
        read_settings(with_chunk(tmp_path / "a.png", "invokeai_metadata", INVOKE | axes))
    )
    assert found.get("tiling") == tiling


leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["a", "3"])
)
names = st.sampled_from(
    ["inputs", "class_type", *GRAPH, *GRAPH["3"]["inputs"], *INVOKE, "text", "name"]
)
tree = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner), max_leaves=9
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree, st.dictionaries(st.sampled_from([*GRAPH["3"]["inputs"]]), tree))
def test_no_graph_is_an_error(content, inputs):
    node = {"class_type": "KSampler", "inputs": {**GRAPH["3"]["inputs"], **inputs}}
    for graph in (content, {**GRAPH, "3": node}, {"3": node, "4": content}):
        for translated in (read_comfyui, others.read_invokeai, others.read_json):
            if isinstance(graph, dict) and (info := translated(graph)):
                found, _ = recalled(info)
                GenerationRequest.of(**found)


@pytest.mark.parametrize(
    "content", ["", "not JSON", "[1]", "{}", "[" * 100_000, '{"3": {"inputs": {}}}', '{"3": 1}']
)
def test_chunks_that_are_no_graph(tmp_path, content):
    with pytest.raises(FromnoiseError):
        read_settings(with_chunk(tmp_path / "a.png", "prompt", content))


def test_loaded_only_where_asked_for():
    """Drawing does not load this module; this module loads no torch."""
    for code in (
        "import fromnoise.pipeline.generate as _; name = 'fromnoise.pipeline.provenance.infotext'; "
        "assert name not in sys.modules",
        "import fromnoise.pipeline.provenance.read; assert 'torch' not in sys.modules",
    ):
        subprocess.run([sys.executable, "-c", f"import sys; {code}"], check=True)
