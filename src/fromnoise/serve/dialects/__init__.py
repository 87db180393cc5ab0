"""DIALECTS: the registry of the words in which HTTP may ask for pictures. One file a dialect."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dialect:
    """A dialect. Its module has `make_router(server)`, and `render(refusal)` for the body of an
    error's answer."""

    name: str
    prefix: str  # of its paths
    module: str
    body_bytes: int  # of a JSON body
    files: dict[str, int] = field(default_factory=dict)  # path → most files that a form brings
    bad_input: int = 422  # the status of values that cannot be used
    links: str = ""  # how paths begin that need no token, since they are signed


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "native",
            "/api",
            "fromnoise.serve.dialects.native.routes",
            1 << 20,
            {"/api/uploads": 1, "/api/settings": 1},
        ),
        Dialect(
            "openai",
            "/v1",
            "fromnoise.serve.dialects.openai.routes",
            1 << 20,
            {"/v1/images/edits": 3, "/v1/images/variations": 1},
            bad_input=400,
            links="/v1/images/files/",
        ),
        # bodies hold pictures in base64
        Dialect("a1111", "/sdapi/v1", "fromnoise.serve.dialects.a1111.routes", 64 << 20),
        Dialect("controlnet", "/controlnet", "fromnoise.serve.dialects.a1111.controlnet", 1 << 20),
    )
}


def find_dialect(path: str) -> Dialect:
    """The dialect of a path; the native one where it is none's."""
    for dialect in DIALECTS.values():
        if path == dialect.prefix or path.startswith(f"{dialect.prefix}/"):
            return dialect
    return DIALECTS["native"]
