"""What a recipe's tables may hold: every field with its type and range. Unknown fields are errors
that suggest the nearest known one."""

import dataclasses
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from fromnoise.errors import BadInput, escape

Count = Annotated[int, Field(ge=1, le=2**53)]  # at least one
Number = Annotated[int, Field(ge=0, le=2**53)]  # none, or some
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
Table = dict[str, Any]

# of every stage that the loop trains
LOOP: dict[str, Any] = {
    "batch": Count,
    "pictures": Count,
    "minutes": Positive,
    "optimizer": Literal["adamw", "muon"],
    "lr": Weight,
    "warmup": Number,
    "decay": Share,
    "weight_decay": Weight,
    "betas": Annotated[list[Below1], Field(min_length=2, max_length=2)],
    "clip": Positive,
    "ema": Below1,
    "precision": Literal["auto", "no", "bf16", "fp16"],
    "device": Text,
    "workers": Number,
    "log_every": Count,
    "checkpoint_minutes": Weight,
    "preview_minutes": Weight,
    "check": Count,
}
CLIP = LOOP | {"words": Weight, "hard": Number, "first": Number}
VAE = LOOP | {
    "first": Number,
    "kl": Weight,
    "crop": Count,
    "crop_share": Share,
    "perceptual": Weight,
    "critic": Weight,
    "critic_from": Share,
}
UNET = LOOP | {
    "cached": Count,
    "caption_drop": Share,
    "prediction": Literal["eps", "v", "x0", "flow"],
    "weighting": Literal["uniform", "min_snr", "truncated"],
    "gamma": Positive,
    "focus": Annotated[list[Real], Field(min_length=3, max_length=3)],
    "align": Weight,
    "object_weight": Weight,
    "schedule": Table,
    "network": Table,
}
STAGES: dict[str, dict[str, Any]] = {
    "tokenizer": {
        "captions": Count,
        "vocab_size": Annotated[int, Field(ge=514, le=2**20)],
        "max_length": Annotated[int, Field(ge=3, le=2**16)],
    },
    "clip": CLIP | {"projection_dim": Count, "text": Table, "vision": Table},
    "image_tower": CLIP,
    "vae": VAE | {"network": Table},
    "decoder": VAE,
    "unet": UNET,
    "classifier": LOOP | {"network": Table},
    "assemble": {
        "sampler": Text,
        "spacing": Text,
        "steps": Count,
        "cfg": Real,
        "cfg_sigma_min": Weight,
        "cfg_sigma_max": Annotated[float, Field(gt=0)],
        "hires_upscaler": Text,
        "hires_strength": Share,
    },
}
TOP: dict[str, Any] = {
    "name": Annotated[str, Field(pattern=r"^[^/\\\x00.][^/\\\x00]*$")],  # it names a folder
    "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "default_scale": Text,
    "source": Table,
    "scale": Table,
    **dict.fromkeys(STAGES, Table),
}
# a table inside a stage → the config that its fields belong to, and those that the stage fills in
NETWORKS = {
    "clip.text": ("fromnoise.models.config:CLIPTextConfig", ()),
    "vae.network": ("fromnoise.models.config:VAEConfig", ("scaling_factor",)),
    "unet.network": ("fromnoise.models.config:UNetConfig", ("in_channels", "out_channels")),
    "classifier.network": ("fromnoise.evaluate.judge:JudgeConfig", ("schema",)),
}
IMAGE_TOWERS = {
    "vit": "fromnoise.models.clip_vision:CLIPVisionConfig",
    "resnet": "fromnoise.models.resnet:CLIPResNetConfig",
}


def check_recipe(raw: dict[str, Any], path: Path, text: str) -> None:
    """Raises BadInput that names file, line, table and field for the first fault of a recipe."""
    check_table(raw, TOP, "", path, text)
    for name, fields in STAGES.items():
        tables = {name: raw.get(name, {})}
        for scale, stages in raw.get("scale", {}).items():
            if not isinstance(stages, dict):
                raise _fault(path, text, "scale", scale, "it is not a table of stages")
            unknown = [stage for stage in stages if stage not in STAGES]
            if unknown:
                raise _unknown(path, text, f"scale.{scale}", unknown[0], STAGES)
            tables[f"scale.{scale}.{name}"] = stages.get(name, {})
        for table, values in tables.items():
            if not isinstance(values, dict):
                raise _fault(path, text, table, "", f"{escape(values)} is not a table of settings")
            check_table(values, fields, table, path, text)
            _check_networks(name, values, table, path, text)


