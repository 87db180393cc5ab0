"""Pictures in a request: base64 → uploads, read in the limited process of all uploads."""

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import ImageOps

from fromnoise.errors import BadInput
from fromnoise.pipeline.pictures import read_soft_mask
from fromnoise.pipeline.resizing import resize
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server
from fromnoise.serve.store.files import UPLOADS
from fromnoise.serve.store.uploads import Upload

DATA = re.compile(r"data:[\w.+/-]{0,100};base64,", re.IGNORECASE)
ADDRESS = re.compile(r"(https?|ftp|file):", re.IGNORECASE)


def decode(text: str, what: str) -> bytes:
    """The bytes of a file in base64, perhaps with "data:image/png;base64," before it. Raises
    BadInput; an address is never followed, and a path never opened."""
    if ADDRESS.match(text):
        raise BadInput(f"{what} is an address, and none is fetched", "send the file in base64")
    start = DATA.match(text)
    try:
        data = base64.b64decode("".join(text[start.end() if start else 0 :].split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise BadInput(f"{what} is no file in base64", "send a picture's bytes in base64")
    return data


class Pictures:
    """The uploads of one request; they go when its jobs are kept, which have files of their own."""

    def __init__(self, server: Server, client: Client):
        self.server, self.client = server, client
        self.uploads: dict[str, Upload] = {}

    def add(self, text: str, what: str) -> Upload:
        """A picture of the request. Raises BadInput and Refusal."""
        if text not in self.uploads:
            upload, _ = self.server.upload(self.client, decode(text, what))
            self.uploads[text] = upload
        return self.uploads[text]

    def add_mask(self, text: str, size: tuple[int, int], how: str, invert: bool) -> Upload:
        """A mask at the size of its picture, perhaps with black and white exchanged."""
        upload = self.add(text, "mask")
        if not invert and (upload.width, upload.height) == size:
            return upload
        mask = resize(read_soft_mask(self.server.files.path(UPLOADS, upload.hash)), size, how)
        data = BytesIO()
        (ImageOps.invert(mask) if invert else mask).save(data, "PNG", compress_level=1)
        kept = self.server.uploads.keep(self.client.name, data.getvalue(), size)
        self.uploads[f"{len(self.uploads)} of {upload.id}"] = kept
        return kept

    def forget(self) -> None:
        """Removes the uploads."""
        for upload in self.uploads.values():
            self.server.uploads.remove(upload.id, self.client.owner)


@contextmanager
def open_pictures(server: Server, client: Client) -> Iterator[Pictures]:
    """Takes pictures until the jobs that read them are kept."""
    pictures = Pictures(server, client)
    try:
        yield pictures
    finally:
        pictures.forget()
