"""Opening the database, SQLite or PostgreSQL, and bringing its tables up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from fromnoise.errors import BadInput, escape

MIGRATING = 7_046_029_254  # the number of PostgreSQL's lock while tables change
BUSY_MILLISECONDS = 30_000  # that a writer of SQLite waits for another one


def open_database(url: str) -> Engine:
    """The database of a URL: sqlite:///file, or postgresql://user@host/name (psycopg 3).

    Raises BadInput where it cannot be opened."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise BadInput(
            "the database's URL cannot be read", "give postgresql://user@host/name, or none"
        ) from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise BadInput(
            f"a database of {escape(kind)} is not supported", "give SQLite or PostgreSQL"
        )
    try:
        if kind == "sqlite":
            Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(parsed, connect_args={"isolation_level": None})
            _prepare_sqlite(engine)
        else:
            engine = create_engine(parsed, pool_size=20, max_overflow=30, pool_pre_ping=True)
        migrate(engine)
    except (SQLAlchemyError, OSError, ImportError) as error:
        shown = parsed.render_as_string(hide_password=True)
        cause = getattr(error, "orig", None) or error
        raise BadInput(
            f"cannot open the database {escape(shown)}: {cause}",
            "start it, or look at its address, user and rights",
        ) from error
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    """Readers do not wait for a writer (WAL), and what is committed is on the disk (FULL)."""

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        for pragma in (
            f"busy_timeout={BUSY_MILLISECONDS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    # The driver begins nothing by itself. A writer takes the lock at its start, because one that
    # reads first and then finds the file changed would fail.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        only_reads = connection.get_execution_options().get("reading")
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: on SQLite it waits for no writer."""
    with engine.connect().execution_options(reading=True) as connection, connection.begin():
        yield connection


def migrate(engine: Engine) -> None:
    """Brings the tables up to date. Two servers that start at once do it one after the other."""
    config = Config()
    config.set_main_option("script_location", "fromnoise.serve.database:migrations")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATING})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
