"""The limited process that runs a reader's file: it answers calls, it judges nothing.

`sandbox.py` starts it as `python -I -S -B child.py REQUESTS REPLIES CPU MEMORY` with two pipes. It
imports nothing of fromnoise. Before the reader's code runs it puts up its walls, each of them for
the case that another one is missing: POSIX resource limits, a network namespace of its own, a
seccomp filter that allows about eighty harmless system calls (Linux on x86-64 and ARM64), and an
audit hook that refuses with a sentence. The verdict is not made here, so nothing that the reader's
code changes in this process can make a wrong answer right.
"""

import json
import os
import struct
import sys
import traceback

TIMES_SECONDS = 1  # between SIGXCPU, which code may ignore, and SIGKILL, which it may not
DEEPEST = 6  # lists in lists that an answer may hold

# Allowed system calls as (x86-64, ARM64) numbers; None where that machine has no such call.
CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67),
    "readv": (19, 65), "writev": (20, 66), "access": (21, None), "select": (23, None),
    "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23),
    "dup2": (33, None), "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93),
    "uname": (63, 160), "getcwd": (79, 17), "readlink": (89, None), "gettimeofday": (96, 169),
    "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177),
    "getppid": (110, 173), "sigaltstack": (131, 132), "arch_prctl": (158, None),
    "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "set_tid_address": (218, 96),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "newfstatat": (262, 79),
    "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "dup3": (292, 24), "pipe2": (293, 59), "getrandom": (318, 278),
    "statx": (332, 291), "rseq": (334, 293), "faccessat2": (439, 439),
}  # fmt: skip
# Calls that are allowed for some values of an argument: (numbers, which argument, values).
CHOSEN = {
    "ioctl": ((16, 29), 1, (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)),  # ask a terminal, close-exec
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 4, 1030)),  # copy a file number, read and set its flags
    "prlimit64": ((302, 261), 2, (0,)),  # read limits, change none
}
OPENS = {"open": ((2, None), 1), "openat": ((257, 56), 2)}  # argument that holds the flags
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

REFUSED = {
    "socket": "use the network",
    "subprocess": "start programs",
    "os.fork": "start processes",
    "os.forkpty": "start processes",
    "os.exec": "start programs",
    "os.posix_spawn": "start programs",
    "os.spawn": "start programs",
    "os.system": "start programs",
    "os.startfile": "start programs",
    "pty": "start programs",
    "os.kill": "send signals",
    "os.killpg": "send signals",
    "_thread.start_new_thread": "start threads",
    "ctypes": "call C libraries",
    "resource": "change its limits",
    **dict.fromkeys(
        ["os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"]
        + ["os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "shutil"]
        + ["tempfile"],
        "change files",
    ),
}


def limit(cpu: int, memory: int) -> None:
    """Sets the POSIX limits of this process: seconds of CPU, bytes of memory, no new file and no
    new process (the last one does not bind the root user, whom the seccomp filter binds)."""
    import resource  # POSIX only; `plain` and `error_of` serve in a browser tab too

    wanted = {
        "RLIMIT_CPU": (cpu, cpu + TIMES_SECONDS),
        "RLIMIT_AS": (memory, memory),
        "RLIMIT_FSIZE": (0, 0),
        "RLIMIT_NPROC": (0, 0),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NOFILE": (32, 32),
    }
    for name, values in wanted.items():
        if hasattr(resource, name):
            resource.setrlimit(getattr(resource, name), values)


def filter_program(column: int, architecture: int) -> bytes:
    """The seccomp filter as BPF instructions: the calls above are allowed, all others fail with
    EPERM. column: 0 x86-64, 1 ARM64. A program of another architecture is killed."""
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000
    ret, load, equal, any_bit = 0x06, 0x20, 0x15, 0x45
    code = [(load, 0, 0, 4), (equal, 1, 0, architecture), (ret, 0, 0, kill), (load, 0, 0, 0)]
    for numbers in CALLS.values():
        if numbers[column] is not None:
            code += [(equal, 0, 1, numbers[column]), (ret, 0, 0, allow)]
    for numbers, argument in OPENS.values():
        if numbers[column] is not None:
            code += [(equal, 0, 4, numbers[column]), (load, 0, 0, 16 + 8 * argument)]
            code += [(any_bit, 0, 1, WRITING), (ret, 0, 0, refuse), (ret, 0, 0, allow)]
    for numbers, argument, values in CHOSEN.values():
        rows = [(load, 0, 0, 20 + 8 * argument), (equal, 1, 0, 0), (ret, 0, 0, refuse)]
        rows += [(load, 0, 0, 16 + 8 * argument)]
        for value in values:
            rows += [(equal, 0, 1, value), (ret, 0, 0, allow)]
        rows += [(ret, 0, 0, refuse)]
        code += [(equal, 0, len(rows), numbers[column]), *rows]
    code.append((ret, 0, 0, refuse))
    return b"".join(struct.pack("HBBI", *row) for row in code)


def shut_system_calls() -> list[str]:
    """Puts up what only Linux has and returns the names of the walls that stand: "network"
    (a namespace without any), "seccomp". The process also dies with its parent."""
    if sys.platform != "linux" or os.uname().machine not in MACHINES:
        return []
    import ctypes

    walls, libc = [], ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: SIGKILL
    if libc.unshare(0x40000000) == 0 or libc.unshare(0x10000000 | 0x40000000) == 0:
        walls.append("network")
    program = filter_program(*MACHINES[os.uname().machine])
    buffer = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    )
    pr_set_no_new_privs, pr_set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) == 0:
        address = ctypes.c_void_p(ctypes.addressof(head))
        if libc.prctl(pr_set_seccomp, mode_filter, address, 0, 0) == 0:
            walls.append("seccomp")
    return walls


