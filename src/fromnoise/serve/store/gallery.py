"""The gallery: rows of pictures, with search, favourites, boards, deleting with a way back."""

import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from fromnoise.serve.database.opening import reading
from fromnoise.serve.database.tables import board_pictures, boards, pictures
from fromnoise.serve.refusals import Refusal, refuse_missing
from fromnoise.serve.store.files import PICTURES, Files

SETTING = re.compile(r"[a-z_]+:\S+")  # a word of a search that asks for a setting: steps:20
WORDS = 20  # of one search
BOARDS = 500  # of one client


@dataclass(frozen=True)
class Picture:
    """A row of the table of pictures."""

    number: int
    id: str
    client: str
    job: str
    index: int
    hash: str
    width: int
    height: int
    bytes: int
    seed: str
    model: str
    settings: str
    infotext: str
    words: str
    favourite: bool
    created: float
    deleted: float | None


def make_row(
    job: Any,
    index: int,
    seed: int | None,
    size: tuple[int, int],
    file: tuple[str, int],
    infotext: str,
) -> dict[str, Any]:
    """The row of picture `index` of a job. file: its hash and bytes."""
    settings = json.loads(job.request)
    return {
        "id": secrets.token_hex(16),
        "client": job.client,
        "job": job.id,
        "index": index,
        "hash": file[0],
        "width": size[0],
        "height": size[1],
        "bytes": file[1],
        "seed": "" if seed is None else str(seed),
        "model": job.model,
        "settings": job.request,
        "infotext": infotext,
        "words": index_words(settings, infotext, {"seed": seed, "model": job.model}),
        "favourite": False,
        "created": time.time(),
    }


def index_words(settings: dict[str, Any], infotext: str, more: dict[str, Any]) -> str:
    """What a search looks through: the prompts, the settings as the file has them, and each
    setting as a word of its own, " steps:20 "."""
    simple = {k: v for k, v in settings.items() if isinstance(v, int | float | str)}
    simple = {k: v for k, v in (simple | more).items() if "prompt" not in k}
    named = " ".join(f"{k}:{str(v).replace(' ', '_')}" for k, v in simple.items())
    prompts = "\n".join(str(v) for k, v in settings.items() if k.endswith("prompt"))
    return f"{prompts}\n{infotext}\n {named} ".lower()


def tell_words(settings: dict[str, Any]) -> str:
    """What a picture shows, in words: its prompt, or that of a film's first key frame."""
    return str(settings.get("prompt") or next(iter(settings.get("prompts") or ()), ""))


