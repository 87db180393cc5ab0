"""A server for the built pages of the course, on this machine alone: GET and HEAD of files.

A page may use threads only if it was sent with two headers (COOP and COEP); a file opened from the
disk has none. No request is logged, and nothing is written.
"""

from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj
from urllib.parse import unquote, urlsplit

from fromnoise.errors import BadInput

FOLDER = Path(__file__).parent / "site"  # `make site` writes it; the wheel carries it
HOST, PORT = "127.0.0.1", 8320
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".zip": "application/zip",
}
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a new build is seen at once
    # As in the pages, but a header holds for workers too, where readers' own code runs.
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'self'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "connect-src 'self' http://localhost:* http://127.0.0.1:*",
            "worker-src 'self' blob:",
            "frame-ancestors 'none'",
        ]
    ),
}


def has_site(folder: Path | None = None) -> bool:
    return ((folder or FOLDER) / "index.html").is_file()


def make_server(folder: Path | None = None, port: int = PORT) -> ThreadingHTTPServer:
    """A server that listens at once; port 0 takes a free one. Raises BadInput."""
    try:
        server = ThreadingHTTPServer((HOST, port), partial(SiteHandler, folder or FOLDER))
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"port {port} cannot be used ({error})", "choose another with --port"
        ) from error
    server.daemon_threads = True  # an open connection does not keep the program alive
    return server


class SiteHandler(BaseHTTPRequestHandler):
    """Sends the files of one folder."""

    server_version, sys_version = "fromnoise", ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a silent connection stays open

    def __init__(self, folder: Path, *args, **options) -> None:
        self.folder = folder.resolve()
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        self.send(body=True)

    def do_HEAD(self) -> None:
        self.send(body=False)

    def find_file(self) -> Path | None:
        """The file that the address names; a folder's name with / stands for its index.html."""
        path = unquote(urlsplit(self.path).path)
        if "\0" in path or "\\" in path:
            return None
        if path.endswith("/"):
            path += "index.html"
        file = (self.folder / path.lstrip("/")).resolve()
        return file if file.is_relative_to(self.folder) and file.is_file() else None

    def send(self, body: bool) -> None:
        file, status = self.find_file(), HTTPStatus.OK
        if file is None:
            file, status = self.folder / "404.html", HTTPStatus.NOT_FOUND
            if not file.is_file():
                return self.send_error(status)
        with file.open("rb") as source:
            self.send_response(status)
            self.send_header("Content-Type", TYPES.get(file.suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(file.stat().st_size))
            self.end_headers()
            if body:
                try:
                    copyfileobj(source, self.wfile)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the reader went on to another page

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args) -> None:
        pass
