"""What a server tells of its disk: the names of files, never the folders that they lie in.

Errors and warnings of the pipeline name whole paths, for whoever sits at this machine. Everything
of that kind passes here before HTTP, or a job's record, has it; the log keeps the paths."""

import re
import tempfile
from pathlib import Path

from fromnoise.checkpoints.library import find_roots

# the folders of an absolute path; not the middle of an address, nor the server's own addresses
FOLDERS = re.compile(r"(?<![\w/.:~-])/(?!(?:api|v1|sdapi)/)(?:[^\s/:;,'\"()\[\]]+/)+")


def hide_folders(text: str, *more: Path) -> str:
    """The text, with the last name of each path alone; of files in the models' folders and in
    `more`, whose names may hold spaces, the way from there. The text alone decides: nobody learns
    by it what there is."""
    known = {*find_roots(), Path.home(), Path.cwd(), Path(tempfile.gettempdir()), *more}
    places = {str(place) for one in known for place in (one, one.absolute()) if one.name}
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(f"{place}/", "")
    return FOLDERS.sub("", text)
