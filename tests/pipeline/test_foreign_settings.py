"""Pictures of other programs: told right, or named in `unused`.

Node names and inputs are those of ComfyUI's nodes.py and comfy_extras/nodes_custom_sampler.py, the
texts of stable-diffusion.cpp those of its examples/common (common.cpp, media_io.cpp); what each
must give follows from what those programs compute.
"""

import gzip
import json
import struct
import zlib
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from fromnoise.errors import BadInput
from fromnoise.pipeline.provenance.exif import write_exif
from fromnoise.pipeline.provenance.fields import to_request
from fromnoise.pipeline.provenance.read import parse_settings, read_settings, read_text
from fromnoise.pipeline.request import GenerationRequest


def node(kind: str, **inputs) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


SAMPLER = node(
    "KSampler",
    seed=7,
    steps=20,
    cfg=7.0,
    sampler_name="euler",
    scheduler="normal",
    denoise=1.0,
    model=["4", 0],
    positive=["6", 0],
    negative=["7", 0],
    latent_image=["5", 0],
)
GRAPH = {
    "3": SAMPLER,
    "4": node("CheckpointLoaderSimple", ckpt_name="m.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text="a red fox", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="snow", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="x", images=["8", 0]),
}
TOLD = {
    "prompt": "a red fox",
    "negative_prompt": "snow",
    "sampler": "euler",
    "spacing": "linspace",
    "steps": 20,
    "cfg": 7.0,
    "seed": 7,
    "width": 512,
    "height": 768,
    "rng": "cpu",
    "dialect": "comfy",
}
ALWAYS = {"Model", "Version"}


def change(name: str, kind: str = "", **inputs) -> dict[str, Any]:
    """GRAPH with other inputs of a node, or another node in its place."""
    old = GRAPH.get(name, {"class_type": kind, "inputs": {}})
    return GRAPH | {name: node(kind or old["class_type"], **(old["inputs"] | inputs))}


def read(graph: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    request, unused = to_request(parse_settings(json.dumps(graph)))
    GenerationRequest.of(**request)
    return request, unused


def test_a_graph_that_is_told_whole():
    request, unused = read(GRAPH)
    assert request == TOLD
    assert unused.keys() == ALWAYS


LAYER = node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["4", 1])
COMBINED = node("ConditioningCombine", conditioning_1=["10", 0], conditioning_2=["11", 0])
MORE_TEXTS = {
    "10": node("CLIPTextEncode", text="a red fox", clip=["4", 1]),
    "11": node("CLIPTextEncode", text="in the snow", clip=["4", 1]),
}


@pytest.mark.parametrize(
    ("graph", "changes", "named"),
    [
        # what conditions
        (
            change("7", "ConditioningZeroOut", conditioning=["6", 0]),
            {"negative_prompt": ""},
            {"ConditioningZeroOut"},
        ),
        (GRAPH | MORE_TEXTS | {"6": COMBINED}, {}, {"ConditioningCombine", "CLIPTextEncode"}),
        (
            GRAPH
            | MORE_TEXTS
            | {
                "6": node(
                    "ConditioningConcat", conditioning_to=["10", 0], conditioning_from=["11", 0]
                )
            },
            {},
            {"ConditioningConcat", "CLIPTextEncode"},
        ),
        (
            GRAPH
            | MORE_TEXTS
            | {
                "6": node(
                    "ConditioningAverage",
                    conditioning_to=["10", 0],
                    conditioning_from=["11", 0],
                    conditioning_to_strength=0.5,
                )
            },
            {},
            {"ConditioningAverage", "CLIPTextEncode"},
        ),
        *(
            (
                GRAPH | {"10": MORE_TEXTS["10"], "6": node(kind, conditioning=["10", 0], **inputs)},
                {},
                {kind},
            )
            for kind, inputs in (
                ("ConditioningSetArea", {"width": 64, "height": 64, "x": 0, "y": 0}),
                ("ConditioningSetAreaPercentage", {"width": 0.5, "height": 1.0}),
                ("ConditioningSetAreaStrength", {"strength": 0.5}),
                ("ConditioningSetMask", {"strength": 1.0}),
                ("ConditioningSetTimestepRange", {"start": 0.0, "end": 0.5}),
                ("FluxGuidance", {"guidance": 3.5}),
                ("unCLIPConditioning", {"strength": 1.0}),
                ("ControlNetApply", {"strength": 1.0}),
                ("SomebodysOwnNode", {"amount": 3}),
            )
        ),
        (
            GRAPH
            | {
                "3": node(
                    "KSampler", **SAMPLER["inputs"] | {"positive": ["12", 0], "negative": ["12", 1]}
                ),
                "12": node(
                    "ControlNetApplyAdvanced",
                    positive=["6", 0],
                    negative=["7", 0],
                    strength=1.0,
                    image=["13", 0],
                ),
                "13": node("LoadImage", image="pose.png"),
            },
            {},
            {"ControlNetApplyAdvanced", "LoadImage"},
        ),
        (
            change(
                "6",
                "CLIPTextEncodeSDXL",
                text_g="a red fox",
                text_l="a red fox",
                width=1024,
                height=1024,
            ),
            {},
            {"CLIPTextEncodeSDXL"},
        ),
        # clip skip: of both sides, of one, of none
        (
            GRAPH
            | {
                "50": LAYER,
                "6": node("CLIPTextEncode", text="a red fox", clip=["50", 0]),
                "7": node("CLIPTextEncode", text="snow", clip=["50", 0]),
            },
            {"clip_skip": 2},
            set(),
        ),
        (
            GRAPH | {"50": LAYER, "6": node("CLIPTextEncode", text="a red fox", clip=["50", 0])},
            {},
            {"CLIPSetLastLayer"},
        ),
        (
            GRAPH | {"50": LAYER, "7": node("CLIPTextEncode", text="snow", clip=["50", 0])},
            {},
            {"CLIPSetLastLayer"},
        ),
        # latents
        (change("5", batch_size=4), {}, {"EmptyLatentImage"}),
        (change("5", "EmptySD3LatentImage"), {}, set()),
        (
            GRAPH
            | {
                "3": node("KSampler", **SAMPLER["inputs"] | {"latent_image": ["14", 0]}),
                "14": node("RepeatLatentBatch", samples=["5", 0], amount=3),
            },
            {},
            {"RepeatLatentBatch"},
        ),
        (
            GRAPH
            | {
                "3": node("KSampler", **SAMPLER["inputs"] | {"latent_image": ["14", 0]}),
                "14": node("LatentFromBatch", samples=["5", 0], batch_index=2, length=1),
            },
            {},
            {"LatentFromBatch"},
        ),
        (
            GRAPH
            | {
                "3": node(
                    "KSampler", **SAMPLER["inputs"] | {"latent_image": ["14", 0], "denoise": 0.6}
                ),
                "14": node("VAEEncode", pixels=["15", 0], vae=["4", 2]),
                "15": node("LoadImage", image="a.png"),
            },
            {"width": None, "height": None},
            {"VAEEncode", "LoadImage", "Denoising strength"},
        ),
        # the model
        *(
            (
                GRAPH
                | {
                    "3": node("KSampler", **SAMPLER["inputs"] | {"model": ["16", 0]}),
                    "16": node(kind, model=["4", 0], **inputs),
                },
                {},
                {kind},
            )
            for kind, inputs in (
                ("ModelSamplingDiscrete", {"sampling": "v_prediction", "zsnr": True}),
                ("ModelSamplingSD3", {"shift": 3.0}),
                ("ModelSamplingFlux", {"max_shift": 1.15}),
                ("RescaleCFG", {"multiplier": 0.7}),
                ("FreeU_V2", {"b1": 1.3}),
                ("PerturbedAttentionGuidance", {"scale": 3.0}),
            )
        ),
        (
            GRAPH
            | {
                "3": node("KSampler", **SAMPLER["inputs"] | {"model": ["16", 0]}),
                "16": node("LoraLoader", model=["4", 0], lora_name="x", strength_model=0.8),
            },
            {},
            {"Loras"},
        ),
        (
            GRAPH
            | {
                "8": node("VAEDecode", samples=["3", 0], vae=["17", 0]),
                "17": node("VAELoader", vae_name="v.safetensors"),
            },
            {},
            {"VAELoader"},
        ),
        # between the sampler and the file
        (
            GRAPH
            | {
                "9": node("SaveImage", images=["18", 0]),
                "18": node("ImageUpscaleWithModel", image=["8", 0], upscale_model=["19", 0]),
                "19": node("UpscaleModelLoader", model_name="x4.pth"),
            },
            {},
            {"ImageUpscaleWithModel", "UpscaleModelLoader"},
        ),
        (
            GRAPH | {"8": node("VAEDecodeTiled", samples=["3", 0], vae=["4", 2], tile_size=512)},
            {},
            {"VAEDecodeTiled"},
        ),
        (
            GRAPH
            | {
                "8": node("VAEDecode", samples=["20", 0], vae=["4", 2]),
                "20": node(
                    "KSampler",
                    **SAMPLER["inputs"] | {"latent_image": ["21", 0], "denoise": 0.5, "seed": 99},
                ),
                "21": node("LatentUpscaleBy", samples=["3", 0], scale_by=2.0),
            },
            {},
            {"KSampler", "LatentUpscaleBy"},
        ),
        # a branch that no file comes from has no part in the picture
        (GRAPH | {"22": node("ImageInvert", image=["8", 0])}, {}, set()),
        # values of other nodes
        (
            GRAPH
            | {
                "3": node("KSampler", **SAMPLER["inputs"] | {"seed": ["23", 0]}),
                "23": node("PrimitiveInt", value=2**64 - 1),
            },
            {"seed": 2**64 - 1},
            set(),
        ),
        (
            GRAPH
            | {
                "6": node("CLIPTextEncode", text=["24", 0], clip=["4", 1]),
                "24": node("PrimitiveString", value="a red fox"),
            },
            {},
            set(),
        ),
        (
            GRAPH
            | {
                "6": node("CLIPTextEncode", text=["24", 0], clip=["4", 1]),
                "24": node("RandomWords", text="a red fox"),
            },
            {},
            {"RandomWords"},
        ),
        # what KSamplerAdvanced says besides
        (
            GRAPH
            | {
                "3": node(
                    "KSamplerAdvanced",
                    **{k: v for k, v in SAMPLER["inputs"].items() if k not in ("seed", "denoise")},
                    noise_seed=7,
                    add_noise="enable",
                    start_at_step=0,
                    end_at_step=10000,
                    return_with_leftover_noise="disable",
                )
            },
            {},
            set(),
        ),
        (
            GRAPH
            | {
                "3": node(
                    "KSamplerAdvanced",
                    **{k: v for k, v in SAMPLER["inputs"].items() if k not in ("seed", "denoise")},
                    noise_seed=7,
                    add_noise="enable",
                    start_at_step=3,
                    end_at_step=10,
                )
            },
            {},
            {"start_at_step", "end_at_step"},
        ),
    ],
)
def test_nodes_are_told_or_named(graph, changes, named):
    request, unused = read(graph)
    expected = {k: v for k, v in (TOLD | changes).items() if v is not None}
    assert request == expected
    assert unused.keys() == ALWAYS | named
    assert all("(" in why for why in unused.values())


def custom(sampler: dict, levels: dict, **more) -> dict[str, Any]:
    return (
        GRAPH
        | more
        | {
            "3": node(
                "SamplerCustom",
                add_noise=True,
                noise_seed=7,
                cfg=7.0,
                model=["4", 0],
                positive=["6", 0],
                negative=["7", 0],
                sampler=["16", 0],
                sigmas=["17", 0],
                latent_image=["5", 0],
            ),
            "16": sampler,
            "17": levels,
        }
    )


EULER = node("KSamplerSelect", sampler_name="euler")
NORMAL = node("BasicScheduler", model=["4", 0], scheduler="normal", steps=20, denoise=1.0)


@pytest.mark.parametrize(
    ("graph", "changes", "named"),
    [
        (custom(EULER, NORMAL), {}, set()),
        (
            custom(
                EULER, node("KarrasScheduler", steps=20, sigma_max=14.6, sigma_min=0.03, rho=7.0)
            ),
            {
                "spacing": "karras",
                "spacing_options": {"sigma_max": 14.6, "sigma_min": 0.03, "rho": 7.0},
            },
            set(),
        ),
        (
            custom(EULER, node("ExponentialScheduler", steps=20, sigma_max=14.6, sigma_min=0.03)),
            {"spacing": "exponential", "spacing_options": {"sigma_max": 14.6, "sigma_min": 0.03}},
            set(),
        ),
        (
            custom(
                EULER, node("BetaSamplingScheduler", model=["4", 0], steps=20, alpha=0.5, beta=0.7)
            ),
            {"spacing": "beta", "spacing_options": {"of": "timestep", "alpha": 0.5, "beta": 0.7}},
            set(),
        ),
        (
            custom(EULER, node("SplitSigmas", sigmas=["18", 0], step=10), **{"18": NORMAL}),
            {},
            {"SplitSigmas"},
        ),
        (
            custom(EULER, node("SDTurboScheduler", model=["4", 0], steps=20, denoise=1.0)),
            {},
            {"SDTurboScheduler"},
        ),
        (
            custom(node("SamplerEulerAncestral", eta=0.5, s_noise=1.1), NORMAL),
            {"sampler": "euler_a", "eta": 0.5, "s_noise": 1.1},
            set(),
        ),
        (
            custom(
                node(
                    "SamplerDPMPP_2M_SDE",
                    solver_type="midpoint",
                    eta=1.0,
                    s_noise=1.0,
                    noise_device="gpu",
                ),
                NORMAL,
            ),
            {"sampler": "dpmpp_2m_sde", "eta": 1.0, "s_noise": 1.0},
            set(),
        ),
        (
            custom(node("SamplerDPMPP_2M_SDE", solver_type="heun", eta=1.0, s_noise=1.0), NORMAL),
            {"sampler": "dpmpp_2m_sde", "eta": 1.0, "s_noise": 1.0},
            {"SamplerDPMPP_2M_SDE"},
        ),
    ],
)
def test_samplers_in_parts(graph, changes, named):
    request, unused = read(graph)
    assert request == TOLD | changes
    assert unused.keys() == ALWAYS | named


def test_a_guider_and_its_noise():
    parts = {
        "3": node(
            "SamplerCustomAdvanced",
            noise=["25", 0],
            guider=["22", 0],
            sampler=["16", 0],
            sigmas=["17", 0],
            latent_image=["5", 0],
        ),
        "16": EULER,
        "17": NORMAL,
        "25": node("RandomNoise", noise_seed=7),
    }
    guider = node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=7.0)
    request, unused = read(GRAPH | parts | {"22": guider})
    assert (request, unused.keys()) == (TOLD, ALWAYS)
    guider = node("BasicGuider", model=["4", 0], conditioning=["6", 0])
    request, unused = read(GRAPH | parts | {"22": guider})
    assert (request, unused.keys()) == (TOLD | {"cfg": 1.0, "negative_prompt": ""}, ALWAYS)
    request, unused = read(GRAPH | parts | {"22": guider, "25": node("DisableNoise")})
    assert "seed" not in request
    assert "DisableNoise" in unused