def refuse(event: str, args: tuple) -> None:
    """The audit hook: raises PermissionError, with a sentence, for what no exercise needs."""
    if event == "open":
        if str(args[0]).startswith(("/proc", "/dev", "/sys")):
            raise PermissionError("an exercise must not look at the system")
        flags = args[2] if isinstance(args[2], int) else 0
        if flags & WRITING or (isinstance(args[1], str) and set(args[1]) & set("wax+")):
            raise PermissionError("an exercise must not write files")
    elif what := REFUSED.get(event) or REFUSED.get(event.split(".")[0]):
        raise PermissionError(f"an exercise must not {what}")


def plain(value: object, depth: int = 0) -> object:
    """Numbers and lists of them, as JSON has them. Raises TypeError for anything else."""
    if value is None or type(value) in (int, float):
        return value
    if isinstance(value, list | tuple) and depth < DEEPEST:
        return [plain(part, depth + 1) for part in value]
    raise TypeError(f"numbers and lists of numbers are wanted, not {type(value).__name__}")


def error_of(error: BaseException, name: str) -> dict:
    """What went wrong, and in which line of the reader's file."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == name:
            line = number
    return {"error": type(error).__name__, "message": str(error)[:500], "line": line}


def main() -> None:
    requests, replies, cpu, memory = map(int, sys.argv[1:5])
    source = os.fdopen(requests, "r", encoding="utf-8")
    send_to = os.fdopen(replies, "w", encoding="utf-8")
    limit(cpu, memory)
    walls = shut_system_calls()
    sys.addaudithook(refuse)

    def receive() -> dict:
        line = source.readline()
        if not line:
            os._exit(3)  # the judge has gone
        return json.loads(line)

    def send(nonce: str, **message: object) -> None:
        send_to.write(json.dumps({"nonce": nonce, **message}) + "\n")
        send_to.flush()

    first = receive()
    name, space = first["name"], {"__name__": "exercise", "__builtins__": __builtins__}
    try:
        exec(compile(first["source"], name, "exec"), space)
    except BaseException as error:
        send(first["nonce"], **error_of(error, name))
        return
    send(first["nonce"], value=None, walls=walls)
    while True:
        request = receive()
        nonce = request["nonce"]

        def ask(*args: object, nonce: str = nonce) -> object:
            send(nonce, ask=plain(list(args)))
            return receive()["answer"]

        try:
            args = [ask if arg == {"ask": True} else arg for arg in request["args"]]
            answer = {"value": plain(space[request["call"]](*args))}
        except BaseException as error:
            answer = error_of(error, name)
        send(nonce, **answer)


if __name__ == "__main__":
    main()
