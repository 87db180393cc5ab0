"""Settings of diffusers' networks that ours do not have: which values of them change nothing."""

from collections.abc import Collection
from reprlib import repr as shorten
from typing import Any

from fromnoise.checkpoints.configs import Fields, Rule
from fromnoise.errors import BadCheckpoint

# our field of a U-Net → its key in config.json
ADDED = {
    "time_id_dim": Rule("addition_time_embed_dim", int, 2, 4096),
    "added_dim": Rule("projection_class_embeddings_input_dim", int, 1, 65536),
}
KNOWN = {"addition_embed_type", *(rule.key for rule in ADDED.values())}
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


# parts of a pipeline that a picture does not need: filters of pictures, what prepares pictures for
# them and for other parts, and what has a file of its own
HARMLESS = {"scheduler", "safety_checker", "feature_extractor", "image_processor", "image_encoder"}
HARMLESS |= {"depth_estimator", "watermark"}


def check_component(index: Fields, part: str, known: Collection[str]) -> None:
    """Raises BadCheckpoint for a part of model_index.json, of none of the classes `known`, that a
    picture would lack."""
    entry = index.values[part]
    if len(entry) != 2 or not all(isinstance(name, str | None) for name in entry):
        index.refuse(part, "a list of library and class")
    if part in HARMLESS:
        return
    wanted = f"only {' or '.join(known)} can be used" if known else "there is no use for it here"
    raise BadCheckpoint(
        f"{index.file}: the pipeline has a part {part[:200]}, {shorten(entry[1])}: {wanted}",
        "use a model without such a part: Stable Diffusion 1, 2 or XL",
    )


def read_added(config: Fields) -> dict[str, int]:
    """The fields of a U-Net that is told sizes and pooled text (SDXL)."""
    config.get(Rule("addition_embed_type", str, choices=["text_time"]))
    added = {name: config.get(rule) for name, rule in ADDED.items()}
    for name, value in added.items():
        if value is None:
            config.refuse(ADDED[name].key, "a number, where addition_embed_type is text_time")
    return added


def check_settings(config: Fields, settings: dict[str, Any]) -> None:
    """Raises BadCheckpoint for a setting that our networks cannot follow."""
    for key, value in settings.items():
        same = not isinstance(value, bool) and value == FIXED.get(key)
        if not (key in FREE or key in KNOWN or value is None or value is False or same):
            raise BadCheckpoint(
                f"{config.file}: cannot follow {key[:200]} = {shorten(value)}",
                "this architecture is not supported; use a Stable Diffusion 1, 2 or XL model",
            )
