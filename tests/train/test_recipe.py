"""Recipes: every field is known, of its type and in its range, else the error names the place."""

from pathlib import Path

import pytest

from fromnoise.errors import BadInput, NotFound, UnknownName
from fromnoise.train.recipe import read_recipe

HEAD = 'name = "r"\n[source]\nname = "stickers"\nsize = 32\n'


def refuse(tmp_path: Path, text: str, **options) -> BadInput:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_recipe(tmp_path / "r.toml", **options)
    return caught.value


@pytest.mark.parametrize(
    ("table", "line", "field", "nearest"),
    [
        ("unet", "warmpu = 100", "warmpu", "warmup"),
        ("unet", "learning_rate = 1e-3", "learning_rate", "lr"),
        ("clip", "batch_size = 3", "batch_size", "batch"),
        ("vae", "critc = 0.1", "critc", "critic"),
        ("tokenizer", "vocabsize = 900", "vocabsize", "vocab_size"),
        ("classifier", "widths = [8]", "widths", "workers"),
        ("assemble", "samplr = 'euler'", "samplr", "sampler"),
        ("unet.network", "head = [4, 4]", "head", "heads"),
        ("clip.text", "layer = 4", "layer", "layers"),
        ("clip.vision", "patchsize = 4", "patchsize", "patch_size"),
        ("scale.hours.unet", "picturs = 4", "picturs", "pictures"),
        ("scale.hours.uent", "pictures = 4", "uent", "unet"),
        ("unett", "lr = 1", "unett", "unet"),
    ],
)
def test_an_unknown_field_names_file_line_table_and_the_nearest(
    tmp_path, table, line, field, nearest
):
    error = refuse(tmp_path, f"{HEAD}[{table}]\n# a remark\n{line}\n")
    place = 5 if field in table else 7
    assert f"r.toml:{place}: " in error.message
    assert repr(field) in error.message
    parent = table.removesuffix(field).rstrip(".") if field in table else table
    assert f"[{parent}]" in error.message or not parent
    assert f"did you mean {nearest!r}?" in error.remedy or field == "widths"


def test_a_field_in_an_inline_table_has_its_line(tmp_path):
    text = f"{HEAD}[unet]\nlr = 1e-3\nnetwork = {{ heads = [4], chanels = 3 }}\n"
    error = refuse(tmp_path, text)
    assert "r.toml:7: [unet.network] has an unknown field 'chanels'" in error.message
    error = refuse(tmp_path, f"{HEAD}[scale.hours]\nclip = {{ picturs = 3 }}\n")
    assert "r.toml:6: [scale.hours.clip] has an unknown field 'picturs'" in error.message


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("unet", 'lr = "1e-3"'),
        ("unet", "lr = -1.0"),
        ("unet", "lr = nan"),
        ("unet", "lr = inf"),
        ("unet", "lr = true"),
        ("unet", "batch = 0"),
        ("unet", "batch = 2.5"),
        ("unet", "batch = [2]"),
        ("unet", "pictures = -5"),
        ("unet", "ema = 1.0"),
        ("unet", "betas = [0.9]"),
        ("unet", "betas = [0.9, 1.5]"),
        ("unet", 'optimizer = "lion"'),
        ("unet", 'precision = "fp8"'),
        ("unet", "caption_drop = 1.5"),
        ("unet", "focus = [1, 2]"),
        ("unet", "network = 3"),
        ("unet", "workers = -1"),
        ("vae", "decay = 2"),
        ("vae", "crop = 0"),
        ("tokenizer", "vocab_size = 10"),
        ("classifier", "network = { widths = [8, -8] }"),
        ("classifier", 'network = { stem = "8" }'),
        ("vae", "network = { latent_channels = 4.5 }"),
        ("vae", "network = { layers_per_block = 10_000_000 }"),
        ("scale.gpu.unet", "batch = 0"),
        ("scale.gpu", "unet = 3"),
        ("assemble", "steps = 0"),
    ],
)
def test_wrong_types_and_ranges_are_errors_with_their_line(tmp_path, table, line):
    error = refuse(tmp_path, f"{HEAD}[{table}]\n{line}\n")
    assert "r.toml:6: " in error.message
    assert line.split(" ")[0] in error.message


@pytest.mark.parametrize(
    "text",
    [
        "seed = -1\n" + HEAD,
        "seed = 1.5\n" + HEAD,
        f"seed = {2**70}\n" + HEAD,
        HEAD.replace('"r"', '"../r"'),
        HEAD.replace('"r"', '".."'),
        HEAD.replace('"r"', '""'),
        "sede = 3\n" + HEAD,
        "scale = 3\n" + HEAD,
        "unet = 3\n" + HEAD,
        HEAD + "[unet\n",
        HEAD + "lr = [" + "[" * 20_000,
        "[source]\nname = 3\n",
        "a = [",
    ],
)
def test_other_faults_are_errors_too(tmp_path, text):
    refuse(tmp_path, text)


def test_files_that_are_no_recipes(tmp_path):
    (tmp_path / "latin.toml").write_bytes('name = "r"\n# caf\xe9\n'.encode("latin-1"))
    with pytest.raises(BadInput, match=r"latin\.toml:2 is not UTF-8"):
        read_recipe(tmp_path / "latin.toml")
    with pytest.raises(NotFound, match="no recipe at"):
        read_recipe(tmp_path)
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode())
    assert read_recipe(tmp_path / "bom.toml").name == "r"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("sise = 32", "'sise'"),
        ("size = 'big'", "size"),
        ("size = 32.0", "size"),
        ("size = 7", "32"),
    ],
)
def test_options_of_the_source_are_checked_when_it_opens(tmp_path, options, match):
    (tmp_path / "r.toml").write_text(f'[source]\nname = "stickers"\n{options}\n')
    with pytest.raises(BadInput, match=match):
        read_recipe(tmp_path / "r.toml").open_source()
    (tmp_path / "r.toml").write_text('[source]\nname = "sticker"\n')
    with pytest.raises(UnknownName, match="stickers"):
        read_recipe(tmp_path / "r.toml").open_source()


def test_the_shipped_recipe_is_valid_in_every_scale():
    path = Path(__file__).parents[2] / "recipes" / "stickers.toml"
    for scale in ("minutes", "hours", "gpu"):
        assert "unet" in read_recipe(path, scale).stages
