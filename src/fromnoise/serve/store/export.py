"""Many pictures as one zip file, sent while it is written."""

import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from io import RawIOBase

from fromnoise.serve.store.files import PICTURES, Files
from fromnoise.serve.store.gallery import Picture


class Pipe(RawIOBase):
    """A file that can only be written to; what was written is taken away in pieces."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data, /) -> int:
        self.parts.append(bytes(data))
        return len(self.parts[-1])

    def take(self) -> bytes:
        data = b"".join(self.parts)
        self.parts.clear()
        return data


def write_zip(pictures: Sequence[Picture], files: Files) -> Iterator[bytes]:
    """The bytes of a zip file: the pictures as they are, and settings.json, which says what each
    was drawn with. A file that is gone from the disk is named there as missing."""
    pipe, rows = Pipe(), []
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # PNG files are packed already
        for picture in pictures:
            day = time.gmtime(picture.created)
            name = f"{time.strftime('%Y-%m-%d', day)}-{picture.seed}-{picture.id[:8]}.png"
            path = files.path(PICTURES, picture.hash)
            missing = not path.exists()
            if not missing:
                info = zipfile.ZipInfo(name, day[:6])
                archive.writestr(info, path.read_bytes())
            rows.append(
                {
                    "file": None if missing else name,
                    "id": picture.id,
                    "seed": picture.seed,
                    "model": picture.model,
                    "favourite": picture.favourite,
                    "settings": json.loads(picture.settings),
                    "infotext": picture.infotext,
                }
            )
            yield pipe.take()
        archive.writestr("settings.json", json.dumps(rows, ensure_ascii=False, indent=1))
    yield pipe.take()
