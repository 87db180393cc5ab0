"""Hub ids, against a server on this machine that answers as the hub does."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fromnoise.checkpoints.download import HUB_ID, choose_files, choose_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "89abcdef0123456789abcdef0123456789abcdef"
FILES = [
    "README.md",
    "model_index.json",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/nested/file.json",
]
READ = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


class Hub(BaseHTTPRequestHandler):
    """/api/models/<repo>/revision/<r>, and /<repo>/resolve/<r>/<file>; it notes what it gave."""

    given: set[str]
    tokens: set[str | None]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.tokens.add(self.headers.get("Authorization"))
        path = self.path.partition("?")[0]
        if not path.removeprefix("/api/models").startswith("/owner/name"):
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        revision = OLDER if "/older" in path or OLDER in path else COMMIT
        if path.startswith("/api/models"):
            if "/tree/" in path:
                rows = [{"type": "file", "path": f, "size": len(f), "oid": sha(f)} for f in FILES]
                return self.answer(200, json.dumps(rows).encode())
            info = {"id": "owner/name", "sha": revision, "private": False}
            info["siblings"] = [{"rfilename": file} for file in FILES]  # type: ignore[assignment]
            return self.answer(200, json.dumps(info).encode())
        file = path.split("/resolve/")[1].partition("/")[2]
        if file not in FILES:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.given.add(file)
        facts = {"X-Repo-Commit": revision, "ETag": f'"{sha(file)}"'}
        self.answer(200, file.encode(), facts)

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def sha(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    handler = type("OneHub", (Hub,), {"given": set(), "tokens": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def find(server: ThreadingHTTPServer, name: str, home: Path, **variables: str) -> list[str]:
    """[the path that `find_elsewhere` gives, the notes] in a new process with that hub."""
    code = (
        "import sys, warnings; from pathlib import Path; "
        "from fromnoise.checkpoints.download import find_elsewhere; "
        "from fromnoise.errors import FromnoiseError\n"
        "with warnings.catch_warnings(record=True) as notes:\n"
        "    warnings.simplefilter('always')\n"
        "    try: print(find_elsewhere(sys.argv[1], Path(sys.argv[1])))\n"
        "    except FromnoiseError as error: print('!', error.message, error.remedy)\n"
        "print([str(n.message) for n in notes if n.category is UserWarning])"
    )
    known = {"HOME": str(home), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    known |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    run = [sys.executable, "-c", code, name]
    done = subprocess.run(
        run, capture_output=True, text=True, env=known | variables, cwd=home, check=True
    )
    return done.stdout.splitlines()


def test_of_a_pipeline_only_what_is_read_is_fetched(hub, tmp_path: Path):
    path, notes = find(hub, "owner/name", tmp_path, HF_TOKEN="hf_secret")
    assert path.endswith(f"models--owner--name/snapshots/{COMMIT}")
    assert sorted(hub.RequestHandlerClass.given) == READ
    assert hub.RequestHandlerClass.tokens >= {"Bearer hf_secret"}
    assert notes == "[]"


def test_a_revision_and_a_single_file_can_be_named(hub, tmp_path: Path):
    assert find(hub, "owner/name@older", tmp_path)[0].endswith(OLDER)
    hub.RequestHandlerClass.given.clear()
    path = find(hub, "owner/name/v1-5-pruned.safetensors", tmp_path)[0]
    assert Path(path).read_text() == "v1-5-pruned.safetensors"
    assert hub.RequestHandlerClass.given == {"v1-5-pruned.safetensors"}


def test_without_the_hub_the_cache_suffices_and_it_is_said(hub, tmp_path: Path):
    first = find(hub, "owner/name", tmp_path)[0]
    again, notes = find(hub, "owner/name", tmp_path, HF_HUB_OFFLINE="1")
    assert (again, notes) == (first, "[]")  # the user wants it so
    port = hub.server_port
    hub.shutdown()
    hub.server_close()
    again, notes = find(hub, "owner/name", tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert again == first
    assert "cannot be reached" in notes


def test_what_the_hub_has_not_says_the_remedy(hub, tmp_path: Path):
    refusal = find(hub, "other/name", tmp_path)[0]
    assert refusal.startswith("! no model 'other/name'")
    assert "hf auth login" in refusal
    refusal = find(hub, "./other/name", tmp_path)[0]
    assert "does not exist" in refusal
    assert "fromnoise models" in refusal


def test_hub_ids_are_told_from_paths():
    assert HUB_ID.fullmatch("owner/name@refs/pr/3")["revision"] == "refs/pr/3"
    assert HUB_ID.fullmatch("o/n/sub/a b.ckpt@main")["file"] == "/sub/a b.ckpt"
    for name in ("name", "a/b/c", "../x/y", "/a/b", "a/../b.ckpt", "a/b/../../c.ckpt", "a/b@"):
        assert HUB_ID.fullmatch(name) is None, name


def test_the_files_of_a_pipeline_are_chosen():
    assert choose_files(FILES) == sorted(READ, key=READ.index)
    assert choose_files(["a.safetensors"]) == []
    index = "model.safetensors.index.json"
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert choose_weights([*shards, index]) == [*shards, index]
    assert choose_weights(shards) == []  # an index tells which are all
    assert choose_weights([*shards, index, "model.safetensors"]) == ["model.safetensors"]
    half = ["model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"]
    assert choose_weights(half) == half
    two = ["pytorch_model.bin", "model.fp16.safetensors"]
    assert choose_weights(two) == choose_weights(two, "fp16") == two[1:]
    assert choose_weights(["pytorch_model.bin", "config.json"]) == ["pytorch_model.bin"]
