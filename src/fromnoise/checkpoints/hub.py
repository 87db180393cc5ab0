"""A name, a path or a hub id → the parts of a model. FORMATS: the registry of what can be read."""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fromnoise.errors import NotFound

if TYPE_CHECKING:  # naming the bundled model's folder needs no torch
    from fromnoise.latent_diffusion import LatentDiffusion

BUNDLED = Path(__file__).parent.parent / "weights"
# kind → module in formats/, with its `load(path, …)` → the sign of its paths: a file in the folder,
# or how the name ends ("": any); a module is imported when it is used
FORMATS = {
    "model": {
        "diffusers_folder": "model_index.json",
        "single_file": "",
    },
    "upscaler": {"upscaler": ".safetensors"},
    "lora": {"lora": ""},
}


def load_format(kind: str, path: Path, *options: Any) -> Any:
    """What the first format of that kind whose sign the path has makes of it. Raises NotFound."""
    for module, sign in FORMATS[kind].items():
        if path.name.lower().endswith(sign) or os.path.lexists(path / sign):
            return import_module(f"fromnoise.checkpoints.formats.{module}").load(path, *options)
    signs = " or ".join(FORMATS[kind].values())
    raise NotFound(f"no {kind} in {path}: it has no {signs}", "give the folder of a whole pipeline")


def load_parts(
    name_path_or_id: str | Path | None = None,
    image_tower: bool = True,
    encoder: bool = True,
    prediction: str | None = None,
    variant: str | None = None,
    others: Sequence[str] | None = None,
) -> "LatentDiffusion":
    """None → the bundled model; a folder; or "owner/name" on the Hugging Face hub (then cached).

    image_tower, encoder: False leaves CLIP's image tower and head, or the autoencoder's encoder
    unread; drawing from words uses neither. prediction: in place of what the model says of itself,
    "eps", "v" or "x0". variant: of a folder's weights, such as "fp16". others: files with the parts
    that a single file lacks. Raises NotFound, BadCheckpoint for a model that is damaged or does not
    fit together, and BadInput for options that it does not take."""
    name = str(name_path_or_id or "fromnoise")
    folder = BUNDLED if name_path_or_id is None else Path(name_path_or_id).expanduser()
    if not folder.is_dir():
        if name_path_or_id is None:
            remedy = "install fromnoise again, or give --model"
            raise NotFound(f"the bundled model is not at {BUNDLED}", remedy)
        from fromnoise.checkpoints.download import find_elsewhere

        folder = find_elsewhere(name, folder, variant)
    model = load_format("model", folder, image_tower, encoder, prediction, variant, others)
    model.source = name.rstrip("/").rsplit("/", 1)[-1]
    return model
