"""Uploads: foreign pictures, read in a process of its own, kept as plain PNG files by id."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, delete, func, insert, select

from fromnoise.errors import BadInput
from fromnoise.serve.database.opening import reading
from fromnoise.serve.database.tables import job_inputs, uploads
from fromnoise.serve.refusals import Refusal, refuse_missing
from fromnoise.serve.settings import Limits
from fromnoise.serve.store.files import UPLOADS, Files


@dataclass(frozen=True)
class Upload:
    """A row of the table of uploads."""

    id: str
    client: str
    hash: str
    width: int
    height: int
    bytes: int
    infotext: str
    created: float


def unpack(data: bytes, limits: Limits) -> tuple[bytes, dict]:
    """(a PNG file of a foreign picture's pixels in sRGB; its size, notes and settings).

    The picture is read by `pipeline.pictures`, in a process with limits of its own. Raises
    BadInput."""
    return read_apart(data, limits, "pixels")


def read_foreign_settings(data: bytes, limits: Limits) -> dict:
    """What a foreign picture says of its making: maker, kind, settings, unused. Raises BadInput."""
    return read_apart(data, limits, "settings")[1]


def read_apart(data: bytes, limits: Limits, what: str, side: int = 0) -> tuple[bytes, dict]:
    """What the module `unpack` answers, from a process of its own: see there. Raises BadInput."""
    bounds = {
        "side": side,
        "what": what,
        "memory": limits.upload_memory,
        "seconds": limits.upload_seconds,
        "pixels": limits.upload_pixels,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fromnoise.serve.store.unpack"],
            input=json.dumps(bounds).encode() + b"\n" + data,
            capture_output=True,
            timeout=2 * limits.upload_seconds,
        )
    except subprocess.TimeoutExpired:
        raise BadInput("the picture takes too long to read", "give a smaller one") from None
    head, _, png = done.stdout.partition(b"\n")
    if done.returncode or not head:  # killed by a limit, as a rule
        raise BadInput("the picture cannot be read within the limits", "give a smaller one")
    answer = json.loads(head)
    if "message" in answer:
        raise BadInput(answer["message"], answer["remedy"])
    return png, answer


class Uploads:
    """The uploads of a database and their files."""

    def __init__(self, engine: Engine, files: Files, limits: Limits):
        self.engine, self.files, self.limits = engine, files, limits

    def add(self, client: str, data: bytes) -> tuple[Upload, list[str]]:
        """(the upload, notes on what was lost in reading it). Raises BadInput and Refusal."""
        count = select(func.count()).where(uploads.c.client == client)
        with reading(self.engine) as connection:
            kept = connection.scalar(count) or 0
        if kept >= self.limits.uploads_per_client:
            raise Refusal(
                429, "too_many_uploads", f"{kept:,} uploads are kept", "delete some, or wait", 600
            )
        png, answer = unpack(data, self.limits)
        infotext = answer["infotext"].replace("\0", "")
        return self.keep(client, png, answer["size"], infotext), answer["notes"]

    def keep(self, client: str, png: bytes, size: Sequence[int], infotext: str = "") -> Upload:
        """An upload of a PNG file that this program wrote."""
        row = {
            "id": secrets.token_hex(16),
            "client": client,
            "hash": self.files.add(UPLOADS, png),
            "width": size[0],
            "height": size[1],
            "bytes": len(png),
            "infotext": infotext,
            "created": time.time(),
        }
        with self.engine.begin() as connection:
            connection.execute(insert(uploads).values(row))
        return Upload(**row)

    def get(self, identifier: str, client: str | None) -> Upload:
        """Raises Refusal where there is none, or it is another client's."""
        with reading(self.engine) as connection:
            row = connection.execute(select(uploads).where(uploads.c.id == identifier)).first()
        if row is None or client not in (None, row.client):
            raise refuse_missing("upload", identifier)
        return Upload(**row._mapping)

    def remove(self, identifier: str, client: str | None) -> None:
        """Forgets an upload; jobs that read it still do. Raises Refusal."""
        self.get(identifier, client)
        with self.engine.begin() as connection:
            connection.execute(delete(uploads).where(uploads.c.id == identifier))

    def purge(self, before: float) -> int:
        """Forgets uploads that are older. Their files go with the next sweep."""
        with self.engine.begin() as connection:
            return connection.execute(delete(uploads).where(uploads.c.created < before)).rowcount

    def used(self, hashes: Sequence[str]) -> set[str]:
        """Those of the hashes that an upload or a job that has not ended names."""
        with reading(self.engine) as connection:
            found = set[str]()
            for column in (uploads.c.hash, job_inputs.c.hash):
                found |= set(connection.scalars(select(column).where(column.in_(hashes))))
            return found
