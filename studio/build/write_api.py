"""Writes generated/openapi.json, the server's own document, and from it the types of the page.

`openapi-typescript` turns it into generated/api.d.ts. Neither is committed: every build makes them
anew, so the page's types cannot drift from the server."""

import json
import os
import subprocess
from pathlib import Path

from fromnoise.serve.document import make_document

STUDIO = Path(__file__).parent.parent
GENERATED = STUDIO / "generated"


def main() -> None:
    GENERATED.mkdir(exist_ok=True)
    document, types = GENERATED / "openapi.json", GENERATED / "api.d.ts"
    document.write_text(json.dumps(make_document(), indent=1) + "\n", encoding="utf-8")
    tool = STUDIO / "node_modules/openapi-typescript/bin/cli.js"
    command = ["node", tool, document, "-o", types, "--default-non-nullable=false", "--alphabetize"]
    subprocess.run(command, check=True, env={**os.environ, "NO_COLOR": "1"})


if __name__ == "__main__":
    main()
