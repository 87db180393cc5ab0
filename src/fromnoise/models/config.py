"""What the networks are built from. The configurations of image towers lie beside their networks.

The defaults are those of Stable Diffusion 1.5. Foreign names end in checkpoints/formats."""

from dataclasses import dataclass


def divides(part: int, *wholes: int) -> bool:
    """Whether a number divides all others."""
    return part > 0 and not any(whole % part for whole in wholes)


@dataclass(frozen=True)
class UNetConfig:
    """Every tuple has one entry a level (resolution), the finest first. Raises BadInput."""

    in_channels: int = 4  # of x and what is concatenated to it (inpainting: 9)
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2  # residual blocks a level on the way down; one more on the way up
    attention: tuple[bool, ...] = (True, True, True, False)  # which levels hold transformers
    heads: tuple[int, ...] = (8, 8, 8, 8)  # a head COUNT (diffusers: `attention_head_dim`)
    context_dim: int = 768  # width of the text encoder's states
    transformer_depth: tuple[int, ...] = (1,)  # blocks in a transformer; one serves all levels
    norm_groups: int = 32
    linear_projection: bool = False  # around a transformer: Linear (SD 2), not 1×1 convolutions
    sample_size: int = 64  # latent side the network was trained at; a default only, any side works
    flip_sin_to_cos: bool = True  # time embedding is [cos, sin] instead of [sin, cos]
    freq_shift: int = 0  # lowest frequency is 10000^(−(n−1)/(n−shift)) of n
    mid_attention: bool = True  # resnet, transformer, resnet in the middle; False: one resnet alone
    guidance_dim: int | None = None  # sinusoids of the guidance scale, where that is an input (LCM)
    time_id_dim: int | None = None  # sinusoids of one time id, where sizes are an input (SDXL)
    added_dim: int | None = None  # of pooled text and sinusoids of all time ids together (SDXL)
    upcast_attention: bool = False  # computed in fp32 where the network runs in half precision

    def __post_init__(self) -> None:
        widths, depth = self.block_out_channels, self.transformer_depth
        if len(depth) == 1:
            object.__setattr__(self, "transformer_depth", depth * len(widths))
        attends = [*self.attention[:-1], self.attention[-1] or self.mid_attention]
        if not (
            len(widths) == len(attends) == len(self.heads) == len(self.transformer_depth)
            and (self.time_id_dim is None) == (self.added_dim is None)
            and divides(self.norm_groups, *widths)
            and all(divides(*of) for *of, a in zip(self.heads, widths, attends, strict=True) if a)
        ):
            from fromnoise.models.config_faults import refuse_unet

            refuse_unet(self)

    @property
    def multiple(self) -> int:
        """Of latents: their sides are halved once for every level but the last."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class VAEConfig:
    """The KL autoencoder. All levels but the coarsest halve the side. Raises BadInput."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2  # in the encoder; one more in the decoder
    norm_groups: int = 32
    mid_attention: bool = True  # one attention over all pixels of the coarsest level
    quant_conv: bool = True  # 1×1 convolutions on both sides of the latent space
    scaling_factor: float = 0.18215  # latents = (z − shift_factor) · scaling_factor, of variance 1
    shift_factor: float = 0.0
    sample_size: int = 512  # pixel side it was trained at; a default only

    def __post_init__(self) -> None:
        if not divides(self.norm_groups, *self.block_out_channels):
            from fromnoise.models.config_faults import check, groups_rule

            check(self, groups_rule(self.block_out_channels, self.norm_groups))

    @property
    def factor(self) -> int:
        """Pixels a latent, along each side."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class CLIPTextConfig:
    """CLIP's text tower. Raises BadInput."""

    vocab_size: int = 49408
    dim: int = 768
    layers: int = 12
    heads: int = 12
    mlp_dim: int = 3072
    max_length: int = 77  # tokens, begin and end included
    activation: str = "quick_gelu"
    projection_dim: int | None = None  # None: no projection into the space shared with images
    eos_id: int = 49407  # the pooled state is the one at the first eos_id

    def __post_init__(self) -> None:
        if not divides(self.heads, self.dim):
            from fromnoise.models.config_faults import check, heads_rule

            check(self, heads_rule(self.dim, self.heads))
