"""Signed links: a path to one picture that works without a token, for a while.

A link says which picture it shows, until when and in which format, and has a MAC of that. Whoever
has it sees this picture and nothing else, so it can go into a web page; a token never does."""

import hashlib
import hmac
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fromnoise.serve.refusals import Refusal

SECONDS = 3600  # that a link works, as OpenAI's do
NAME = re.compile(r"([0-9a-f]{32})\.([0-9]{1,12})\.([0-9]{1,3})\.([0-9a-f]{32})\.(png|jpeg|webp)")


@dataclass(frozen=True)
class Link:
    """What a link shows. quality: of a JPEG or WebP file, 0 to 100."""

    picture: str
    until: int
    quality: int
    format: str


class Links:
    """Signs and reads links with a key of the data folder, which all its servers share."""

    def __init__(self, folder: Path):
        self.key = read_key(folder / "links.key")

    def write(self, picture: str, format: str, quality: int) -> str:
        """The name of a link that works from now on for SECONDS."""
        link = Link(picture, int(time.time()) + SECONDS, quality, format)
        return f"{picture}.{link.until}.{quality}.{self._sign(link)}.{format}"

    def read(self, name: str) -> Link:
        """What a link shows. Raises Refusal where it was not signed here, or works no more."""
        found = NAME.fullmatch(name)
        if found:
            picture, until, quality, given, format = found.groups()
            link = Link(picture, int(until), int(quality), format)
            if hmac.compare_digest(self._sign(link), given):
                if link.until < time.time():
                    raise Refusal(403, "link_expired", "this link works no more", "draw it again")
                return link
        raise Refusal(404, "not_found", "there is no such link", "take it as it was given")

    def _sign(self, link: Link) -> str:
        text = f"{link.picture} {link.until} {link.quality} {link.format}".encode()
        return hmac.new(self.key, text, hashlib.sha256).hexdigest()[:32]


def read_key(path: Path) -> bytes:
    """The key in a file, made where there is none. It is there whole or not at all, so that
    servers that start together get the same one."""
    if not path.exists():
        part = path.with_name(f".{secrets.token_hex(8)}.key")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(part, path)
        part.unlink()
    return path.read_bytes()
