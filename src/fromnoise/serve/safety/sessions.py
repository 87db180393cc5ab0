"""Sessions: what a browser keeps in place of a token, in a cookie that no script can read.

A session names a token, says until when it works, and has a MAC of both and of the token's hash. So
it outlives the server's restart, and ends when its token is removed. The database keeps those that
a browser signed out of: a copy of the cookie works no more."""

import hashlib
import hmac
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from fromnoise.serve.database.opening import reading
from fromnoise.serve.database.tables import ended_sessions
from fromnoise.serve.safety.links import read_key
from fromnoise.serve.safety.tokens import Client, Tokens, hash_secret

COOKIE = "fromnoise_session"
SECONDS = 30 * 24 * 3600  # that a session works
VALUE = re.compile(r"((?:[0-9a-f]{2}){1,256})\.([0-9]{1,12})\.([0-9a-f]{16})\.([0-9a-f]{64})")


class Sessions:
    """Signs and reads sessions with a key of the data folder, which all its servers share."""

    def __init__(self, folder: Path, tokens: Tokens):
        self.key, self.tokens = read_key(folder / "sessions.key"), tokens

    def write(self, client: Client, secret: str) -> str:
        """A session of a client, who has that token; it works from now on for SECONDS."""
        until, salt = int(time.time()) + SECONDS, secrets.token_hex(8)
        mac = self._sign(hash_secret(secret), until, salt)
        return f"{client.name.encode().hex()}.{until}.{salt}.{mac}"

    def read(self, value: str) -> Client | None:
        """Who has a session; None where it was not signed here, has ended, or its token is gone."""
        parts = VALUE.fullmatch(value)
        if parts is None or int(parts[2]) < time.time():
            return None
        name, until, salt, mac = parts.groups()
        found = self.tokens.find_name(bytes.fromhex(name).decode(errors="replace"))
        if found is None or not hmac.compare_digest(self._sign(found[0], int(until), salt), mac):
            return None
        with reading(self.tokens.engine) as connection:
            ended = select(ended_sessions.c.mac).where(ended_sessions.c.mac == mac)
            return None if connection.execute(ended).first() else found[1]

    def end(self, value: str) -> Client | None:
        """Ends a session before its time; who had it."""
        client = self.read(value)
        if client is not None:
            _, until, _, mac = value.split(".")
            old = ended_sessions.c.until < time.time()  # which works no more anyway
            # another request may have ended it just now
            with suppress(IntegrityError), self.tokens.engine.begin() as connection:
                connection.execute(delete(ended_sessions).where(old))
                connection.execute(insert(ended_sessions).values(mac=mac, until=int(until)))
        return client

    def _sign(self, digest: str, until: int, salt: str) -> str:
        return hmac.new(self.key, f"{digest} {until} {salt}".encode(), hashlib.sha256).hexdigest()
