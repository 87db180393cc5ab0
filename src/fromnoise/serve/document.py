"""The OpenAPI document of this server, for what is made from it: the page's types, and a table."""

import tempfile
from pathlib import Path
from typing import Any

from fromnoise.serve.app import make_app
from fromnoise.serve.server import Server
from fromnoise.serve.settings import Settings


def make_document() -> dict[str, Any]:
    """The document. No job is drawn for it."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Settings(Path(folder)), worker=None)  # type: ignore[arg-type]
        try:
            return make_app(server).openapi()
        finally:
            server.database.dispose()
            if server.lock is not None:
                server.lock.close()
