"""Bearer tokens: who a request comes from, and what it may do. The database keeps their hashes."""

import hashlib
import re
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import Column, Engine, delete, insert, select
from sqlalchemy.exc import IntegrityError

from fromnoise.errors import BadInput, NotFound, UnknownName, escape
from fromnoise.serve.database.opening import reading
from fromnoise.serve.database.tables import tokens

SCOPES = {
    "draw": "ask for pictures, upload, cancel, see what came of it",
    "gallery": "find pictures, sort, delete and export them",
    "admin": "see everyone's jobs and pictures, load models, read metrics, come first",
}
NAME = re.compile(r"[\w.-]{1,64}")
FRESH = 5.0  # seconds for which an answer of the database holds
KNOWN = 10_000  # answers that are kept at most; also those about tokens that are gone


@dataclass(frozen=True)
class Client:
    """Who asks."""

    name: str
    scopes: frozenset[str]
    per_minute: int | None = None  # requests; None: the server's own limit

    @property
    def owner(self) -> str | None:
        """Whose jobs and pictures it sees; None: everyone's."""
        return None if "admin" in self.scopes else self.name


LOCAL = Client("local", frozenset(SCOPES))  # who asks a server without tokens


class Tokens:
    """The tokens of a database. A secret is shown once, when it is made."""

    def __init__(self, engine: Engine):
        self.engine = engine
        # (column, its value) → (when, what `_look_up` found)
        self.known: dict[tuple[str, str], tuple[float, tuple[str, Client] | None]] = {}
        self.counted = (0.0, False)

    def add(self, name: str, scopes: list[str], per_minute: int | None = None) -> str:
        """A new token; its secret. Raises BadInput and UnknownName."""
        if not NAME.fullmatch(name) or name == LOCAL.name:
            raise BadInput(
                f"a token cannot be called {escape(name)!r}",
                "take 1 to 64 letters, digits, dots and dashes",
            )
        for scope in scopes:
            if scope not in SCOPES:
                raise UnknownName("scope", scope, SCOPES)
        secret = f"fn_{secrets.token_urlsafe(32)}"
        row = {
            "name": name,
            "digest": hash_secret(secret),
            "scopes": " ".join(scopes),
            "per_minute": per_minute,
            "created": time.time(),
        }
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(tokens).values(row))
        except IntegrityError:
            raise BadInput(
                f"there is a token {name!r} already", "remove it first, or take another name"
            ) from None
        return secret

    def list(self) -> "list[dict]":
        """All tokens, without their hashes."""
        columns = [c for c in tokens.c if c.name != "digest"]
        with reading(self.engine) as connection:
            rows = connection.execute(select(*columns).order_by(tokens.c.created))
            return [dict(row._mapping) for row in rows]

    def remove(self, name: str) -> None:
        """Raises NotFound where there is none of that name."""
        with self.engine.begin() as connection:
            gone = connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount
        if not gone:
            raise NotFound(f"there is no token {escape(name)!r}", "look at `serve token list`")

    def any(self) -> bool:
        """Whether there are tokens: then every request needs one."""
        now = time.monotonic()
        if now - self.counted[0] > FRESH or not self.counted[0]:
            with reading(self.engine) as connection:
                found = connection.execute(select(tokens.c.name).limit(1)).first() is not None
            self.counted = now, found
        return self.counted[1]

    def find(self, secret: str) -> Client | None:
        """Who has that secret. A token that was removed is known for FRESH seconds at most."""
        found = self._look_up(tokens.c.digest, hash_secret(secret))
        return found[1] if found else None

    def find_name(self, name: str) -> tuple[str, Client] | None:
        """(the hash of the token of that name, who has it); see `find`."""
        return self._look_up(tokens.c.name, name)

    def _look_up(self, column: Column[str], value: str) -> tuple[str, Client] | None:
        key, now = (column.name, value), time.monotonic()
        when, found = self.known.get(key, (-FRESH, None))
        if now - when < FRESH:
            return found
        with reading(self.engine) as connection:
            row = connection.execute(select(tokens).where(column == value)).first()
        if row is None:
            self.known.pop(key, None)
            return None
        found = row.digest, Client(row.name, frozenset(row.scopes.split()), row.per_minute)
        if len(self.known) >= KNOWN:
            self.known.clear()  # the database is asked anew
        self.known[key] = now, found
        return found


def hash_secret(secret: str) -> str:
    """A secret has 256 random bits: one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
