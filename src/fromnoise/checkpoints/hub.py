"""A name, a path or a hub id → the parts of a model."""

from pathlib import Path

from fromnoise.checkpoints.formats import find_loader
from fromnoise.errors import NotFound
from fromnoise.latent_diffusion import LatentDiffusion

BUNDLED = Path(__file__).parent.parent / "weights"


def load_parts(
    name_path_or_id: str | Path | None = None, image_tower: bool = True, encoder: bool = True
) -> LatentDiffusion:
    """None → the bundled model; a folder; or "owner/name" on the Hugging Face hub (downloaded once,
    then cached).

    image_tower, encoder: False leaves CLIP's image tower, or the autoencoder's encoder unread;
    drawing from words uses neither. Raises NotFound, which says where the search was, and
    BadCheckpoint for a model that is damaged or does not fit together."""
    name = str(name_path_or_id or "fromnoise")
    folder = BUNDLED if name_path_or_id is None else Path(name_path_or_id).expanduser()
    if not folder.is_dir():
        if name_path_or_id is None:
            raise NotFound(
                f"the bundled model is not at {BUNDLED}", "install fromnoise again, or give --model"
            )
        from fromnoise.checkpoints.download import find_elsewhere

        folder = find_elsewhere(name, folder)
    model = find_loader("model", folder)(folder, image_tower, encoder)
    model.source = name.rstrip("/").rsplit("/", 1)[-1]
    return model
