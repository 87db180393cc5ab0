"""Building a stage's network from its recipe, and reading what an earlier stage left."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fromnoise.checkpoints.configs import read_tokenizer
from fromnoise.checkpoints.tensors import TensorFile
from fromnoise.checkpoints.training_state import write_tensors
from fromnoise.errors import BadCheckpoint, BadInput, FromnoiseError, NotFound, UnknownName, escape
from fromnoise.models.clip import CLIPText
from fromnoise.models.clip_vision import CLIPVision, CLIPVisionConfig
from fromnoise.models.config import CLIPTextConfig, UNetConfig, VAEConfig
from fromnoise.models.resnet import CLIPResNet, CLIPResNetConfig
from fromnoise.models.unet import UNet
from fromnoise.models.vae import VAE
from fromnoise.prompt.tokenizer import Tokenizer
from fromnoise.train.recipe import Recipe, Stage
from fromnoise.train.results import DONE, REMEDY, read_done

ImageTower = CLIPVision | CLIPResNet
IMAGE_TOWERS = {"vit": (CLIPVision, CLIPVisionConfig), "resnet": (CLIPResNet, CLIPResNetConfig)}


def build_config(kind: type, values: dict[str, Any], **more: Any) -> Any:
    """A config dataclass from a TOML table; lists become tuples. Raises BadInput."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in {**values, **more}.items()}
    try:
        return kind(**fields)
    except TypeError as error:
        raise BadInput(
            f"{kind.__name__}: {error}", f"its fields are {', '.join(kind.__dataclass_fields__)}"
        ) from error


def require_stage(recipe: Recipe, name: str) -> Stage:
    """A stage that must be finished. Raises NotFound when it is not."""
    stage = recipe.stage(name)
    if not stage.done:
        raise NotFound(
            f"stage {name!r} is not finished: no {stage.folder / DONE}",
            f"train it first: --stage {name}",
        )
    return stage


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a stage's file. Raises BadCheckpoint when it is missing or damaged."""
    stage = path.parent.name
    try:
        return TensorFile(path).read()
    except FromnoiseError as error:
        raise BadCheckpoint(
            f"{path} cannot be read: {error.message}",
            f"--stage {stage} --again writes it once more, --stage {stage} --fresh begins anew",
        ) from None


def fill_network(network: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Gives a network its weights. Raises BadCheckpoint when they are another network's."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        faults = str(error).split("\n", 1)[-1].strip()
        raise BadCheckpoint(
            f"{path} is of another network than the recipe's: {escape(faults, 400)}",
            f"give the recipe the network of {path.parent}, or train that stage again with --fresh",
        ) from None


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes a network's weights, whole or not at all."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    write_tensors(path, tensors, None, REMEDY)


def load_tokenizer(recipe: Recipe) -> Tokenizer:
    return read_tokenizer(require_stage(recipe, "tokenizer").folder)


def build_clip(recipe: Recipe, words: Tokenizer) -> tuple[CLIPText, ImageTower]:
    stage = recipe.stage("clip")
    size = recipe.open_source().size
    shared = {"projection_dim": stage["projection_dim"]}
    text = build_config(
        CLIPTextConfig,
        stage["text"],
        vocab_size=words.vocab_size,
        max_length=words.max_length,
        eos_id=words.eos_id,
        **shared,
    )
    vision = dict(stage["vision"])
    kind = vision.pop("kind", "vit")
    if kind not in IMAGE_TOWERS:
        raise UnknownName("kind of image tower", kind, IMAGE_TOWERS)
    network, config = IMAGE_TOWERS[kind]
    return CLIPText(text), network(build_config(config, vision, image_size=size, **shared))


def load_clip(
    recipe: Recipe, image_tower: bool = True
) -> tuple[CLIPText, ImageTower, Tokenizer, torch.Tensor]:
    """The finished CLIP, frozen: (text tower with projection, image tower, tokenizer, logit_scale).

    The image tower is that of the stage `image_tower` where that is done; its text tower is the
    same.
    """
    words = load_tokenizer(recipe)
    text, vision = build_clip(recipe, words)
    folder = require_stage(recipe, "clip").folder
    if image_tower and "image_tower" in recipe.stages and recipe.stage("image_tower").done:
        folder = recipe.stage("image_tower").folder
    path = folder / "clip.safetensors"
    weights = load_weights(path)
    for module, prefix in ((text, "text."), (vision, "vision.")):
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        fill_network(module, own, path)
        module.requires_grad_(False).eval()
    return text, vision, words, weights["logit_scale"]


def initialize_linear(network: VAE) -> None:
    """Starts the autoencoder as an almost linear network.

    A convolution on the way from picture to latents and back gets a semi-orthogonal centre tap
    (after the delta-orthogonal start of Xiao et al. 2018, §3) beside faint random taps. A halving
    averages 2×2 pixels. Residual branches begin at zero. Without this start the network learns
    brightness first, and takes thousands of pictures to learn the second and third colour.
    """
    for name, conv in network.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        with torch.no_grad():
            if name.endswith("conv2"):
                conv.weight.zero_()
            elif not name.endswith("conv1"):
                straight = nn.init.orthogonal_(torch.empty(conv.weight.shape[:2]))
                middle = conv.kernel_size[0] // 2
                conv.weight.mul_(0.3)
                if conv.stride[0] == 2:
                    conv.weight[:, :, :2, :2] += straight[..., None, None] / 4
                else:
                    conv.weight[:, :, middle, middle] += straight


def build_vae(recipe: Recipe, **more: Any) -> VAE:
    config = build_config(
        VAEConfig,
        recipe.stage("vae")["network"],
        sample_size=recipe.open_source().size,
        **more,
    )
    network = VAE(config)
    initialize_linear(network)
    return network


def load_vae(recipe: Recipe, decoder: bool = True) -> VAE:
    """The finished autoencoder, frozen. Its decoder is that of the stage `decoder` where that is
    done."""
    stage = require_stage(recipe, "vae")
    factor = read_done(stage).get("scaling_factor")
    if not isinstance(factor, float) or not 0 < factor < float("inf"):
        raise BadCheckpoint(
            f"{stage.folder / DONE} has no scaling_factor",
            "--stage vae --again writes it once more",
        )
    network = build_vae(recipe, scaling_factor=factor)
    path = stage.folder / "vae.safetensors"
    if decoder and "decoder" in recipe.stages and recipe.stage("decoder").done:
        path = recipe.stage("decoder").folder / "vae.safetensors"
    fill_network(network, load_weights(path), path)
    return network.requires_grad_(False).eval()


def build_unet(recipe: Recipe) -> UNet:
    network, text = recipe.stage("vae")["network"], recipe.stage("clip")["text"]
    channels = network["latent_channels"]
    side = recipe.open_source().size // 2 ** (len(network["block_out_channels"]) - 1)
    return UNet(
        build_config(
            UNetConfig,
            recipe.stage("unet")["network"],
            in_channels=channels,
            out_channels=channels,
            context_dim=text["dim"],
            sample_size=side,
        )
    )
