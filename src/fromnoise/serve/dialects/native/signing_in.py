"""Signing in: a page gives a token once, and its browser keeps a session in place of it."""

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.clients import find_peer, read_secret, read_session
from fromnoise.serve.safety.origins import is_foreign
from fromnoise.serve.safety.sessions import COOKIE, SECONDS
from fromnoise.serve.safety.tokens import LOCAL, SCOPES
from fromnoise.serve.server import Server


class SessionIn(BaseModel):
    """A token that a page was given by its user."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=400)


class SessionOut(BaseModel):
    """Who is signed in."""

    needed: bool = Field(description="Whether this server needs a token.")
    signed_in: bool = Field(description="Whether this request brought one that the server knows.")
    name: str | None = Field(description="Of that token.")
    scopes: list[str] = Field(
        description="What this request's sender may do: draw, gallery, admin."
    )


def refuse_foreign(request: Request) -> None:
    """Raises Refusal for a page of another origin: it could sign somebody in as somebody else."""
    if is_foreign(request):
        raise Refusal(
            403,
            "foreign_origin",
            "only this server's own page can sign in and out",
            "send `Authorization: Bearer` with each request",
        )


def describe_cookie(request: Request) -> dict:
    """How the cookie is kept: only for pages of this server, and out of reach of scripts."""
    secure = request.url.scheme == "https"  # or a proxy adds TLS, and the page names it
    secure = secure or request.headers.get("origin", "").startswith("https://")
    return {"key": COOKIE, "path": "/", "secure": secure, "httponly": True, "samesite": "strict"}


def add_session(router: APIRouter, server: Server) -> None:
    """The routes."""
    clients, own = server.clients, [Depends(refuse_foreign)]

    @router.get("/session", tags=["session"])
    async def get_session(request: Request, response: Response) -> SessionOut:
        """Whether this server needs a token, and whether the request brought one that it knows."""
        needed, client = await clients.need_token(), None
        if needed and (read_secret(request) or read_session(request)):
            try:
                client = await clients.identify(request)
            except Refusal as refusal:
                if refusal.status != 401:
                    raise
                response.delete_cookie(**describe_cookie(request))
        known = client or (None if needed else LOCAL)
        return SessionOut(
            needed=needed,
            signed_in=client is not None,
            name=client.name if client else None,
            scopes=[scope for scope in SCOPES if known and scope in known.scopes],
        )

    @router.post("/session", status_code=204, tags=["session"], dependencies=own)
    async def sign_in(request: Request, response: Response, asked: SessionIn | None = None) -> None:
        """Signs a browser in: takes a token, in the body or as `Authorization`, and gives a cookie
        that works in place of it for 30 days, for requests of this server's own page alone."""
        if not await clients.need_token():
            raise Refusal(400, "no_token_needed", "this server needs no token", "go on without one")
        secret = asked.token if asked else read_secret(request)
        client = await clients.admit(secret, request)
        server.audit.write("sign in", client.name, address=find_peer(request.scope))
        session = clients.sessions.write(client, secret)
        response.set_cookie(value=session, max_age=SECONDS, **describe_cookie(request))

    @router.delete("/session", status_code=204, tags=["session"], dependencies=own)
    def sign_out(request: Request, response: Response) -> None:
        """Signs a browser out: its session ends, and it forgets the cookie."""
        if client := clients.sessions.end(request.cookies.get(COOKIE, "")):
            server.audit.write("sign out", client.name, address=find_peer(request.scope))
        response.delete_cookie(**describe_cookie(request))
