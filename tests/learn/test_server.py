"""The built pages over HTTP: a folder, its headers, and nothing around it."""

import http.client
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest

from fromnoise.errors import BadInput
from fromnoise.learn import server as serving

FILES = {
    "index.html": b"<h1>the course</h1>",
    "404.html": b"<h1>no such page</h1>",
    "docs/index.html": b"<h1>documents</h1>",
    "assets/main.js": b"export {}",
    "runtimes/ort.wasm.packed": b"\x1f\x8b",
    "model/unet.pack": b"12345",
    "sources/src/fromnoise/api.py.txt": b"x = 1",
}


@pytest.fixture
def folder(tmp_path):
    site = tmp_path / "site"
    for name, content in FILES.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "secret.txt").write_text("outside")
    (site / "link.txt").symlink_to(tmp_path / "secret.txt")
    return site


@pytest.fixture
def address(folder):
    server = serving.make_server(folder, port=0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address
    server.shutdown()
    thread.join()
    server.server_close()


def ask(address, path, method="GET", **headers):
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


@pytest.mark.parametrize(
    ("path", "kind", "file"),
    [
        ("/", "text/html; charset=utf-8", "index.html"),
        ("/index.html?question=cfg", "text/html; charset=utf-8", "index.html"),
        ("/docs/", "text/html; charset=utf-8", "docs/index.html"),
        ("/assets/main.js", "text/javascript; charset=utf-8", "assets/main.js"),
        ("/runtimes/ort.wasm.packed", "application/octet-stream", "runtimes/ort.wasm.packed"),
        ("/model/unet.pack?abc", "application/octet-stream", "model/unet.pack"),
        (
            "/sources/src/fromnoise/api%2Epy.txt",
            "text/plain; charset=utf-8",
            "sources/src/fromnoise/api.py.txt",
        ),
    ],
)
def test_a_file_is_sent_with_its_type_and_the_headers(address, path, kind, file):
    answer, body = ask(address, path)
    assert (answer.status, body) == (200, FILES[file])
    assert answer.headers["Content-Type"] == kind
    # packed files are expanded in the tab: the browser must not do it
    assert answer.headers["Content-Encoding"] is None
    for name, value in serving.HEADERS.items():
        assert answer.headers[name] == value
    answer, body = ask(address, path, "HEAD")
    assert (answer.status, body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(FILES[file]))


@pytest.mark.parametrize(
    "path",
    [
        "/none.html",
        "/docs",
        "/assets/",  # no listing
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "//etc/passwd",
        "/link.txt",  # leads out of the folder
        "/index.html%00.png",
        "/" + "a" * 5000,
    ],
)
def test_nothing_else_is_sent(address, path):
    try:
        answer, body = ask(address, path)
    except http.client.HTTPException:
        return
    assert answer.status in (404, 414)
    assert b"outside" not in body
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(address, method):
    assert ask(address, "/index.html", method)[0].status == 501


def test_a_port_in_use_is_a_message():
    with socket.socket() as taken:
        taken.bind((serving.HOST, 0))
        taken.listen()
        with pytest.raises(BadInput) as error:
            serving.make_server(port=taken.getsockname()[1])
    assert "--port" in error.value.remedy


def test_only_this_machine_is_listened_to(address):
    assert address[0] == "127.0.0.1"


def test_the_command_serves_until_ctrl_c(folder):
    code = (
        "import sys; from pathlib import Path; from fromnoise.learn import server; "
        "server.FOLDER = Path(sys.argv.pop(1)); from fromnoise.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, str(folder), "learn", "--no-browser", "--port", "0"]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # a shell starts what runs in the background with Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http"))
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.read() == FILES["index.html"]
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=10) == 0
    finally:
        child.kill()
        child.communicate()
