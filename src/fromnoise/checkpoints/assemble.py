"""The parts of a model, still in their files → LatentDiffusion: every format ends here.

Nothing is read before all configurations and headers fit each other."""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from fromnoise.checkpoints.configs import Fields
from fromnoise.checkpoints.tensors import TensorFile, Unfilled, check_fit, fill
from fromnoise.latent_diffusion import LatentDiffusion, TextEncoder
from fromnoise.prompt.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fromnoise.checkpoints.sources import TensorSource

LARGEST = 4096  # pixels, the side of the picture that a model draws where no size is given
LARGE = 1 << 30  # bytes of a model in fp32 that is read by other means


class Part(NamedTuple):
    """One part, under the name that it has in a diffusers folder, as in WEIGHTS there."""

    config: Any  # of its network
    source: "TensorFile | TensorSource"  # its weights, see checkpoints.sources
    fields: Fields  # its configuration as the file has it; errors name its fields
    names: Mapping[str, str]  # our key of each tensor → its key in the source
    build: Callable[[Any], nn.Module]  # a configuration → the network


def assemble(
    parts: Mapping[str, Part],
    tokenizers: Mapping[str, Tokenizer],
    digests: Mapping[str, str] | None = None,
    **more: Any,
) -> LatentDiffusion:
    """The model of these parts, in fp32 on the CPU. Raises BadCheckpoint that names file and key.

    tokenizers: of the text encoders, by the same names. digests: of "unet" and "vae", for a format
    that knows them; else they are those of the sources. more: other fields of LatentDiffusion."""
    concat = check_parts(parts, tokenizers)
    networks: dict[str, Any] = {}
    for name, part in parts.items():
        with Unfilled():
            networks[name] = part.build(part.config)
        stored = {ours: part.source.stored[key] for ours, key in part.names.items()}
        check_fit(networks[name], stored, part.source.path)
    needed = sum(4 * prod(e.shape) for part in parts.values() for e in part.source.stored.values())
    if needed > LARGE:
        from fromnoise.checkpoints.large import ready_large

        parts, digests = ready_large(parts, needed, digests)
    hashes = {name: hashlib.sha256() for name in ("unet", "vae")} if digests is None else {}
    pool = ThreadPoolExecutor(1)  # hashing takes as long as all else, and leaves Python free
    try:
        for name, network in networks.items():
            see = partial(pool.submit, hashes[name].update) if name in hashes else None
            ours = {key: name for name, key in parts[name].names.items()}
            stored = parts[name].source.stream(see)
            fill(network, ((ours[key], tensor) for key, tensor in stored if key in ours))
        found = {name: pool.submit(hash.hexdigest).result()[:10] for name, hash in hashes.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    # Podell et al. 2023 "SDXL" §2.1: the last layer but one, before the last norm
    usual = (2, False) if parts["unet"].config.added_dim else (1, True)
    return LatentDiffusion(
        networks["unet"],
        networks["vae"],
        tuple(TextEncoder(networks[name], words, *usual) for name, words in tokenizers.items()),
        vision=networks.get("image_tower", networks.get("image_encoder")),
        concat=concat,
        dtypes={name: next(iter(p.source.stored.values())).dtype for name, p in parts.items()},
        digest=(digests or found)["unet"],
        vae_digest=(digests or found)["vae"],
        **more,
    )


def check_parts(parts: Mapping[str, Part], tokenizers: Mapping[str, Tokenizer]) -> str:
    """What is concatenated to x in the U-Net's input, see LatentDiffusion.concat. Raises
    BadCheckpoint for parts that are each right and do not fit together."""
    unet, vae = parts["unet"].config, parts["vae"].config
    texts = {name: parts[name].config for name in tokenizers}
    last = [*texts.values()][-1]
    pooled = last.projection_dim or last.dim
    more = {0: "", 1: "depth", vae.latent_channels: "instruct"}
    more[1 + vae.latent_channels] = "inpainting"
    if not (
        unet.out_channels == vae.latent_channels
        and unet.in_channels - unet.out_channels in more
        and unet.context_dim == sum(text.dim for text in texts.values())
        and unet.sample_size * vae.factor <= LARGEST
        and unet.added_dim in (None, *(pooled + n * (unet.time_id_dim or 0) for n in (5, 6)))
        and all(
            words.vocab_size <= texts[name].vocab_size
            and words.max_length <= texts[name].max_length
            for name, words in tokenizers.items()
        )
    ):
        from fromnoise.checkpoints.refusals import refuse_parts

        refuse_parts(parts, tokenizers, LARGEST)
    return more[unet.in_channels - unet.out_channels]
