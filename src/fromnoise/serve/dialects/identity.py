"""What the handlers of every dialect have in common: who asks, and the refusals they may answer."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel

from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.tokens import Client

REASONS = {
    400: "What was sent cannot be used.",
    401: "A token is needed.",
    403: "The token may not do that, or the page is of another origin.",
    404: "It is not there.",
    413: "It is too large.",
    422: "A value cannot be used.",
    429: "Too many: Retry-After says when to come back.",
    503: "The server ends.",
}


def describe_refusals(
    error: type[BaseModel], more: Mapping[int, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a dialect's refusals: error is the shape of their bodies; more: statuses
    of its own, or other reasons."""
    reasons = REASONS | dict(more or {})
    return {status: {"model": error, "description": text} for status, text in reasons.items()}


def need(*scopes: str) -> Callable[[Request], Client]:
    """A dependency: the client of a request, which must have one of these scopes."""

    def find_client(request: Request) -> Client:
        client: Client = request.state.client
        if client.scopes.isdisjoint(scopes):
            raise Refusal(
                403,
                "no_scope",
                f"this token may not do that: it lacks {' or '.join(map(repr, scopes))}",
                "make one with `fromnoise serve token add --scope`",
            )
        return client

    return find_client


# the client of a request, by what it must be allowed
Drawer = Annotated[Client, Depends(need("draw"))]
Viewer = Annotated[Client, Depends(need("gallery"))]
Looker = Annotated[Client, Depends(need("draw", "gallery"))]  # at what it drew, or at all
Admin = Annotated[Client, Depends(need("admin"))]
