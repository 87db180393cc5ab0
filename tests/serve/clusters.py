"""A throw-away PostgreSQL, for tests and benchmarks."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path


def find_postgresql():
    """The folder of PostgreSQL's programs, or None; Debian keeps them out of the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


@contextmanager
def open_cluster():
    """The URL of a cluster, with {} for a database's name; None where PostgreSQL is not installed.
    It runs as a user without rights, because PostgreSQL refuses root."""
    programs = find_postgresql()
    if programs is None:
        yield None
        return
    who = {}
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must be short
    if who:
        os.chown(folder, who["user"], who["group"])

    def run(program, *args):
        command = [str(programs / program), *map(str, args)]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **who)

    try:
        data = folder / "data"
        kind = ("-U", "fromnoise", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run("initdb", "-D", data, *kind)
        # of the tests no data has to survive a power cut
        options = f"-c listen_addresses='' -k {folder} -c fsync=off -c max_connections=200"
        run("pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
        try:
            yield f"postgresql://fromnoise@/{{}}?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
