"""What the C library keeps of memory that is freed."""

import os
import subprocess
import sys

import pytest

from fromnoise.runtime import memory

CODE = """
import resource, sys, threading
import torch
from fromnoise.runtime.memory import keep_freed_memory, release_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
def allocate():
    held = [torch.ones(2 << 20) for _ in range(12)]  # 96 MB in all, more than glibc keeps
def count(run):
    for _ in range(5):  # until all pieces of memory have found their size
        run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def beside():
    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(count(allocate), count(beside))
held = resident()
release_freed_memory()
print(held - resident())
"""


def run(*arguments, **more):
    environment = {k: v for k, v in os.environ.items() if k not in memory.TOLD} | more
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(memory._load_glibc() is None, reason="the C library is not glibc")
def test_what_is_freed_is_kept_in_every_thread_and_given_back_when_told():
    """96 MB are 24,576 pages. A few hundred may be of anything else."""
    here, beside, back = run("keep")
    assert max(here, beside) < 1_000
    assert back > 90e6
    usual = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    here, beside, _ = run("keep", **usual)  # the user's own word holds
    assert min(here, beside) > 10_000


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_load_glibc", lambda: None)
    memory.keep_freed_memory()
    memory.release_freed_memory()
