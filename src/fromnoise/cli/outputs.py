"""The files that pictures go to."""

import re
from pathlib import Path

from fromnoise.errors import BadInput
from fromnoise.pipeline.request import GenerationRequest


def choose_path(
    out: Path | None, request: GenerationRequest, index: int, suffix: str = ".png"
) -> Path:
    """Where picture `index` goes: `out` itself if it is a file and there is one picture, else a
    name with the seed."""
    seed = (request.seed or 0) + index
    if out is not None and out.suffix:
        return out if request.count == 1 else out.with_name(f"{out.stem}-{seed}{out.suffix}")
    words = re.sub(r"\W+", "-", request.prompt.lower()).strip("-")[:60] or "picture"
    return (out or Path()) / f"{words}-{seed}{suffix}"


def is_drawn(path: Path, text: str) -> bool:
    """Whether the picture is there, whole and of these settings. Raises BadInput for another file
    of the name."""
    if not path.exists():
        return False
    from PIL import Image

    from fromnoise.pipeline.provenance.read import read_text

    if read_text(path) != text:
        raise BadInput(
            f"{path} is there, and of other settings",
            "name another folder with --out, or move it away",
        )
    try:
        with Image.open(path) as picture:
            picture.load()
    except OSError:  # cut off, as by a crash: drawn again
        return False
    return True
