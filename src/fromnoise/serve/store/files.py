"""Files by the hash of their content: pictures that were drawn, pictures that were uploaded."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.files import write_file
from fromnoise.pipeline.saving import save_picture

PICTURES, UPLOADS = "pictures", "uploads"
SMALL = 256  # pixels, the longer side of a thumbnail
GRACE = 3600.0  # seconds for which a file without a row stays: its job may be about to end
REMEDY = "look at the disk of the server's data folder"


class Files:
    """A folder of PNG files that are named by the SHA-256 of their bytes. A file is whole or not
    there, and never changes; writing the same one twice is writing it once."""

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for kind in (PICTURES, UPLOADS, "thumbnails"):
                (folder / kind).mkdir(exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"cannot make the data folder {folder}: {error.strerror}", "choose it with --data"
            ) from error

    def path(self, kind: str, digest: str) -> Path:
        """Where the file of that hash is, or would be."""
        assert len(digest) == 64
        return self.folder / kind / digest[:2] / f"{digest}.png"

    def add(self, kind: str, data: bytes) -> str:
        """Keeps bytes; their hash. Raises BadInput where the disk does not take them."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(kind, digest)
        try:
            os.utime(path)  # it is there: it is as new as if it were written now
        except OSError:
            write_file(path, lambda part: part.write_bytes(data), remedy=REMEDY)
            _sync_folder(path.parent)
        return digest

    def add_picture(self, picture: Image.Image) -> tuple[str, int]:
        """Keeps a picture with its settings as a PNG file; (its hash, its bytes)."""
        data = self.encode_picture(picture)
        return self.add(PICTURES, data), len(data)

    def encode_picture(self, picture: Image.Image) -> bytes:
        """A picture with its settings as a PNG file."""
        part = self.folder / f".{secrets.token_hex(8)}.png"
        try:
            save_picture(picture, part)
            return part.read_bytes()
        finally:
            part.unlink(missing_ok=True)

    def thumbnail(self, digest: str) -> Path:
        """A small WebP picture of a picture that was drawn, made when it is first asked for."""
        path = self.folder / "thumbnails" / digest[:2] / f"{digest}.webp"
        if not path.exists():
            with Image.open(self.path(PICTURES, digest), formats=["PNG"]) as picture:
                small = picture.convert("RGBA" if picture.mode == "RGBA" else "RGB")
            small.thumbnail((SMALL, SMALL), Image.Resampling.LANCZOS)
            write_file(path, lambda part: small.save(part, "WEBP", quality=85), remedy=REMEDY)
        return path

    def remove(self, kind: str, digest: str) -> None:
        """Removes the file of a hash that no row names any more."""
        self.path(kind, digest).unlink(missing_ok=True)
        if kind == PICTURES:
            (self.folder / "thumbnails" / digest[:2] / f"{digest}.webp").unlink(missing_ok=True)

    def sweep(self, kind: str, is_used: Callable[[list[str]], set[str]]) -> int:
        """Removes files that no row names and that are older than GRACE: killed jobs leave some.
        is_used: which of these hashes are named. Returns how many were removed."""
        removed = 0
        for folder in sorted((self.folder / kind).iterdir()):
            limit = time.time() - GRACE
            old = {path.stem: path for path in folder.glob("*.png") if _modified(path) < limit}
            old = {digest: path for digest, path in old.items() if len(digest) == 64}
            for digest in old.keys() - is_used([*old]):
                if _modified(old[digest]) < limit:  # not written again meanwhile
                    self.remove(kind, digest)
                    removed += 1
        return removed


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone meanwhile
        return float("inf")


def _sync_folder(folder: Path) -> None:
    """Waits until the folder's names are on the disk, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
