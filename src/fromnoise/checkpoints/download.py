"""A hub id → a local folder."""

from pathlib import Path

from fromnoise.errors import NotFound

# what a pipeline folder needs: a repository may hold pickles, single files and other precisions
# beside it
PATTERNS = ["model_index.json", "fromnoise.json", "clip_head.safetensors", "*/*.json", "*/*.txt"]
PATTERNS += ["*/model.safetensors", "*/diffusion_pytorch_model.safetensors"]


def download(name: str) -> Path:
    """A hub id "owner/name" → the local folder of its pipeline."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    # its classes, and those of the HTTP library under it, change from version to version
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise NotFound(
            f"no model {name!r}: no folder {Path(name).absolute()}, and the Hugging Face hub gave none ({reason[0]})",
            "check the spelling, the connection and, for a gated model, `hf auth login`",
        ) from error
