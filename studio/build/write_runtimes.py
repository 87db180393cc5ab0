"""Writes studio/generated/runtimes/: ONNX Runtime and Pyodide from node_modules, with their
WebAssembly compressed (the tab expands it), and a manifest of sizes and hashes.

A static host often sends .wasm files as they are: 14 MB in place of 4."""

import gzip
import hashlib
import json
from pathlib import Path

STUDIO = Path(__file__).parents[1]
PACKAGES = STUDIO / "node_modules"
FOLDER = STUDIO / "generated/runtimes"
FILES = (
    "onnxruntime-web/dist/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort.webgpu.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm",
    "pyodide/pyodide.mjs",
    "pyodide/pyodide.asm.mjs",
    "pyodide/pyodide.asm.wasm",
    "pyodide/python_stdlib.zip",
    "pyodide/pyodide-lock.json",
)


def write_runtimes() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    manifest = {}
    for file in FILES:
        content, name = (PACKAGES / file).read_bytes(), Path(file).name
        if (
            name == "pyodide-lock.json"
        ):  # of the packages that Pyodide could fetch, the tab has none
            content = json.dumps(json.loads(content) | {"packages": {}}).encode()
        if name.endswith(".wasm"):
            content, name = gzip.compress(content, 9, mtime=0), name + ".packed"
        path = FOLDER / name
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        manifest[name] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    (FOLDER / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_runtimes()