class Gallery:
    """The pictures of a database and their files. client: whose; None: everyone's."""

    def __init__(self, engine: Engine, files: Files):
        self.engine, self.files = engine, files

    def find(
        self,
        client: str | None,
        search: str = "",
        favourite: bool | None = None,
        board: str | None = None,
        deleted: bool = False,
        job: str | None = None,
        before: int | None = None,
        most: int = 50,
    ) -> list[Picture]:
        """The newest pictures first. search: words that must all be there, or settings as in
        steps:20. before: a picture's number."""
        query = self._search(select(pictures), client, search, favourite, board, deleted)
        query = query.limit(most)
        query = query if job is None else query.where(pictures.c.job == job)
        query = query if before is None else query.where(pictures.c.number < before)
        with reading(self.engine) as connection:
            return [Picture(**row._mapping) for row in connection.execute(query)]

    def list_short(
        self,
        client: str | None,
        search: str = "",
        favourite: bool | None = None,
        board: str | None = None,
        deleted: bool = False,
        most: int = 20_000,
    ) -> list[dict[str, Any]]:
        """As `find`, of each picture what a small tile shows."""
        names = ("id", "settings", "favourite", "width", "height")
        columns = [pictures.c[name] for name in names]
        query = self._search(select(*columns), client, search, favourite, board, deleted)
        with reading(self.engine) as connection:
            rows = connection.execute(query.limit(most)).all()
        return [
            {
                "id": identifier,
                "prompt": tell_words(json.loads(settings))[:200],
                "favourite": favourite,
                "width": width,
                "height": height,
            }
            # taken apart: reading fields of a row by name takes ten times as long
            for identifier, settings, favourite, width, height in rows
        ]

    def _search(
        self,
        query: Select,
        client: str | None,
        search: str,
        favourite: bool | None,
        board: str | None,
        deleted: bool,
    ) -> Select:
        """A query for the pictures of a search, the newest first."""
        query = query if client is None else query.where(pictures.c.client == client)
        there = pictures.c.deleted.is_not(None) if deleted else pictures.c.deleted.is_(None)
        query = query.where(there).order_by(pictures.c.number.desc())
        for word in search.lower().split()[:WORDS]:
            word = f" {word} " if SETTING.fullmatch(word) else word
            query = query.where(pictures.c.words.contains(word, autoescape=True))
        if favourite is not None:
            query = query.where(pictures.c.favourite.is_(favourite))
        if board is not None:
            query = query.join(board_pictures, board_pictures.c.picture == pictures.c.id)
            query = query.where(board_pictures.c.board == board)
        return query

    def of_jobs(self, jobs: Sequence[str]) -> dict[str, list[Picture]]:
        """Job → its pictures that are not deleted, in their order."""
        query = select(pictures).where(pictures.c.job.in_(jobs), pictures.c.deleted.is_(None))
        found: dict[str, list[Picture]] = {job: [] for job in jobs}
        with reading(self.engine) as connection:
            for row in connection.execute(query.order_by(pictures.c.index)):
                found[row.job].append(Picture(**row._mapping))
        return found

    def get(self, identifier: str, client: str | None, deleted: bool = False) -> Picture:
        """A picture; one that was deleted only where that is asked for. Raises Refusal."""
        with reading(self.engine) as connection:
            return self._get(connection, identifier, client, deleted)

    def find_hashes(self, identifiers: Sequence[str], client: str | None) -> dict[str, str]:
        """Id → hash of those of the pictures that are there, deleted ones too."""
        query = select(pictures.c.id, pictures.c.hash).where(pictures.c.id.in_(identifiers))
        query = query if client is None else query.where(pictures.c.client == client)
        with reading(self.engine) as connection:
            return {row.id: row.hash for row in connection.execute(query)}

    def mark(self, identifier: str, client: str | None, favourite: bool) -> Picture:
        """Makes a picture a favourite, or not. Raises Refusal."""
        return self._change(identifier, client, {"favourite": favourite})

    def delete(self, identifier: str, client: str | None) -> Picture:
        """Deletes a picture: it can be restored until `purge` finds it. Raises Refusal."""
        return self._change(identifier, client, {"deleted": time.time()})

    def restore(self, identifier: str, client: str | None) -> Picture:
        """Brings a deleted picture back. Raises Refusal where it is gone."""
        return self._change(identifier, client, {"deleted": None}, deleted=True)

    def _change(
        self,
        identifier: str,
        client: str | None,
        values: dict[str, Any],
        deleted: bool = False,
    ) -> Picture:
        with self.engine.begin() as connection:
            self._get(connection, identifier, client, deleted)
            connection.execute(update(pictures).where(pictures.c.id == identifier).values(values))
            return self._get(connection, identifier, client, deleted=True)

    def purge(self, before: float) -> int:
        """Removes for good what was deleted before a time. Returns how many."""
        with self.engine.begin() as connection:
            old = pictures.c.deleted < before
            gone = connection.scalars(select(pictures.c.hash).where(old)).all()
            connection.execute(delete(pictures).where(old))
        for digest in set(gone) - self.used([*set(gone)]):
            self.files.remove(PICTURES, digest)
        return len(gone)

    def used(self, hashes: Sequence[str]) -> set[str]:
        """Those of the hashes that some row names."""
        with reading(self.engine) as connection:
            query = select(pictures.c.hash).where(pictures.c.hash.in_(hashes))
            return set(connection.scalars(query))

    # --- boards

    def boards(self, client: str | None) -> list[dict[str, Any]]:
        """The boards, oldest first."""
        query = select(boards).order_by(boards.c.created)
        query = query if client is None else query.where(boards.c.client == client)
        with reading(self.engine) as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def add_board(self, client: str, name: str) -> dict[str, Any]:
        """A new board. Raises Refusal where its name is taken, and where there are BOARDS."""
        row = {"id": secrets.token_hex(16), "client": client, "name": name, "created": time.time()}
        try:
            with self.engine.begin() as connection:
                mine = select(func.count()).select_from(boards).where(boards.c.client == client)
                if connection.execute(mine).scalar_one() >= BOARDS:
                    raise Refusal(409, "too_many_boards", f"there are {BOARDS}", "remove some")
                connection.execute(insert(boards).values(row))
        except IntegrityError:
            raise Refusal(
                409, "name_taken", f"there is a board {name!r} already", "choose another name"
            ) from None
        return row

    def remove_board(self, identifier: str, client: str | None) -> None:
        """Removes a board. Its pictures stay. Raises Refusal."""
        with self.engine.begin() as connection:
            self._check_board(connection, identifier, client)
            connection.execute(delete(boards).where(boards.c.id == identifier))

    def pin(self, board: str, identifier: str, client: str | None) -> None:
        """Puts a picture on a board. Raises Refusal."""
        row = {"board": board, "picture": identifier}
        with self.engine.begin() as connection:
            self._check_board(connection, board, client)
            self._get(connection, identifier, client)
            there = select(board_pictures).filter_by(**row)
            if connection.execute(there).first() is None:
                connection.execute(insert(board_pictures).values(row))

    def unpin(self, board: str, identifier: str, client: str | None) -> None:
        """Takes a picture off a board. Raises Refusal where the board is not there."""
        pinned = (board_pictures.c.board == board) & (board_pictures.c.picture == identifier)
        with self.engine.begin() as connection:
            self._check_board(connection, board, client)
            connection.execute(delete(board_pictures).where(pinned))

    def _check_board(self, connection: Connection, board: str, client: str | None) -> None:
        row = connection.execute(select(boards.c.client).where(boards.c.id == board)).first()
        if row is None or client not in (None, row.client):
            raise refuse_missing("board", board)

    def _get(
        self,
        connection: Connection,
        identifier: str,
        client: str | None,
        deleted: bool = False,
    ) -> Picture:
        query = self._select(client).where(pictures.c.id == identifier)
        row = connection.execute(query).first()
        if row is None or (row.deleted is not None and not deleted):
            raise refuse_missing("picture", identifier)
        return Picture(**row._mapping)

    def _select(self, client: str | None) -> Select:
        query = select(pictures)
        return query if client is None else query.where(pictures.c.client == client)