def test_graphs_without_a_known_sampler_are_named():
    with pytest.raises(BadInput, match="without a sampler that is known"):
        parse_settings(json.dumps({"1": node("SomebodysSampler", a=1)}))


# ---- files


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path: Path, *chunks: tuple[bytes, bytes], behind: bool = False) -> Path:
    """A PNG with these parts before its pixels, or behind them."""
    Image.new("RGB", (8, 8)).save(path)
    whole, parts = path.read_bytes(), b"".join(chunk(*part) for part in chunks)
    place = len(whole) - 12 if behind else 33
    path.write_bytes(whole[:place] + parts + whole[place:])
    return path


WORDS = "ein süßes Kätzchen, テスト 🦊"
TEXT = f"{WORDS}\nNegative prompt: Größe\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5"


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"tEXt", b"parameters\0" + TEXT.encode()),
        (b"zTXt", b"parameters\0\0" + zlib.compress(TEXT.encode())),
        (b"iTXt", b"parameters\0\0\0\0\0" + TEXT.encode()),
        (b"iTXt", b"parameters\0\1\0de\0x\0" + zlib.compress(TEXT.encode())),
        (b"tEXt", b"Parameters\0" + TEXT.encode()),
    ],
)
def test_utf_8_in_png_texts(tmp_path, kind, body, behind):
    path = write_png(tmp_path / "a.png", (kind, body), behind=behind)
    assert read_text(path) == TEXT
    assert read_settings(path).prompt == WORDS


