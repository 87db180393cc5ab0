"""The command line as a user meets it: whole processes, what they print, and what they import."""

import io
import json
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from PIL import Image

from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.cli import main as command
from fromnoise.pipeline.provenance.read import read_text

ROOT = Path(__file__).parents[2] / "src"
# runs the command line, then says which modules it executed
PROBE = """
import sys
sys.path.insert(0, {root!r})
from fromnoise.cli.main import main
try:
    main()
except SystemExit as end:
    code = end.code
ours = [m for name, m in sys.modules.items() if name.startswith("fromnoise")]
own = [m.__file__ for m in ours if getattr(m, "__file__", None)]
names = sorted(m for m in sys.modules if "." not in m)
print("PROBE", code, *names, "|", *own, sep="\\n", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    diffusers_folder_save.save(fakes.model(folder / "w", steps=3, cfg=3.0), folder / "tiny")
    return str(folder / "tiny")


def find_size(path):
    with Image.open(path) as picture:
        return picture.size


def probe(*args, cwd=None):
    """(exit code, stdout, stderr, top-level modules, own files) of `fromnoise ARGS` in a fresh
    process."""
    code = PROBE.format(root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=cwd, timeout=120
    )
    said, _, tail = done.stderr.partition("PROBE\n")
    names, _, own = tail.partition("\n|\n")
    exit_code, *modules = names.split("\n")
    return int(exit_code), done.stdout, said, set(modules), own.split()


def run(monkeypatch, capsys, *args):
    """(exit code, stdout, stderr) of the same in this process, where torch is loaded already."""
    monkeypatch.setattr(sys, "argv", ["fromnoise", *args])
    with pytest.raises(SystemExit) as end:
        command.main()
    return end.value.code or 0, *capsys.readouterr()


@pytest.mark.parametrize(
    "args", [("--help",), ("samplers",), ("--version",), ("generate", "--help")]
)
def test_help_and_lists_load_no_torch(args):
    code, out, _, modules, _ = probe(*args)
    assert code == 0
    assert out
    assert not modules & {
        "torch",
        "numpy",
        "huggingface_hub",
        "PIL",
        "safetensors",
        "tokenizers",
        "accelerate",
    }


def test_generate_executes_few_lines_and_few_libraries(model, tmp_path):
    code, out, said, modules, own = probe(
        "generate", "a neon cat in space", "--model", model, cwd=tmp_path
    )
    assert code == 0, said
    assert Path(tmp_path / out.strip()).is_file()
    lines = sum(len(Path(file).read_text(encoding="utf-8").splitlines()) for file in own)
    filled = [
        file for file in own if Path(file).stat().st_size
    ]  # an empty __init__.py says nothing to read
    assert len(filled) <= 40, filled
    assert lines <= 4000
    assert not modules & {
        "huggingface_hub",
        "accelerate",
        "diffusers",
        "transformers",
        "matplotlib",
        "sympy",
    }


def test_generate_writes_png_files_and_json(model, tmp_path, monkeypatch, capsys):
    args = [
        "a neon cat",
        "--model",
        model,
        "--seed",
        "3",
        "--count",
        "2",
        "--out",
        str(tmp_path / "x.png"),
        "--json",
    ]
    code, out, said = run(
        monkeypatch, capsys, "generate", *args, "--negative", "dog", "--size", "48x32"
    )
    assert (code, said) == (0, "")
    report = json.loads(out)
    assert [p["seed"] for p in report["pictures"]] == [3, 4]
    assert report["request"]["sampler"] == "dpmpp_2m"
    for picture in report["pictures"]:
        with Image.open(picture["path"]) as image:
            assert image.size == (48, 32)
            assert f"Seed: {picture['seed']}" in image.info["parameters"]
            assert "Model: tiny" in image.info["parameters"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--sampler", "eulr"], 2, "did you mean 'euler'"),
        (["--size", "33"], 2, "multiple of 8"),
        (["--size", "wide"], 2, "192x128"),
        (["--steps", "0"], 2, "steps"),
        (["--steps", "many"], 2, "--steps"),
        (["--device", "abacus"], 2, "cpu"),
        (["--dtype", "fp12"], 2, "bf16"),
        (["--out", "x.gif"], 2, ".png"),
        (["--format", "tiff"], 2, ".webp"),
        (["--out", "x.png", "--format", "webp"], 2, "leave out --format"),
        (["--quality", "80"], 2, "keeps every pixel"),
        (["--format", "jpeg", "--quality", "lossless"], 2, "no JPEG file is lossless"),
        (["--format", "webp", "--quality", "101"], 2, "1 to 100"),
        (["--format", "jpeg", "--negative", "🦊" * 16_000], 2, "write .webp or .png"),
        # a byte that is no UTF-8
        (["--negative", "caf\udce9"], 2, "cannot use negative_prompt = 'caf\\udce9'"),
        (["--model", "nowhere"], 1, "nowhere does not exist"),
    ],
)
def test_errors_say_the_remedy_and_set_the_exit_code(model, monkeypatch, capsys, args, code, said):
    chosen = [] if "--model" in args else ["--model", model]
    found, out, error = run(monkeypatch, capsys, "generate", "a cat", *(chosen), *args)
    assert found == code
    assert said in error
    assert "Traceback" not in error
    assert not out


def test_other_formats(model, monkeypatch, capsys, tmp_path):
    """By the file's name, or in a folder; what loses nothing is replayed to the bit."""
    args = ["generate", "a cat 日出 🦊", "--model", model, "--seed", "3", "--out"]
    for more, kind, suffix in (
        (["x.jpeg"], "JPEG", ".jpeg"),
        (["x.webp", "--quality", "30"], "WEBP", ".webp"),
        ([".", "--format", "jpeg", "--quality", "100"], "JPEG", ".jpg"),
        ([".", "--format", "webp", "--quality", "lossless", "--count", "2"], "WEBP", ".webp"),
    ):
        out = str(tmp_path / more[0])
        code, said, _ = run(monkeypatch, capsys, *args, out, *more[1:])
        assert code == 0
        for path in said.splitlines():
            assert path.endswith(suffix)
            with Image.open(path) as picture:
                assert picture.format == kind
            _, found, _ = run(monkeypatch, capsys, "settings", path)
            assert json.loads(found)["prompt"] == "a cat 日出 🦊"
            code, found, _ = run(monkeypatch, capsys, "replay", path, "--model", model)
            exact = "lossless" in more
            assert (code, found == "identical\n") == (not exact, exact)
            assert exact or "only where they are lossless" in found


