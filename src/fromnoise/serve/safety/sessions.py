"""Sessions: what a browser keeps in place of a token, in a cookie that no script can read.

A session names a token, says until when it works, and has a MAC of both and of the token's hash. So
it outlives the server's restart, and ends when its token is removed."""

import hashlib
import hmac
import re
import time
from pathlib import Path

from fromnoise.serve.safety.links import read_key
from fromnoise.serve.safety.tokens import Client, Tokens, hash_secret

COOKIE = "fromnoise_session"
SECONDS = 30 * 24 * 3600  # that a session works
VALUE = re.compile(r"((?:[0-9a-f]{2}){1,256})\.([0-9]{1,12})\.([0-9a-f]{64})")


class Sessions:
    """Signs and reads sessions with a key of the data folder, which all its servers share."""

    def __init__(self, folder: Path, tokens: Tokens):
        self.key, self.tokens = read_key(folder / "sessions.key"), tokens

    def write(self, client: Client, secret: str) -> str:
        """A session of a client, who has that token; it works from now on for SECONDS."""
        until = int(time.time()) + SECONDS
        return f"{client.name.encode().hex()}.{until}.{self._sign(hash_secret(secret), until)}"

    def read(self, value: str) -> Client | None:
        """Who has a session; None where it was not signed here, is over, or its token is gone."""
        parts = VALUE.fullmatch(value)
        if parts is None or int(parts[2]) < time.time():
            return None
        found = self.tokens.find_name(bytes.fromhex(parts[1]).decode(errors="replace"))
        if found is None or not hmac.compare_digest(self._sign(found[0], int(parts[2])), parts[3]):
            return None
        return found[1]

    def _sign(self, digest: str, until: int) -> str:
        return hmac.new(self.key, f"{digest} {until}".encode(), hashlib.sha256).hexdigest()