@pytest.mark.parametrize("behind", [False, True])
def test_latin_1_in_png_texts(tmp_path, behind):
    text = "café Größe\nSteps: 20, Sampler: Euler, Seed: 5"
    body = b"parameters\0" + text.encode("latin-1")
    for kind, raw in ((b"tEXt", body), (b"zTXt", body[:11] + b"\0" + zlib.compress(body[11:]))):
        assert read_text(write_png(tmp_path / "a.png", (kind, raw), behind=behind)) == text


@pytest.mark.parametrize("megabytes", [2, 3])
def test_long_packed_texts_are_read(tmp_path, megabytes):
    text = "a" * (megabytes << 20) + "\nSteps: 20, Sampler: Euler, Seed: 5"
    packed = zlib.compress(text.encode())
    path = write_png(tmp_path / "a.png", (b"zTXt", b"parameters\0\0" + packed))
    assert to_request(read_settings(path))[0]["seed"] == 5
    long = (b"zTXt", b"workflow\0\0" + zlib.compress(bytes(40 << 20)))
    path = write_png(tmp_path / "b.png", long, (b"tEXt", b"parameters\0" + TEXT.encode()))
    request, unused = to_request(read_settings(path))
    assert request["seed"] == 5
    assert "16 MiB" in unused["workflow"]


