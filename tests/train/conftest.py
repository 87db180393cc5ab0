"""A recipe so small that every stage trains in seconds."""

import shutil
import textwrap
from pathlib import Path

import pytest
import torch

from fromnoise.train.recipe import Recipe, read_recipe
from fromnoise.train.run import run_stage

TINY = """
name = "tiny"
seed = 3
default_scale = "whole"
[source]
name = "stickers"
size = 32
[tokenizer]
captions = 300
vocab_size = 700
max_length = 32
[clip]
projection_dim = 16
batch = 8
check = 256
lr = 1e-3
text = { dim = 16, layers = 1, heads = 2, mlp_dim = 32 }
vision = { dim = 16, layers = 1, heads = 2, mlp_dim = 32, patch_size = 16 }
[image_tower]
hard = 2
batch = 8
check = 256
lr = 1e-3
[vae]
batch = 2
check = 32
lr = 1e-3
kl = 1e-4
perceptual = 0.1
critic = 0.01
crop = 16
network = { latent_channels = 4, block_out_channels = [8, 8], layers_per_block = 1, norm_groups = 2, mid_attention = false, quant_conv = false }
[decoder]
batch = 2
check = 32
lr = 1e-3
[unet]
batch = 4
lr = 1e-3
cached = 20
prediction = "v"
weighting = "truncated"
schedule = { kind = "scaled_linear", beta_start = 0.00085, beta_end = 0.02 }
network = { block_out_channels = [8, 16], layers_per_block = 1, attention = [false, true], heads = [2, 2], norm_groups = 4 }
[assemble]
sampler = "euler"
spacing = "trailing"
steps = 2
cfg = 2.0
[scale.whole]
clip = { pictures = 32 }
image_tower = { pictures = 16 }
vae = { pictures = 16 }
decoder = { pictures = 8 }
unet = { pictures = 24 }
[scale.half]
image_tower = { pictures = 8 }
decoder = { pictures = 4 }
clip = { pictures = 16 }
vae = { pictures = 8 }
unet = { pictures = 12 }
"""  # noqa: E501 (TOML tables stand on one line)


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(textwrap.dedent(TINY))
    return path


@pytest.fixture(autouse=True)
def one_thread_and_small_previews(monkeypatch):
    """Small networks: a second thread only waits. Two pictures are preview enough."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("fromnoise.train.stages.unet.PREVIEWS", 2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe(recipe_file, tmp_path) -> Recipe:
    return read_recipe(recipe_file, runs=tmp_path / "runs")


@pytest.fixture(scope="session")
def finished_runs(recipe_file, tmp_path_factory) -> Path:
    """A folder in which tokenizer, clip and vae are finished; made once."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    plan = read_recipe(recipe_file, runs=runs)
    for name in ("tokenizer", "clip", "vae"):
        run_stage(plan, name)
    return runs


@pytest.fixture
def begun(recipe, finished_runs) -> Recipe:
    """A recipe whose first three stages are finished, in a folder of its own."""
    for name in ("tokenizer", "clip", "vae"):
        shutil.copytree(finished_runs / name, recipe.runs / name)
    return recipe
