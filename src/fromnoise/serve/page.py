"""The studio's page: the built site, sent by the server that draws. `make site` builds it."""

from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from fromnoise.errors import NotFound
from fromnoise.learn.server import FOLDER, HEADERS, TYPES, has_site
from fromnoise.serve.refusals import Refusal

STUDIO = "/studio.html"
HASHED = "/assets/"  # their names hold the hash of their content
CSP = "content-security-policy"
HERE = {"server-timing": "fromnoise"}  # by it the page knows that this server is behind it
COMMON = {name.lower(): value for name, value in HEADERS.items()}
# stricter than the course's pages, whose formulas and editor write styles. Its workers have the
# policy of their own files.
STRICT = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


def list_files(folder: Path) -> dict[str, Path]:
    """Path of an address → file of the site. Raises NotFound where the site is not built."""
    if not has_site(folder) or not (folder / STUDIO[1:]).is_file():
        raise NotFound(
            "the studio's page is not built",
            "run `make studio` in a checkout; a wheel from the package index brings the page",
        )
    found = (file for file in folder.rglob("*") if file.is_file())
    return {f"/{file.relative_to(folder).as_posix()}": file for file in found}


def add_page(app: FastAPI, folder: Path = FOLDER) -> set[str]:
    """Adds the page's files to an application; their paths. No other file can be asked for."""
    files = list_files(folder)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def open_studio() -> Response:
        return RedirectResponse(STUDIO, 307)

    @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def get_file(path: str, request: Request) -> Response:
        name = f"/{path}" + ("index.html" if path.endswith("/") else "")
        file = files.get(name)
        if file is None or not file.is_file():
            raise Refusal(404, "not_found", "there is no such page", "open /")
        headers = COMMON | ({CSP: STRICT, **HERE} if name == STUDIO else {})
        if name.startswith(HASHED):
            headers["cache-control"] = "public, max-age=31536000, immutable"
        kind = TYPES.get(file.suffix, "application/octet-stream")
        answer = FileResponse(file, media_type=kind, headers=headers, stat_result=file.stat())
        if request.headers.get("if-none-match") == answer.headers["etag"]:
            return Response(status_code=304, headers=headers | {"etag": answer.headers["etag"]})
        return answer

    return {"/", *files}