SDCPP = (
    "a red fox\nNegative prompt: snow\nSteps: 20, CFG scale: 7.000000, Guidance: 3.500000, "
    "Eta: 0.000000, Seed: 42, Size: 512x512, Model: m.safetensors, RNG: {rng}, "
    "Sampler: {sampler}, Version: stable-diffusion.cpp"
)


def save_jpeg(path: Path, comment: bytes) -> Path:
    Image.new("RGB", (8, 8)).save(path, comment=comment)
    return path


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize(
    ("words", "rng", "sampler", "spacing"),
    [
        ("euler_a karras", "cuda", "euler_a", "karras"),
        ("euler discrete", "cuda", "euler", "linspace"),
        ("euler", "cuda", "euler", "linspace"),
        ("dpm++2m karras", "cpu", "dpmpp_2m", "karras"),
        ("dpm++2s_a discrete", "cpu", "dpmpp_2s_a", "linspace"),
        ("dpm++2mv2 karras", "cuda", None, "karras"),
        ("heun simple", "std_default", "heun", "simple"),
        ("lcm sgm_uniform", "cuda", "lcm", "sgm_uniform"),
        ("ipndm_v ays", "cuda", "ipndm_v", "align_your_steps"),
        ("euler smoothstep", "cuda", "euler", None),
        ("ddim_trailing default", "cuda", "ddim", "trailing"),
    ],
)
def test_stable_diffusion_cpp(tmp_path, kind, words, rng, sampler, spacing):
    text, path = SDCPP.format(rng=rng, sampler=words), tmp_path / f"a.{kind}"
    if kind == "png":
        write_png(path, (b"tEXt", b"parameters\0" + text.encode()))
    elif kind == "jpg":
        save_jpeg(path, b"parameters\0" + text.encode())
    else:
        xmp = f"<rdf:Description><sdcpp:parameters>{escape(text)}</sdcpp:parameters></rdf:…>"
        Image.new("RGB", (8, 8)).save(path, xmp=xmp.encode())
    request, unused = to_request(read_settings(path))
    assert (request["prompt"], request["negative_prompt"]) == ("a red fox", "snow")
    assert (request.get("sampler"), request.get("spacing")) == (sampler, spacing)
    assert request.get("rng") == {"cuda": "nv", "cpu": "cpu"}.get(rng)
    assert (request["seed"], request["steps"], request["cfg"]) == (42, 20, 7.0)
    assert {"Guidance", "Model", "Version"} <= unused.keys()
    assert ("Sampler" in unused, "RNG" in unused) == (sampler is None, rng == "std_default")
    assert "eta" not in request or sampler == "ddim"