def test_long_prompts_are_told(model, monkeypatch, capsys, tmp_path):
    args = ["neon cat " * 10, "--model", model, "--seed", "1", "--out", str(tmp_path)]
    code, out, said = run(monkeypatch, capsys, "generate", *args)
    assert code == 0
    assert "note: the prompt has 20 tokens, read in " in said
    assert Path(out.strip()).parent == tmp_path


def test_preview_draws_half_blocks(model):
    import io

    import torch
    from rich.console import Console

    from fromnoise.cli.preview import Preview, draw_half_blocks
    from fromnoise.pipeline.generate import Step
    from fromnoise.pipeline.likeness import preview_pixels

    screen = io.StringIO()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with Preview(
        preview_pixels, Console(file=screen, force_terminal=True, color_system="truecolor")
    ) as show:
        show(Step(0, 3, 1.5, latents, latents))
    assert "▀" in screen.getvalue()
    assert "1/3" in screen.getvalue()
    fitted = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert preview_pixels(torch.ones(4, 2, 2), fitted).unique().tolist() == [255]
    assert (
        draw_half_blocks(torch.zeros(5, 4, 3, dtype=torch.uint8)).plain == "▀▀▀▀\n" * 3
    )  # an odd last line is doubled


def test_settings_of_a_picture_and_of_a_text(model, monkeypatch, capsys, tmp_path):
    path = str(tmp_path / "x.png")
    assert (
        run(
            monkeypatch, capsys, "generate", "a cat", "--model", model, "--seed", "3", "--out", path
        )[0]
        == 0
    )
    code, out, _ = run(monkeypatch, capsys, "settings", path)
    found = json.loads(out)
    assert code == 0
    assert (found["prompt"], found["seed"], found["steps"], found["sampler"]) == (
        "a cat",
        3,
        3,
        "dpmpp_2m",
    )
    assert {"Model", "Plan", "Version"} <= found["unused"].keys()
    monkeypatch.setattr(
        sys,
        "stdin",
        io.StringIO("a dog\nNegative prompt: a cat\nSteps: 9, Sampler: Euler a, Seed: 5"),
    )
    _, out, _ = run(monkeypatch, capsys, "settings", "-")
    found = json.loads(out)
    assert (found["prompt"], found["negative_prompt"], found["steps"]) == ("a dog", "a cat", 9)
    code, _, said = run(monkeypatch, capsys, "settings", str(tmp_path / "none.png"))
    assert (code, "there is no file" in said) == (1, True)


