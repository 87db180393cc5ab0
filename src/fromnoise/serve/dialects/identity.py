"""Who asks, for the handlers of every dialect."""

from collections.abc import Callable

from fastapi import Request

from fromnoise.serve.refusals import Refusal
from fromnoise.serve.safety.tokens import Client


def need(scope: str) -> Callable[[Request], Client]:
    """A dependency: the client of a request, which must have that scope."""

    def find_client(request: Request) -> Client:
        client: Client = request.state.client
        if scope not in client.scopes:
            raise Refusal(
                403,
                "no_scope",
                f"this token may not do that: it lacks {scope!r}",
                "make one with `fromnoise serve token add --scope`",
            )
        return client

    return find_client