SWARM = {
    "sui_image_params": {
        "prompt": "a red fox",
        "negativeprompt": "snow",
        "model": "m",
        "seed": 42,
        "steps": 20,
        "cfgscale": 7.0,
        "width": 512,
        "height": 512,
        "sampler": "euler_ancestral",
        "scheduler": "karras",
        "clipstopatlayer": -2,
        "swarm_version": "0.9.3.1",
    }
}
NOVEL = {
    "prompt": "a red fox",
    "uc": "snow",
    "steps": 28,
    "scale": 5.0,
    "seed": 1234567890,
    "width": 832,
    "height": 1216,
    "sampler": "k_euler_ancestral",
    "noise_schedule": "karras",
    "sm": False,
    "cfg_rescale": 0.0,
}
FOOOCUS = {
    "prompt": "a red fox",
    "negative_prompt": "snow",
    "seed": "42",
    "steps": 30,
    "resolution": "(896, 1152)",
    "guidance_scale": 4.0,
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "base_model": "m",
    "styles": "['Fooocus V2']",
    "sharpness": 2.0,
    "metadata_scheme": "fooocus",
    "version": "Fooocus v2.5.5",
}
INVOKE_2 = {
    "model_weights": "m",
    "app_id": "invoke-ai/InvokeAI",
    "app_version": "2.3.5",
    "image": {
        "prompt": [{"prompt": "a red fox [snow, ice] at night", "weight": 1.0}],
        "steps": 50,
        "cfg_scale": 7.5,
        "threshold": 0,
        "perlin": 0,
        "height": 512,
        "width": 512,
        "seed": 1618033988,
        "seamless": False,
        "sampler": "k_lms",
        "type": "txt2img",
    },
}
DREAM = '"a red fox [snow, ice] at night" -s 50 -S 1618033988 -W 512 -H 512 -C 7.5 -A k_lms'
DRAW = {
    "c": "a red fox",
    "uc": "snow",
    "model": "m",
    "sampler": "DPM++ 2M Karras",
    "scale": 7.5,
    "seed": 42,
    "size": "512x768",
    "steps": 20,
    "strength": 1,
    "seed_mode": "Torch CPU Compatible",
}