def test_settings_need_no_torch(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, _, said, modules, _ = probe("settings", str(tmp_path / "a.png"))
    assert code == 2
    assert "says nothing of how it was made" in said
    assert "torch" not in modules


def test_replay_says_whether_it_is_the_same(model, monkeypatch, capsys, tmp_path):
    path = str(tmp_path / "x.png")
    run(
        monkeypatch,
        capsys,
        "generate",
        "a (cat:1.2)",
        "--model",
        model,
        "--seed",
        "3",
        "--out",
        path,
    )
    code, out, _ = run(monkeypatch, capsys, "replay", path, "--model", model)
    assert (code, out) == (0, "identical\n")
    code, out, _ = run(
        monkeypatch, capsys, "replay", path, "--model", model, "--dtype", "bf16", "--json"
    )
    found = json.loads(out)
    assert code == 1
    assert found["verdict"] != "identical"
    assert found["reasons"] == ["Plan: exact-cpu-fp32, now exact-cpu-bf16"]


def test_masks_by_name_are_given_as_files(model, monkeypatch, capsys, tmp_path):
    mask, path = tmp_path / "1.png", str(tmp_path / "x.png")
    picture = Image.new("L", (32, 32))
    picture.paste(255, (0, 0, 16, 32))
    picture.save(mask)
    args = ["a cat IMASK(left) AND a dog", "--model", model, "--seed", "3", "--out", path]
    code, out, said = run(
        monkeypatch, capsys, "generate", *args, "--mask-file", f"left={mask}", "--json"
    )
    assert (code, said) == (0, "")
    assert json.loads(out)["request"]["masks"] == {"left": str(mask)}
    again = ["replay", path, "--model", model]
    assert run(monkeypatch, capsys, *again, "--mask-file", f"left={mask}") == (0, "identical\n", "")
    code, _, said = run(monkeypatch, capsys, *again)
    assert (code, "--mask-file left=" in said) == (2, True)
    code, _, said = run(monkeypatch, capsys, "generate", *args)
    assert (code, "--mask-file left=FILE" in said) == (2, True)
    code, _, said = run(monkeypatch, capsys, "generate", *args, "--mask-file", "left")
    assert (code, "left=left.png" in said) == (2, True)


def test_hires_and_upscale_are_replayed(model, monkeypatch, capsys, tmp_path):
    import torch
    from safetensors.torch import save_file

    from fromnoise.models.rrdb import RRDBNet

    network = str(tmp_path / "2x.safetensors")
    save_file(RRDBNet(4, 1, 4, 1).state_dict(), network)
    torch.save({}, tmp_path / "2x.pth")
    args = [
        "a cat",
        "--model",
        model,
        "--seed",
        "3",
        "--count",
        "2",
        "--out",
        str(tmp_path / "a.png"),
        "--json",
    ]
    code, out, said = run(
        monkeypatch, capsys, "hires", *args, "--hires-scale", "1.4", "--hires-upscaler", network
    )
    assert code == 0
    assert "note: the second pass draws 40x40" in said
    report = json.loads(out)
    assert [p["seed"] for p in report["pictures"]] == [3, 4]
    path = report["pictures"][1]["path"]
    assert find_size(path) == (40, 40)
    code, out, said = run(
        monkeypatch, capsys, "replay", path, "--model", model, "--upscaler", network
    )
    assert (code, out) == (0, "identical\n")
    code, _, said = run(monkeypatch, capsys, "replay", path, "--model", model)
    assert (code, "give its file with --upscaler" in said) == (2, True)
    code, out, said = run(monkeypatch, capsys, "upscale", path, "--size", "90x100")
    assert (code, said) == (0, "")
    assert Path(out.strip()) == tmp_path / "a-4-90x100.png"
    code, out, _ = run(
        monkeypatch, capsys, "replay", out.strip(), "--model", model, "--upscaler", network
    )
    assert (code, out) == (0, "identical\n")
    for kind in ("jpg", "webp"):
        code, out, _ = run(
            monkeypatch, capsys, "upscale", path, "--out", str(tmp_path / f"large.{kind}")
        )
        assert (code, read_text(out.strip()) is not None) == (0, True)  # the settings went along
    Image.new("RGB", (30, 20)).save(tmp_path / "bare.png")
    code, out, said = run(
        monkeypatch, capsys, "upscale", str(tmp_path / "bare.png"), "--upscaler", network
    )
    assert (code, "says nothing" in said) == (0, True)
    assert find_size(out.strip()) == (60, 40)
    for bad, number, remedy in (
        (["--upscaler", "latent"], 2, "choose one of: nearest"),
        (["--scale", "0"], 2, "scale"),
        (["--upscaler", str(tmp_path / "2x.pth")], 1, "there are no tensors in it"),
        (["--size", "x"], 2, "192x"),
        (["--scale", "2", "--size", "9"], 2, "leave one"),
        (["--out", "a.bmp"], 2, ".png"),
        (["--size", "99999"], 2, "ask for"),
    ):
        code, _, said = run(monkeypatch, capsys, "upscale", str(tmp_path / "bare.png"), *bad)
        assert (code, remedy in said) == (number, True), said


def test_edit_redraws_a_picture_and_replays_it(model, monkeypatch, capsys, tmp_path):
    Image.new("RGB", (40, 24), "red").save(tmp_path / "in.png")
    mask = Image.new("L", (40, 24))
    mask.paste(255, (8, 8, 24, 24))
    mask.save(tmp_path / "mask.png")
    sources = [str(tmp_path / "in.png"), "--mask", str(tmp_path / "mask.png")]
    args = [
        sources[0],
        "a cat",
        *sources[1:],
        "--model",
        model,
        "--mask-blur",
        "0",
        "--strength",
        "0.9",
    ]
    args += ["--seed", "5"]
    code, out, said = run(
        monkeypatch, capsys, "edit", *args, "--count", "2", "--out", str(tmp_path), "--json"
    )
    assert (code, said) == (0, "")
    for made in json.loads(out)["pictures"]:
        with Image.open(made["path"]) as picture:
            assert picture.size == (40, 24)
            assert picture.getpixel((0, 0)) == (255, 0, 0)
            assert len(picture.crop((8, 8, 24, 24)).getcolors()) > 99  # it was drawn
            assert "Denoising strength: 0.9, Mask blur: 0, " in picture.info["parameters"]
        again = ["replay", made["path"], "--model", model, "--image", sources[0], *sources[1:]]
        assert run(monkeypatch, capsys, *again) == (0, "identical\n", "")
    code, _, said = run(monkeypatch, capsys, "edit", sources[0], "a cat", "--strength", "2")
    assert (code, "strength" in said) == (2, True)
    code, _, said = run(monkeypatch, capsys, "edit", str(tmp_path / "none.png"), "a cat")
    assert (code, "there is no file" in said) == (1, True)


def test_describe_and_similarity(model, monkeypatch, capsys, tmp_path):
    picture, phrases = str(tmp_path / "a.png"), tmp_path / "phrases.txt"
    Image.new("RGB", (40, 24), "red").save(picture)
    phrases.write_text("a cat\n\n space \na cat\n")
    code, out, _ = run(
        monkeypatch,
        capsys,
        "describe",
        picture,
        "--model",
        model,
        "--phrases",
        str(phrases),
        "--json",
    )
    assert code == 0
    assert {row["caption"] for row in json.loads(out)} == {"a cat", "space"}
    args = ["--model", model, "--phrases", str(phrases), "--top", "1"]
    assert run(monkeypatch, capsys, "describe", picture, *args)[1].count("\n") == 1
    code, out, _ = run(monkeypatch, capsys, "similarity", picture, picture, "--model", model)
    assert (code, out) == (0, "1.000\n")
    code, out, _ = run(
        monkeypatch, capsys, "similarity", picture, "a cat", "space", "--model", model, "--json"
    )
    found = json.loads(out)
    assert found["kinds"] == ["picture", "words", "words"]
    assert [row[i] for i, row in enumerate(found["cosines"])] == pytest.approx([1, 1, 1], abs=1e-5)
    monkeypatch.chdir(tmp_path)
    _, out, _ = run(
        monkeypatch, capsys, "similarity", "a.png", "a cat", "--text", "--model", model, "--json"
    )
    assert json.loads(out)["kinds"] == ["words", "words"]
    phrases.write_text("\n")
    for wrong, exit_code in (("phrases.txt", 2), ("none.txt", 1), (picture, 2)):
        code, _, said = run(
            monkeypatch, capsys, "describe", picture, "--model", model, "--phrases", wrong
        )
        assert (code, "Traceback" in said) == (exit_code, False)
    assert run(monkeypatch, capsys, "similarity", picture, "--model", model)[0] == 2


def test_blend_draws_and_replays(model, monkeypatch, capsys, tmp_path):
    first, second, out = (str(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    Image.new("RGB", (40, 24), "red").save(first)
    Image.new("RGB", (32, 32), "blue").save(second)
    args = ["--prompt", "a cat", "--clip-scale", "2", "--seed", "3", "--model", model, "--out", out]
    code, path, said = run(monkeypatch, capsys, "blend", first, second, *args)
    assert (code, path) == (0, f"{out}\n"), said
    again = ["replay", out, "--model", model, "--image", first]
    assert run(monkeypatch, capsys, *again, "--image2", second)[:2] == (0, "identical\n")
    code, _, said = run(monkeypatch, capsys, *again)
    assert (code, "--image2" in said) == (2, True)


def test_another_vae_draws_and_is_recorded(model, monkeypatch, capsys, tmp_path):
    """--vae takes a folder or a file: the model's own gives the same picture, another its own."""
    from hashlib import sha256

    from PIL import Image
    from safetensors.torch import save_file

    from fromnoise.models.tiny_vae import TinyVAE, TinyVAEConfig

    weights = Path(model) / "vae" / "diffusion_pytorch_model.safetensors"
    config = json.loads((weights.parent / "config.json").read_text())
    levels = len(config["block_out_channels"])
    tiny = TinyVAEConfig(config["latent_channels"], *[(8,) * levels] * 2, *[(1,) * levels] * 2)
    save_file(TinyVAE(tiny).state_dict(), tmp_path / "tiny.safetensors")
    pictures = {}
    for name, vae in {
        "own": None,
        "folder": weights.parent,
        "file": weights,
        "tiny": "tiny.safetensors",
    }.items():
        chosen = [] if vae is None else ["--vae", str(tmp_path / vae)]
        out = str(tmp_path / f"{name}.png")
        code, _, said = run(
            monkeypatch,
            capsys,
            "generate",
            "a cat",
            "--model",
            model,
            "--seed",
            "1",
            "--steps",
            "2",
            "--out",
            out,
            *chosen,
        )
        assert code == 0, said
        pictures[name] = Image.open(out)
    assert pictures["own"].tobytes() == pictures["folder"].tobytes() == pictures["file"].tobytes()
    assert pictures["own"].tobytes() != pictures["tiny"].tobytes()
    assert "VAE: tiny.safetensors" in pictures["tiny"].info["parameters"]
    assert "VAE: " not in pictures["own"].info["parameters"]
    digest = sha256((tmp_path / "tiny.safetensors").read_bytes()).hexdigest()[:10]
    assert f"VAE hash: {digest}" in pictures["tiny"].info["parameters"]