def check_table(
    values: dict[str, Any], fields: dict[str, Any], table: str, path: Path, text: str = ""
) -> None:
    """Checks one table's fields against their types. Raises BadInput."""
    for key, value in values.items():
        if key not in fields:
            raise _unknown(path, text, table, key, fields)
        try:
            TypeAdapter(fields[key]).validate_python(value, strict=True)
        except ValidationError as error:
            fault = error.errors()[0]
            reason = fault["msg"][:1].lower() + fault["msg"][1:]
            raise _fault(path, text, table, key, f"{escape(repr(value), 80)}: {reason}") from None


def _check_networks(stage: str, values: dict[str, Any], table: str, path: Path, text: str) -> None:
    for key, value in values.items():
        if key == "vision":
            value = dict(value)
            kind = value.pop("kind", "vit")
            if kind not in IMAGE_TOWERS:
                raise _unknown(path, text, f"{table}.vision", str(kind), IMAGE_TOWERS, "kind")
            target, filled = IMAGE_TOWERS[kind], ("projection_dim", "image_size")
        elif f"{stage}.{key}" in NETWORKS:
            target, filled = NETWORKS[f"{stage}.{key}"]
        else:
            continue
        module, name = target.split(":")
        config = getattr(import_module(module), name)
        hints = get_type_hints(config)
        fields = {f.name: hints[f.name] for f in dataclasses.fields(config) if f.name not in filled}
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        check_table(plain, fields, f"{table}.{key}", path, text)
        for field, number in plain.items():
            numbers = number if isinstance(number, tuple) else (number,)
            if any(type(n) in (int, float) and not 0 <= n <= 2**20 for n in numbers):
                reason = f"{escape(number, 80)}: a number from 0 to {2**20:,} is needed"
                raise _fault(path, text, f"{table}.{key}", field, reason)


def _fault(path: Path, text: str, table: str, key: str, reason: str) -> BadInput:
    place = f"{path}{_find_line(text, table, key)}"
    name = ".".join(filter(None, (f"[{table}]" if table and not key else table, key)))
    return BadInput(f"{place}: {name} = {reason}", "correct this field of the recipe")


def _unknown(
    path: Path, text: str, table: str, key: str, choices: Iterable[str], kind: str = "field"
) -> BadInput:
    choices = sorted(choices)
    near = get_close_matches(key[:100], choices, n=1) or get_close_matches(
        SYNONYMS.get(key, ""), choices, n=1, cutoff=1
    )
    suggestion = f"did you mean {near[0]!r}? " if near else ""
    if not table:
        where, kind = "the recipe has", "stage or field" if kind == "field" else kind
    else:
        where = f"[{table}] has"
    line = _find_line(text, table, key)
    return BadInput(
        f"{path}{line}: {where} an unknown {kind} {escape(key)!r}",
        f"{suggestion}choose one of: {', '.join(choices)}",
    )


# what other tools call our fields
SYNONYMS = {
    "learning_rate": "lr",
    "batch_size": "batch",
    "mixed_precision": "precision",
    "num_workers": "workers",
    "lr_warmup_steps": "warmup",
    "max_grad_norm": "clip",
    "grad_clip": "clip",
    "ema_decay": "ema",
    "images": "pictures",
    "samples": "pictures",
    "optim": "optimizer",
    "prediction_type": "prediction",
    "snr_gamma": "gamma",
    "channels": "block_out_channels",
    "dataset": "source",
    "guidance_scale": "cfg",
    "num_inference_steps": "steps",
    "scheduler": "sampler",
}


def _find_line(text: str, table: str, key: str) -> str:
    """ ":12", the line of a field in a TOML text; "" where it is not found."""
    current, last = "", table.split(".")[-1]
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split("#")[0].strip()
        if bare.startswith("["):
            current = bare.strip("[] ").replace('"', "")
            if (not key and current == table) or current == ".".join(filter(None, (table, key))):
                return f":{number}"
        name, equals, rest = bare.partition("=")
        name = name.strip().strip("\"'")
        if not equals:
            continue
        path = ".".join(filter(None, (current, name)))
        if path == ".".join(filter(None, (table, key))):
            return f":{number}"
        # an inline table: network = { … }, or scale's clip = { … }
        if key and path == table and key in rest:
            return f":{number}"
        if key and last in rest and key in rest and table.startswith(path):
            return f":{number}"
    return ""