def text_chunk(name: str, content: Any) -> tuple[bytes, bytes]:
    text = content if isinstance(content, str) else json.dumps(content)
    return b"tEXt", name.encode() + b"\0" + text.encode()


def is_told(path: Path, expected: dict[str, Any], named: set[str]) -> None:
    request, unused = to_request(read_settings(path))
    assert {key: request.get(key) for key in expected} == expected
    assert named <= unused.keys()
    assert "{" not in request["prompt"]


def test_swarmui(tmp_path):
    expected = {
        "prompt": "a red fox",
        "negative_prompt": "snow",
        "seed": 42,
        "steps": 20,
        "cfg": 7.0,
        "width": 512,
        "height": 512,
        "sampler": "euler_a",
        "spacing": "karras",
        "clip_skip": 2,
        "dialect": "comfy",
        "rng": "cpu",
    }
    is_told(write_png(tmp_path / "a.png", text_chunk("parameters", SWARM)), expected, {"Model"})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=write_exif(json.dumps(SWARM)))
    is_told(tmp_path / "a.jpg", expected, {"Model"})
    assert read_text(tmp_path / "a.png") is None


def test_novelai(tmp_path):
    expected = {
        "prompt": "a red fox",
        "negative_prompt": "snow",
        "seed": 1234567890,
        "steps": 28,
        "cfg": 5.0,
        "width": 832,
        "height": 1216,
        "sampler": "euler_a",
        "spacing": "karras",
    }
    parts = [("Software", "NovelAI"), ("Source", "NovelAI Diffusion V3"), ("Comment", NOVEL)]
    path = write_png(tmp_path / "a.png", *(text_chunk(*part) for part in parts))
    is_told(path, expected, {"Model"})
    weighted = NOVEL | {"prompt": "{{a red fox}}, [snow]", "noise_schedule": "native"}
    path = write_png(
        tmp_path / "b.png",
        *(text_chunk(*part) for part in parts[:2]),
        text_chunk("Comment", weighted),
    )
    request, unused = to_request(read_settings(path))
    assert "Prompt syntax" in unused
    assert request["spacing"] == "linspace"


@pytest.mark.parametrize("name", ["stealth_pngcomp", "stealth_pnginfo", "stealth_rgbcomp"])
@pytest.mark.parametrize("what", ["novelai", "infotext"])
def test_hidden_in_the_pixels(tmp_path, name, what):
    text = json.dumps({"Software": "NovelAI", "Comment": json.dumps(NOVEL)})
    text = text if what == "novelai" else "a red fox\nSteps: 28, Sampler: Euler a, Seed: 1234567890"
    body = gzip.compress(text.encode()) if name.endswith("comp") else text.encode()
    raw = name.encode() + struct.pack(">I", len(body) * 8) + body
    bits = np.unpackbits(np.frombuffer(raw, np.uint8))
    pixels = np.full((96, 128, 4), 254, np.uint8)
    channels = 3 if "rgb" in name else 1
    columns = pixels.transpose(1, 0, 2)[..., :3] if channels == 3 else pixels.T[3]
    flat = np.array(columns).reshape(-1)
    flat[: len(bits)] |= bits
    filled = flat.reshape(columns.shape)
    if channels == 3:
        pixels[..., :3] = filled.transpose(1, 0, 2)
    else:
        pixels[..., 3] = filled.T
    Image.fromarray(pixels[..., :3] if channels == 3 else pixels).save(tmp_path / "a.png")
    expected = {"prompt": "a red fox", "seed": 1234567890, "steps": 28, "sampler": "euler_a"}
    is_told(tmp_path / "a.png", expected, set())


