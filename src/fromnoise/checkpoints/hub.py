"""A name, a path or a hub id → the parts of a model."""

from importlib import import_module
from pathlib import Path

from fromnoise.errors import NotFound
from fromnoise.latent_diffusion import LatentDiffusion

# name → the module in formats/ that has `load(folder)`, and `save(model, folder)`; imported when it
# is used
FORMATS = {"diffusers_folder": "fromnoise.checkpoints.formats.diffusers_folder"}
BUNDLED = Path(__file__).parent.parent / "weights"


def load_parts(
    name_path_or_id: str | Path | None = None, image_tower: bool = True, encoder: bool = True
) -> LatentDiffusion:
    """None → the bundled model; a folder; or "owner/name" on the Hugging Face hub (downloaded once,
    then cached).

    image_tower, encoder: False leaves CLIP's image tower, or the autoencoder's encoder unread;
    drawing from words uses neither. Raises NotFound saying what was looked for, BadCheckpoint when
    what is there does not fit."""
    name = str(name_path_or_id or "fromnoise")
    folder = BUNDLED if name_path_or_id is None else Path(name_path_or_id).expanduser()
    if not folder.is_dir():
        if name_path_or_id is None:
            raise NotFound(
                f"the bundled model is not at {BUNDLED}", "install fromnoise again, or give --model"
            )
        if folder.is_file() or name.count("/") != 1 or name.startswith((".", "~", "/")):
            what = "is a file, not a folder" if folder.is_file() else "does not exist"
            remedy = "give a folder with a model_index.json, a hub id 'owner/name', or nothing for the bundled model"
            raise NotFound(f"no model {name!r}: {folder.absolute()} {what}", remedy)
        from fromnoise.checkpoints.download import download  # only a hub id needs it

        folder = download(name)
    if not (folder / "model_index.json").is_file():
        raise NotFound(
            f"no model in {folder}: it has no model_index.json",
            "give the folder of a whole pipeline",
        )
    model = import_module(FORMATS["diffusers_folder"]).load(folder, image_tower, encoder)
    model.source = name if "/" not in name else name.rstrip("/").rsplit("/", 1)[1]
    return model
