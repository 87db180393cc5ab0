"""DIALECTS: the registry of the words in which HTTP may ask for pictures. One file a dialect."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """A dialect. Its module has `make_router(server)`, and `render(refusal)` for the body of an
    error's answer."""

    name: str
    prefix: str  # of its paths
    module: str
    body_bytes: int  # of a JSON body


DIALECTS = {
    dialect.name: dialect
    for dialect in (Dialect("native", "/api", "fromnoise.serve.dialects.native.routes", 1 << 20),)
}


def find_dialect(path: str) -> Dialect:
    """The dialect of a path; the native one where it is none's."""
    for dialect in DIALECTS.values():
        if path == dialect.prefix or path.startswith(f"{dialect.prefix}/"):
            return dialect
    return DIALECTS["native"]
