"""The tables. Times are seconds since 1970; ids are random, so that nobody guesses another's."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
NUMBER = BigInteger().with_variant(Integer, "sqlite")  # which counts up in an INTEGER alone

clients = Table(
    "clients",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("served", BigInteger, nullable=False),  # when its last job was begun, as a count
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(64), primary_key=True),  # also the name of the client
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the secret
    Column("scopes", String(200), nullable=False),  # words with spaces between
    Column("per_minute", Integer),  # requests; None: as the server's settings say
    Column("created", Float(53), nullable=False),
)

ended_sessions = Table(  # that a browser signed out of; each until it would have ended by itself
    "ended_sessions",
    metadata,
    Column("mac", String(64), primary_key=True),
    Column("until", BigInteger, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("client", String(64), nullable=False),
    Column("dialect", String(16), nullable=False),
    Column("kind", String(16), nullable=False),  # of work.kinds
    Column("model", String(400), nullable=False),
    Column("request", Text, nullable=False),  # JSON, seeds decided
    Column("state", String(12), nullable=False),  # of queue.states
    Column("priority", Integer, nullable=False),  # higher ones first
    Column("attempts", Integer, nullable=False),
    Column("owner", String(64)),  # who draws it
    Column("lease", Float(53)),  # until when that is so without news
    Column("not_before", Float(53), nullable=False),
    Column("deadline", Float(53)),
    Column("cancelled", Boolean, nullable=False),  # asked for, while it runs
    Column("key", String(200)),  # the client's idempotency key
    Column("digest", String(64), nullable=False),  # of what was asked for
    Column("step", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("notes", Text, nullable=False),  # JSON: what the user should know
    Column("error", Text),  # JSON
    Column("created", Float(53), nullable=False),
    Column("started", Float(53)),
    Column("finished", Float(53)),
    Column("answer", Text),  # JSON: what a job without pictures found out
    UniqueConstraint("client", "key"),
    Index(None, "state", "priority", "number"),
    Index(None, "client", "number"),
)

pictures = Table(
    "pictures",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("client", String(64), nullable=False),
    Column("job", String(32), nullable=False),
    Column("index", Integer, nullable=False),
    Column("hash", String(64), nullable=False, index=True),  # SHA-256 of the file
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("seed", String(20), nullable=False),  # up to 2^64
    Column("model", String(400), nullable=False),
    Column("settings", Text, nullable=False),  # JSON: the request
    Column("infotext", Text, nullable=False),
    Column("words", Text, nullable=False),  # what a search looks through, lower case
    Column("favourite", Boolean, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("deleted", Float(53)),  # when; it can be brought back for a while
    UniqueConstraint("job", "index"),
    Index(None, "client", "number"),
)

options = Table(  # what clients of A1111's API set, and get back
    "options",
    metadata,
    Column("client", String(64), primary_key=True),
    Column("values", Text, nullable=False),  # JSON
)

boards = Table(
    "boards",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("client", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("created", Float(53), nullable=False),
    UniqueConstraint("client", "name"),
)

board_pictures = Table(
    "board_pictures",
    metadata,
    Column("board", ForeignKey("boards.id", ondelete="CASCADE"), primary_key=True),
    Column("picture", ForeignKey("pictures.id", ondelete="CASCADE"), primary_key=True),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("client", String(64), nullable=False, index=True),
    Column("hash", String(64), nullable=False, index=True),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("infotext", Text, nullable=False),  # that the file brought
    Column("created", Float(53), nullable=False),
)

job_inputs = Table(  # the uploads that a job reads; their files stay until it has ended
    "job_inputs",
    metadata,
    Column("job", String(32), primary_key=True),
    Column("hash", String(64), primary_key=True, index=True),
)
