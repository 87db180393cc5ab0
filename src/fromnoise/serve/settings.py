"""Settings of a server: where it listens, where it keeps things, and every limit."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

BUNDLED_NAME = "fromnoise"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Limits:
    """What a server takes at most. What is beyond is refused with a status of 4xx and a reason."""

    pixels: int = 2048 * 2048  # of one finished picture
    steps: int = 150  # of one pass
    count: int = 16  # pictures of one job
    frames: int = 240  # of one film
    cells: int = 100  # of one grid
    cost: float = 200.0  # default pictures of the model, as pipeline.conditioning.cost counts
    depth: int = 200  # jobs that wait, of all clients
    depth_per_client: int = 50  # jobs that wait, of one client
    attempts: int = 5  # how often a job is begun before it is given up
    upload_bytes: int = 32 << 20  # of one uploaded file
    upload_pixels: int = 32_000_000  # of one uploaded picture, unpacked
    upload_seconds: float = 20.0  # for unpacking one upload
    upload_memory: int = 1 << 30  # bytes for unpacking one upload
    uploads_per_client: int = 500  # that are kept at once
    json_depth: int = 32  # nested brackets of a body
    header_bytes: int = 32 << 10  # request line and headers
    header_seconds: float = 10.0  # from the connection's start to the end of the headers
    body_seconds: float = 30.0  # from the first byte of a body to its last
    connections: int = 512  # at once
    streams_per_client: int = 20  # of events, at once
    requests_per_minute: int = 600  # of one client, where its token says nothing else
    job_seconds: float = 3600.0  # the longest deadline of a job
    trace_bytes: int = 256 << 20  # of the tensors of one trace; beyond, it has fewer steps
    traces_bytes: int = 2 << 30  # of all traces on the disk


@dataclass(frozen=True)
class Settings:
    """How one server runs."""

    folder: Path  # pictures, the SQLite file, the audit log
    database: str = ""  # a URL of SQLAlchemy; "": an SQLite file in the folder
    host: str = "127.0.0.1"
    port: int = 8188
    names: tuple[str, ...] = ()  # host names, beside loopback's, that a request may ask for
    origins: tuple[str, ...] = ()  # web pages of other origins that may use the server
    model: str = BUNDLED_NAME  # what is drawn with where a request names none: as --model has it
    preload: tuple[str, ...] = ()  # further models that are loaded at the start
    device: str = "cpu"
    dtype: str = "fp32"
    model_bytes: int = 8 << 30  # of all models that stay loaded
    slots: int = 1  # jobs that are drawn at once
    expand: str = "off"  # off, rules, or the address of a language model: see pipeline.expanding
    expand_model: str = ""  # its name there; "": the first one
    expand_key: str = field(default="", repr=False)  # that it wants
    public_url: str = ""  # where others reach it, behind a proxy; "": as a request's Host says
    content_filter: str = ""  # "module:function", see safety/content.py
    lease_seconds: float = 30.0  # until a job of a silent server is drawn by another one
    drain_seconds: float = 30.0  # that running jobs are given when the server ends
    undo_seconds: float = 24 * 3600.0  # until a deleted picture is gone for good
    upload_hours: float = 24.0  # that an upload is kept
    page: bool = False  # whether the studio's page is served too
    trace_hours: float = 24.0  # that a trace is kept after the last look at it
    keep_jobs_days: float = 30.0  # that a job's record is kept after its end
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def model_file(self) -> Path | None:
        """Where the server's own model lies; None where the operator gave a name or a hub id."""
        path = Path(self.model).expanduser()
        named = self.model == BUNDLED_NAME or not (path.is_absolute() or path.exists())
        return None if named else path.absolute()

    @property
    def model_name(self) -> str:
        """What HTTP calls the server's own model: never a path, which would tell of the disk."""
        if self.model_file is None:
            return self.model
        name = self.model_file.name
        return name if name != BUNDLED_NAME else f"{name} (own)"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those that an answer must not name, though they may have spaces in their names."""
        file = self.model_file
        return (self.folder, *((file.parent, file.resolve().parent) if file else ()))

    @property
    def url(self) -> str:
        """Of the database."""
        return self.database or f"sqlite:///{(self.folder / 'queue.sqlite').absolute()}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK
