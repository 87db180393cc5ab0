"""Textual inversions, one file each: A1111's, those of diffusers and of kohya's trainer, and those
of Stable Diffusion XL, with a part for each text encoder."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fromnoise.checkpoints.configs import open_file
from fromnoise.checkpoints.foreign import recognise
from fromnoise.checkpoints.sources import open_tensors
from fromnoise.checkpoints.tensors import Stored
from fromnoise.errors import BadCheckpoint, escape
from fromnoise.prompt.inversions import MOST

LONGEST_NAME = 255  # signs
WIDEST = 16_384  # numbers of one vector
# what the two parts of Stable Diffusion XL are called: by most programs, and by diffusers' trainers
PARTS = {"clip_l": "clip_l", "clip_g": "clip_g"}
PARTS |= {"text_encoders_0": "clip_l", "text_encoders_1": "clip_g"}
A1111 = "string_to_param."
PLAIN = ("emb_params", f"{A1111}*", "*")  # keys that are no names
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8")
REMEDY = "give the .pt, .bin or .safetensors file of a textual inversion"


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a file holds. parts: "" for one text encoder, or "clip_l" and "clip_g" → vectors
    (n, dim) in fp32. token: the name that the file itself gives it, or ""."""

    parts: dict[str, Tensor]
    token: str
    digest: str  # the first 12 signs of the file's SHA-256, as A1111 has it

    @property
    def vectors(self) -> int:
        """How many tokens it takes the place of."""
        return len(next(iter(self.parts.values())))


def load(path: Path) -> Embedding:
    """The textual inversion of a file. Raises NotFound, and BadCheckpoint for what is none."""
    with open_file(path) as file:
        if file.read(4) in PICTURES:
            fault = f"{path} is a picture: embeddings that are hidden in pictures cannot be read"
            raise BadCheckpoint(fault, REMEDY)
    source = open_tensors(path)
    names, token = find_parts(source.stored, path)
    parts = make_parts(source.read(keys=set(names.values())), names, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return Embedding(parts, token, digest)


def make_parts(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], path: Path
) -> dict[str, Tensor]:
    """The vectors of each part. names: as `find_parts` has them. Raises BadCheckpoint."""
    parts = {}
    for part, key in names.items():
        vectors = tensors[key].float()
        if not vectors.isfinite().all():
            fault = f"{path}: {key[:200]} holds NaN or infinite numbers"
            raise BadCheckpoint(fault, "fetch the file again")
        parts[part] = vectors.view(-1, vectors.shape[-1])
    return parts


def read_bundled(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The parts of a textual inversion that lies in the file of something else, from its tensors
    there. Raises BadCheckpoint."""
    stored = {k: Stored(t.dtype, tuple(t.shape), 0, t.nbytes) for k, t in tensors.items()}
    return make_parts(tensors, find_parts(stored, path)[0], path)


def find_parts(stored: Mapping[str, Stored], path: Path) -> tuple[dict[str, str], str]:
    """({part: its key in the file}, the name that the file gives it). Raises BadCheckpoint for
    tensors that are no textual inversion."""
    found = recognise(stored)
    if found is not None and found.kind != "embedding":
        fault = f"{path} is no textual inversion: it is {found.name} ({found.reason})"
        raise BadCheckpoint(fault, REMEDY)
    # beside its vectors A1111 keeps the ids of tokens
    vectors = {key: entry for key, entry in stored.items() if entry.dtype.is_floating_point}
    if trained := {key: entry for key, entry in vectors.items() if key.startswith(A1111)}:
        vectors = trained
    names = {PARTS[key]: key for key in vectors if key in PARTS}
    if names and names.keys() != {"clip_l", "clip_g"}:
        missing = ({"clip_l", "clip_g"} - names.keys()).pop()
        raise BadCheckpoint(f"{path} holds no {missing}: half of an embedding", REMEDY)
    if not names and len(vectors) != 1:
        some = ", ".join(escape(key, 60) for key in [*vectors][:4])
        fault = f"{path} holds {len(vectors)} terms ({some}) where an embedding has one"
        raise BadCheckpoint(fault, REMEDY)
    names = names or {"": next(iter(vectors))}
    for key in names.values():
        shape = vectors[key].shape
        count = shape[0] if len(shape) == 2 else 1
        if len(shape) not in (1, 2) or not 0 < count <= MOST or not 0 < shape[-1] <= WIDEST:
            expected = f"1 to {MOST} vectors of at most {WIDEST:,} numbers"
            raise BadCheckpoint(f"{path}: {key[:200]} is {shape}, not {expected}", REMEDY)
    if len({vectors[key].shape[:-1] for key in names.values()}) > 1:
        fault = f"{path}: its parts for the two text encoders differ in their number of vectors"
        raise BadCheckpoint(fault, REMEDY)
    key = names.get("", PLAIN[0])
    named = key not in PLAIN and not key.startswith(A1111)
    # what no prompt could hold is no name
    return names, key if named and key.isprintable() and len(key) <= LONGEST_NAME else ""