def test_fooocus(tmp_path):
    expected = {
        "prompt": "a red fox",
        "negative_prompt": "snow",
        "seed": 42,
        "steps": 30,
        "cfg": 4.0,
        "width": 896,
        "height": 1152,
        "sampler": "dpmpp_2m_sde",
        "spacing": "karras",
    }
    parts = text_chunk("parameters", FOOOCUS), text_chunk("fooocus_scheme", "fooocus")
    is_told(write_png(tmp_path / "a.png", *parts), expected, {"Model", "styles", "sharpness"})


def test_invokeai_2(tmp_path):
    expected = {
        "prompt": "a red fox at night",
        "negative_prompt": "snow, ice",
        "seed": 1618033988,
        "steps": 50,
        "cfg": 7.5,
        "width": 512,
        "height": 512,
        "sampler": "lms",
        "spacing": "linspace",
        "dialect": "compel",
    }
    path = write_png(tmp_path / "a.png", text_chunk("sd-metadata", INVOKE_2))
    is_told(path, expected, {"Model", "Version"})
    is_told(write_png(tmp_path / "b.png", text_chunk("Dream", DREAM)), expected, {"Version"})


def test_draw_things(tmp_path):
    expected = {
        "prompt": "a red fox",
        "negative_prompt": "snow",
        "seed": 42,
        "steps": 20,
        "cfg": 7.5,
        "width": 512,
        "height": 768,
        "sampler": "dpmpp_2m",
        "spacing": "karras",
        "rng": "cpu",
    }
    inside = f'<rdf:Alt><rdf:li xml:lang="x-default">{escape(json.dumps(DRAW))}</rdf:li></rdf:Alt>'
    xmp = f"<x><exif:UserComment>{inside}</exif:UserComment></x>"
    path = write_png(tmp_path / "a.png", (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp.encode()))
    is_told(path, expected, {"Model"})


def test_easy_diffusion(tmp_path):
    texts = {
        "prompt": "a red fox",
        "negative_prompt": "snow",
        "seed": "42",
        "width": "512",
        "height": "512",
        "num_inference_steps": "25",
        "guidance_scale": "7.5",
        "sampler_name": "euler_a",
        "use_stable_diffusion_model": "m",
    }
    path = write_png(tmp_path / "a.png", *(text_chunk(*item) for item in texts.items()))
    expected = {"prompt": "a red fox", "seed": 42, "steps": 25, "cfg": 7.5, "sampler": "euler_a"}
    is_told(path, expected, {"Model"})


def test_civitai(tmp_path):
    """A graph in a JPEG's comment, beside keys of its own."""
    graph = GRAPH | {"extra": {"airs": []}, "extraMetadata": "{}"}
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=write_exif(json.dumps(graph)))
    is_told(tmp_path / "a.jpg", TOLD, {"Model"})


leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["a", "k_lms", "512x512", "[a", -1, 10**30])
)
NAMES = [*SWARM["sui_image_params"], *NOVEL, *FOOOCUS, *INVOKE_2, *INVOKE_2["image"], *DRAW]
NAMES += ["sui_image_params", "v2", "seedMode", "images", "positive_prompt", "negative_prompt"]
tree = st.recursive(
    leaf,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), tree, max_size=12))
def test_no_json_is_an_error(data):
    """Whatever the values are: a request that can be used, or a BadInput."""
    wholes = [data, {"sui_image_params": data}, DRAW | data, {**DRAW, "v2": data}, FOOOCUS | data]
    wholes += [NOVEL | data, INVOKE_2 | data, INVOKE_2 | {"image": data}, {"image": [data]} | data]
    for whole in wholes:
        try:
            request, _ = to_request(parse_settings(json.dumps(whole)))
        except BadInput:
            continue
        GenerationRequest.of(**request)


@pytest.mark.parametrize(
    ("size", "first", "expected"),
    [
        ("128x128", "0x0", (512, 512)),
        ("1024x1536", "512x768", (512, 768)),
        ("1024x1024", "0x0", (512, 512)),
        ("1024x768", "0x0", (640, 448)),
    ],
)
def test_two_passes_before_2023(size, first, expected):
    """The first pass is drawn at its own size, as A1111 itself reads such a text."""
    text = (
        f"a red fox\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: {size}, "
        f"First pass size: {first}, Denoising strength: 0.7, Model hash: 7460a6fa"
    )
    request, unused = to_request(parse_settings(text))
    assert (request["width"], request["height"]) == expected
    assert unused.keys() == {"Size", "Denoising strength", "Model hash"}


