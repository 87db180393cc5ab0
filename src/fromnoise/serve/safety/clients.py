"""Who asks: the token of a request, or the session of a page that was given one."""

import base64
import binascii
import time
from typing import NoReturn

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import Scope

from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.audit import Audit
from fromnoise.serve.safety.origins import is_own_page
from fromnoise.serve.safety.sessions import COOKIE, Sessions
from fromnoise.serve.safety.tokens import LOCAL, Client, Tokens
from fromnoise.serve.settings import Settings

WRONG = 60  # requests a minute of one address without a token, or with a wrong one
CLIENTS = 10_000  # whose rates are remembered


class Rates:
    """How many requests each client may still send: a bucket that fills up again in a minute."""

    def __init__(self) -> None:
        self.buckets: dict[str, tuple[float, float]] = {}  # name → (when, what was left)

    def take(self, name: str, per_minute: int) -> float:
        """0 where a request may pass, else the seconds until one may."""
        now = time.monotonic()
        when, left = self.buckets.pop(name, (now, float(per_minute)))
        left = min(left + (now - when) * per_minute / 60, per_minute)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / per_minute
        self.buckets[name] = now, left if wait else left - 1
        if len(self.buckets) > CLIENTS:
            del self.buckets[next(iter(self.buckets))]
        return wait


class Clients:
    """Finds out who asks. Wrong tokens are counted and written down."""

    def __init__(self, settings: Settings, tokens: Tokens, audit: Audit):
        self.settings, self.tokens, self.audit = settings, tokens, audit
        self.sessions, self.rates = Sessions(settings.folder, tokens), Rates()

    async def need_token(self) -> bool:
        """Whether a request needs a token."""
        return not self.settings.is_local or await run_in_threadpool(self.tokens.any)

    async def identify(self, request: HTTPConnection) -> Client:
        """Who asks. Raises Refusal where a token is needed and none, or a wrong one, is given."""
        client = await self.find(request)
        return client or self._deny(request, read_secret(request) or read_session(request))

    async def find(self, request: HTTPConnection) -> Client | None:
        """Who asks; None where a token is needed and none, or a wrong one, is given."""
        if not await self.need_token():
            return LOCAL
        secret, session = read_secret(request), read_session(request)
        if session and not secret:
            return await run_in_threadpool(self.sessions.read, session)
        return await run_in_threadpool(self.tokens.find, secret) if secret else None

    async def admit(self, secret: str, request: HTTPConnection) -> Client:
        """Who has a token. Raises Refusal for none and for a wrong one."""
        client = await run_in_threadpool(self.tokens.find, secret) if secret else None
        return client or self._deny(request, secret)

    def _deny(self, request: HTTPConnection, given: str) -> NoReturn:
        peer = find_peer(request.scope)
        if wait := self.rates.take(f"unknown {peer}", WRONG):
            raise Refusal(429, "too_many_requests", "too many wrong tokens", "wait", wait)
        if given:
            self.audit.write("denied", "", address=peer, path=request.scope["path"][:200])
        raise refuse_stranger()


def refuse_stranger() -> Refusal:
    """For a request whose client is not known, or no longer."""
    return Refusal(
        401,
        "no_token",
        "this server needs a token that it knows",
        "send `Authorization: Bearer` and a token of `fromnoise serve token add`",
    )


def find_peer(scope: Scope) -> str:
    """The address that a request comes from."""
    return (scope.get("client") or ("",))[0]


def read_session(request: HTTPConnection) -> str:
    """The session of a request; "" where it has none, or a page of another server sends it."""
    return request.cookies.get(COOKIE, "") if is_own_page(request) else ""


def read_secret(request: HTTPConnection) -> str:
    """The secret in the Authorization header: after Bearer, or the password of Basic, or its user
    where the password is empty; "" where there is none."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            return password or user
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
