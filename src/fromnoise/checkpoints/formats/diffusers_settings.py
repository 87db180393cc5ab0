"""Settings of diffusers' networks that ours do not have: which values of them change nothing."""

from reprlib import repr as shorten
from typing import Any

from fromnoise.checkpoints.configs import Fields
from fromnoise.errors import BadCheckpoint

# absent, null and false are fine, and so are these values
FIXED: dict[str, Any] = {
    "act_fn": "silu", "norm_eps": 1e-5, "downsample_padding": 1, "mid_block_scale_factor": 1,
    "dropout": 0.0, "resnet_time_scale_shift": "default", "time_embedding_type": "positional",
    "attention_type": "default", "conv_in_kernel": 3, "conv_out_kernel": 3,
    "resnet_out_scale_factor": 1.0, "addition_embed_type_num_heads": 64,
    "class_embeddings_concat": False, "layer_norm_eps": 1e-5, "attention_dropout": 0.0,
    "num_channels": 3,
}  # fmt: skip
# they change no result here: precisions, training, sizes of a sibling, and names
FREE = {
    "upcast_attention",
    "force_upcast",
    "dtype",
    "transformers_version",
    "initializer_factor",
    "initializer_range",
    "use_cache",
    "num_attention_heads",
    "is_decoder",
    "tie_word_embeddings",
    "id2label",
    "label2id",
    "return_dict",
    "problem_type",
    "gradient_checkpointing",
    "chunk_size_feed_forward",
}


def check_settings(config: Fields, settings: dict[str, Any]) -> None:
    """Raises BadCheckpoint for a setting that our networks cannot follow."""
    for key, value in settings.items():
        same = not isinstance(value, bool) and value == FIXED.get(key)
        if not (key in FREE or value is None or value is False or same):
            raise BadCheckpoint(
                f"{config.file}: cannot follow {key[:200]} = {shorten(value)}",
                "this architecture is not supported; use a Stable Diffusion 1 or 2 model",
            )