@pytest.mark.parametrize(
    "comment",
    [
        *(b"Created with GIMP", b"", bytes(8), b"CREATOR: gd-jpeg v1.0, quality = 90\n"),
        *(b"OLYMPUS DIGITAL CAMERA", b"a cat: on a mat, and: more, so: on", b"Steps: no"),
        b"LEAD Technologies Inc. V1.01",
    ],
)
def test_comments_of_cameras_and_editors_are_no_prompts(tmp_path, comment):
    paths = [save_jpeg(tmp_path / "a.jpg", comment)]
    for number, code in enumerate((b"ASCII\0\0\0", bytes(8), b"UNICODE\0", b"")):
        raw = comment.decode().encode("utf-16-be") if code == b"UNICODE\0" else comment
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = code + raw
        paths.append(tmp_path / f"{number}.jpg")
        Image.new("RGB", (8, 8)).save(paths[-1], exif=exif)
    paths.append(write_png(tmp_path / "a.png", (b"tEXt", b"Comment\0" + comment)))
    Image.new("P", (8, 8)).save(tmp_path / "a.gif", comment=comment)
    for path in (*paths, tmp_path / "a.gif"):
        assert read_text(path) is None
        with pytest.raises(BadInput, match="says nothing"):
            read_settings(path)


@pytest.mark.parametrize(
    "content",
    ['{"a": 1}', '{"prompt": 1}', '{"prompt": "x"}', "{", '{"nodes": [], "links": []}', "{}"],
)
def test_json_is_never_a_prompt(tmp_path, content):
    for name in ("parameters", "prompt", "Comment", "workflow", "generation_data", "sd-metadata"):
        with pytest.raises(BadInput, match="says nothing"):
            read_settings(write_png(tmp_path / "a.png", text_chunk(name, content)))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=write_exif(content))
    with pytest.raises(BadInput, match="says nothing"):
        read_settings(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "text",
    [
        "Postprocess upscale by: 4, Postprocess upscaler: R-ESRGAN 4x+, Postprocess crop: False",
        "Postprocess upscale by: 2, Postprocess upscaler: Lanczos, Version: fromnoise 1",
        "a cat\nSteps: 20, Sampler: Euler a, Version: v1.9",
        "a cat\nSeed: 3, CFG scale: 7, Model: x",
    ],
)
def test_comments_with_settings(tmp_path, text):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=write_exif(text))
    assert read_text(tmp_path / "a.jpg") == text


def test_a_broken_profile_leaves_the_text(tmp_path):
    """EXIF that is no EXIF is skipped, and said so."""
    for junk in (b"\0\x08\0\2\1\x12\0\3", b"b'Exif\\x00\\x00MM", b"", b"II*\0\xff\xff\xff\xff"):
        path = write_png(tmp_path / "a.png", (b"eXIf", junk), text_chunk("parameters", TEXT))
        request, unused = to_request(read_settings(path))
        assert request["seed"] == 5
        assert "EXIF" in unused
        with pytest.raises(BadInput, match="EXIF"):
            read_settings(write_png(tmp_path / "b.png", (b"eXIf", junk)))


def test_pillows_own_limits_stay_as_they_are(tmp_path):
    before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, Image.MAX_IMAGE_PIXELS
    packed = zlib.compress(b"a" * (3 << 20) + b"\nSteps: 1, Sampler: Euler, Seed: 5")
    read_settings(write_png(tmp_path / "a.png", (b"zTXt", b"parameters\0\0" + packed)))
    after = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, Image.MAX_IMAGE_PIXELS
    assert after == before


@pytest.mark.parametrize("prompt", ["{red|blue} fox", "{{masterpiece}}, fox", '{"a": 1}', " {"])
def test_prompts_that_begin_as_json_does(prompt):
    """Dynamic Prompts and NovelAI write braces; the line of settings tells them from JSON."""
    text = f"{prompt}\nNegative prompt: {{low}}\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 3"
    info = parse_settings(text)
    assert (info.prompt, info.negative_prompt) == (prompt.strip(), "{low}")
    assert info.fields["Seed"] == "3"
    assert read(GRAPH | {"3": GRAPH["3"]})[0]["seed"] == 7  # a graph stays a graph
