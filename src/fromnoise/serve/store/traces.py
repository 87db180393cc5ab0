"""Traces of pictures, each one file by the hash of what was asked: bounded in bytes and in time."""

import io
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fromnoise.files import write_file
from fromnoise.serve.refusals import Refusal

REMEDY = "look at the disk of the server's data folder"


class StoredTrace:
    """A trace as it lies on the disk; tensors are read one by one."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with safe_open(path, "np") as file:
                self.facts: dict[str, Any] = json.loads(file.metadata()["trace"])
                self.names = {*file.keys()}
        except (OSError, SafetensorError):
            raise refuse_gone() from None

    def read(self, name: str) -> np.ndarray | None:
        """A tensor; None where it is not kept."""
        if name not in self.names:
            return None
        try:
            with safe_open(self.path, "np") as file:
                return file.get_tensor(name)
        except (OSError, SafetensorError):
            raise refuse_gone() from None

    def picture(self) -> Image.Image:
        """The picture that the traced run has drawn."""
        data = self.read("picture")
        assert data is not None
        with Image.open(io.BytesIO(data.tobytes()), formats=["PNG"]) as picture:
            return picture.convert("RGB")


class Traces:
    """The folder of traces. What was not looked at the longest goes first where `most` bytes are
    passed, and everything after `seconds` without a look."""

    def __init__(self, folder: Path, most: int, seconds: float):
        self.folder, self.most, self.seconds = folder / "traces", most, seconds
        self.folder.mkdir(exist_ok=True)
        self.lock = threading.Lock()  # a frame is decoded once

    def path(self, trace: str) -> Path:
        """Where the file of a trace is, or would be."""
        assert len(trace) == 32
        return self.folder / trace[:2] / f"{trace}.safetensors"

    def has(self, trace: str) -> bool:
        """Whether it is there; if so, it stays for a while."""
        try:
            os.utime(self.path(trace))
        except OSError:
            return False
        return True

    def open(self, trace: str) -> StoredTrace:
        """Raises Refusal where it is not there (any more)."""
        if not self.has(trace):
            raise refuse_gone()
        return StoredTrace(self.path(trace))

    def add(
        self, trace: str, facts: dict[str, Any], tensors: dict[str, np.ndarray], picture: bytes
    ) -> None:
        """Keeps a trace, with the PNG file of its picture, and makes room for it."""
        tensors = tensors | {"picture": np.frombuffer(picture, np.uint8)}
        whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        metadata = {"trace": json.dumps(facts)}
        write_file(self.path(trace), lambda part: save_file(whole, part, metadata), remedy=REMEDY)
        self.clean(keep=trace)

    def frame(
        self, trace: str, name: str, make: Callable[[], tuple[Image.Image, bool]]
    ) -> tuple[bytes, str]:
        """(a decoded picture as a PNG file, what decoded it: "vae" or "likeness"), made when it is
        first asked for. make: the picture, and whether the model's decoder made it."""
        with self.lock:
            for by in ("vae", "likeness"):
                path = self.path(trace).with_name(f"{trace}-{name}-{by}.png")
                if path.exists():
                    return path.read_bytes(), by
            picture, exact = make()
            data, by = encode_png(picture), "vae" if exact else "likeness"
            path = self.path(trace).with_name(f"{trace}-{name}-{by}.png")
            write_file(path, lambda part: part.write_bytes(data), remedy=REMEDY)
        return data, by

    def clean(self, keep: str = "") -> None:
        """Removes what is too old, and what is too much."""
        now, found = time.time(), []
        for path in self.folder.glob("*/*.safetensors"):
            try:
                found.append((path.stat().st_mtime, path))
            except OSError:  # gone meanwhile
                continue
        total = sum(measure_bytes(path) for _, path in found)
        for used, path in sorted(found):
            if path.stem != keep and (now - used > self.seconds or total > self.most):
                total -= measure_bytes(path)
                for part in list_parts(path):
                    part.unlink(missing_ok=True)


def list_parts(path: Path) -> list[Path]:
    """The file of a trace and of its decoded pictures."""
    return [path, *path.parent.glob(f"{path.stem}-*.png")]


def measure_bytes(path: Path) -> int:
    """Of a trace and its decoded pictures."""
    total = 0
    for part in list_parts(path):
        try:
            total += part.stat().st_size
        except OSError:
            continue
    return total


def encode_png(picture: Image.Image) -> bytes:
    """A picture as a PNG file without its settings."""
    data = io.BytesIO()
    picture.convert("RGB").save(data, "PNG")
    return data.getvalue()


def refuse_gone() -> Refusal:
    """For a trace that is not there."""
    return Refusal(
        404, "not_found", "this trace is not there, or not any more", "ask for it again: POST"
    )
