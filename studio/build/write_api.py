"""Writes generated/openapi.json, the server's own document, and from it the types of the page.

`openapi-typescript` turns it into generated/api.d.ts. Neither is committed: every build makes them
anew, so the page's types cannot drift from the server."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from fromnoise.serve.app import make_app
from fromnoise.serve.server import Server
from fromnoise.serve.settings import Settings

STUDIO = Path(__file__).parent.parent
GENERATED = STUDIO / "generated"


def make_document() -> dict:
    """The OpenAPI document. No job is drawn for it."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Settings(Path(folder)), worker=None)  # type: ignore[arg-type]
        try:
            return make_app(server).openapi()
        finally:
            server.database.dispose()
            if server.lock is not None:
                server.lock.close()


def main() -> None:
    GENERATED.mkdir(exist_ok=True)
    document, types = GENERATED / "openapi.json", GENERATED / "api.d.ts"
    document.write_text(json.dumps(make_document(), indent=1) + "\n", encoding="utf-8")
    tool = STUDIO / "node_modules/openapi-typescript/bin/cli.js"
    command = ["node", tool, document, "-o", types, "--default-non-nullable=false", "--alphabetize"]
    subprocess.run(command, check=True, env={**os.environ, "NO_COLOR": "1"})


if __name__ == "__main__":
    main()
