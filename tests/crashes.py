"""Crashes on purpose: a forked child is killed, or its disk is full, at the k-th write."""

import errno
import os
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable

CALLS = ("replace", "rename", "link", "fsync", "unlink", "rmdir", "truncate")


def run_in_child(work: Callable[[], object]) -> int:
    """Calls `work` in a forked child. Returns its exit status as subprocess does (−9: SIGKILL)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking with threads, which wait meanwhile
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            work()
            status = 0
        except BaseException as error:
            status = getattr(error, "code", 1) or 1
        finally:
            os._exit(status if isinstance(status, int) else 1)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def count_writes(work: Callable[[], object], event: Callable[[int], None]) -> Callable[[], object]:
    """`work`, with `event` called before every call that changes a folder or waits for the disk.

    `event` is given the number of the call, from 0 on.
    """

    def counted() -> object:
        number = iter(range(sys.maxsize))
        for name in CALLS:
            plain = getattr(os, name)

            def call(*args, plain=plain, **options):
                event(next(number))
                return plain(*args, **options)

            setattr(os, name, call)
        plain_temporary = tempfile.mkstemp

        def make_temporary(*args, **options):
            made = plain_temporary(*args, **options)
            event(next(number))
            return made

        tempfile.mkstemp = make_temporary
        return work()

    return counted


def kill_at(k: int, work: Callable[[], object]) -> int:
    """Runs `work` in a child that is killed before its k-th write. 0: it had fewer and finished."""

    def event(number: int) -> None:
        if number == k:
            os.kill(os.getpid(), signal.SIGKILL)

    return run_in_child(count_writes(work, event))


def fill_disk_at(k: int, work: Callable[[], object]) -> int:
    """Runs `work` in a child whose disk is full from its k-th write on."""

    def event(number: int) -> None:
        if number >= k:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return run_in_child(count_writes(work, event))


def limit_files(size: int, work: Callable[[], object]) -> int:
    """Runs `work` in a child that can write no file of more than `size` bytes."""

    def limited() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return work()

    return run_in_child(limited)
