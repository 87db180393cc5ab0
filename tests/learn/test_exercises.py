"""Exercises: the references are fromnoise's own formulas, every misconception is recognised, and
hostile files are contained."""

import ast
import math
import os
import random
import sys
import time
from pathlib import Path

import pytest
from wrong import WRONG

from fromnoise.errors import BadInput, UnknownName
from fromnoise.learn.exercises import EXERCISES, load
from fromnoise.learn.exercises.exercise import judge
from fromnoise.learn.exercises.sandbox import Limits, check_file, find_exercises

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX limits")
LINUX = sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64")
SHORT = Limits(cpu=1, wall=2.5)
ALL = [(name, tag, source) for name, rows in WRONG.items() for tag, source in rows]


def defined(name, source):
    """The function of a source text, without any walls: only for the sources of these tests."""
    space = {}
    exec(source, space)
    return space[name]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes_as_readers_see_it(name):
    exercise = load(name)
    assert exercise.name == name
    for seed in range(5):
        assert judge(exercise, defined(name, exercise.solution), seed).passed
    starter = judge(exercise, defined(name, exercise.starter), 0)
    assert not starter.passed
    assert starter.message
    assert len(exercise.hints) >= 3
    assert {m.tag for m in exercise.misconceptions} >= {tag for tag, _ in WRONG[name]}


@pytest.mark.parametrize(("name", "tag", "source"), ALL, ids=[f"{n}-{t}" for n, t, _ in ALL])
def test_each_misconception_is_named(name, tag, source):
    hints = {m.hint for m in load(name).misconceptions if m.tag == tag}
    for seed in range(6):
        verdict = judge(load(name), defined(name, source), seed)
        assert not verdict.passed
        assert (verdict.tag, verdict.hint in hints) == (tag, True)


def test_five_wrong_variants_or_more_for_each():
    assert set(WRONG) == set(EXERCISES)
    for name, rows in WRONG.items():
        assert len({tag for tag, _ in rows}) >= 5, name


def test_other_mistakes_get_a_clear_word():
    cfg = load("cfg")
    assert judge(cfg, lambda c, u, s: None, 0).tag == "no_return"
    assert judge(cfg, lambda c, u, s: 3.0, 0).tag == "shape"
    assert judge(cfg, lambda c, u, s: c[:-1], 0).tag == "shape"
    unknown = judge(cfg, lambda c, u, s: [math.pi] * len(c), 0)
    assert unknown.tag == "unknown"
    assert "is right" in unknown.message
    assert judge(cfg, lambda c, u, s: [math.nan] * len(c), 0).tag == "unknown"
    assert "KeyError" in judge(cfg, lambda c, u, s: {}["a"], 0).message
    assert "TypeError" in judge(cfg, lambda c: c, 0).message


def test_one_wrong_case_in_sixteen_is_found():
    """A formula that is right but for the last step must not pass."""
    exercise = load("euler_step")

    def almost(x, x0, sigma, sigma_next):
        return x if sigma_next == 0 else exercise.reference(x, x0, sigma, sigma_next)

    assert not judge(exercise, almost, 3).passed


@pytest.mark.parametrize("name", EXERCISES)
def test_code_that_is_named_exists(name):
    path, _, dotted = load(name).code.partition(":")
    nodes = ast.parse((ROOT / path).read_text()).body
    for part in dotted.split("."):
        found = [n for n in nodes if getattr(n, "name", None) == part]
        assert found, (name, dotted)
        nodes = getattr(found[0], "body", [])


def test_references_are_what_the_engine_computes():
    """float64 on both sides; 1e-9 is far above its rounding and far below any wrong formula."""
    import torch

    from fromnoise.diffusion import forward, guidance, spacing
    from fromnoise.diffusion.parameterization import compute_coefficients
    from fromnoise.diffusion.samplers import load as load_sampler
    from fromnoise.diffusion.samplers.base import Answer
    from fromnoise.diffusion.samplers.drive import drive
    from fromnoise.diffusion.schedule import NoiseSchedule
    from fromnoise.models.attention import compute_attention_map

    chance = random.Random(4)

    def tensor(values):
        return torch.tensor(values, dtype=torch.float64)

    def agree(name, ours, args):
        wanted = torch.as_tensor(load(name).reference(*args), dtype=torch.float64)
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)

    schedule = NoiseSchedule.scaled_linear()
    x0, noise, _ = load("add_noise").cases(chance)
    bar = float(schedule.alpha_bar[300])
    x = forward.add_noise(schedule, tensor([x0]), tensor([noise]), torch.tensor([300]))
    agree("add_noise", x[0], (x0, noise, bar))
    sigma = float(schedule.sigmas[300])
    skip, out, scale = compute_coefficients("eps", sigma)
    agree("x0_from_eps", skip * x[0] / scale + out * tensor(noise), (x[0].tolist(), noise, bar))
    cond, uncond, strength = load("cfg").cases(chance)
    agree(
        "cfg", guidance.apply_cfg(tensor(cond), tensor(uncond), strength), (cond, uncond, strength)
    )
    n, low, high, rho = load("karras_sigmas").cases(chance)
    levels = spacing.karras(schedule, n, sigma_min=low, sigma_max=high, rho=rho)
    agree("karras_sigmas", tensor(levels), (n, low, high, rho))
    queries, keys, values = load("cross_attention").cases(chance)
    weights = compute_attention_map(tensor(queries)[None, None], tensor(keys)[None, None])
    agree("cross_attention", (weights @ tensor(values))[0, 0], (queries, keys, values))
    x, denoise, high, low = load("heun_step").cases(random.Random(5))
    for name, extra in (("heun", denoise), ("euler", denoise(x, high))):
        sampler = load_sampler(name)(tensor(x).view(1, 1, 1, -1), tensor([high, low or 0.3]), None)
        found = drive(sampler, lambda q: Answer(tensor(denoise(q.x.flatten().tolist(), q.sigma))))
        agree(f"{name}_step", found.flatten(), (x, extra, high, low or 0.3))


def test_losses_are_what_training_computes():
    import torch
    from torch.nn import functional as F

    from fromnoise.models.vae_encoder import Posterior

    mean, log_var = load("kl").cases(random.Random(1))
    shape = (1, len(mean), 1, 1)
    posterior = Posterior(torch.tensor(mean).view(shape), torch.tensor(log_var).view(shape))
    # fp32 sums of a few terms: 1e-5 of their size
    assert posterior.kl().item() == pytest.approx(load("kl").reference(mean, log_var), rel=1e-5)
    images, texts, temperature = load("info_nce").cases(random.Random(1))
    a, b = (F.normalize(torch.tensor(v, dtype=torch.float64), dim=-1) for v in (images, texts))
    logits, right = a @ b.T / temperature, torch.arange(len(a))
    loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    assert loss.item() == pytest.approx(load("info_nce").reference(images, texts, temperature))


def write(folder, source):
    path = folder / "mine.py"
    path.write_text(source)
    return path


@posix
def test_a_right_file_passes_in_its_own_process(tmp_path):
    source = load("heun_step").solution + load("cfg").solution + "print('hello')\n"
    report = check_file(write(tmp_path, source), seed=1)
    assert {name: v.passed for name, v in report.verdicts.items()} == {
        "cfg": True,
        "heun_step": True,
    }
    assert report.printed == "hello\n"
    if LINUX:
        assert "seccomp" in report.walls


@posix
def test_a_wrong_file_gets_its_hint(tmp_path):
    tag, source = WRONG["heun_step"][0]
    assert check_file(write(tmp_path, source)).verdicts["heun_step"].tag == tag
    broken = check_file(write(tmp_path, "def cfg(cond, uncond, scale):\n    return cond +\n"))
    assert "SyntaxError in line 2" in broken.verdicts["cfg"].message
    late = check_file(write(tmp_path, "x = 1\ndef cfg(a, b, c):\n    return [b[99]]\n"))
    assert "IndexError in line 3" in late.verdicts["cfg"].message


RIGHT = """
def cfg(cond, uncond, scale):
    return [u + scale * (c - u) for c, u in zip(cond, uncond)]
"""
START = "def cfg(cond, uncond, scale):\n    "
# name → (source, tags of which one must be the verdict's; None: whatever was tried is without
# effect, and the right answer below it passes)
HOSTILE = {
    "endless loop": (START + "while True: pass", ["time"]),
    "endless loop that catches all": (
        START + "while True:\n        try:\n            while 1: pass\n        except: pass",
        ["time"],
    ),
    "endless sleep": ("import time\n" + START + "time.sleep(1000)", ["time"]),
    "ignores the end of its time": (
        "import signal\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except Exception: pass\n" + START + "while True: pass",
        ["time"],
    ),
    "fork bomb": ("import os\n" + START + "while True: os.fork()", ["error"]),
    "fork by C": (
        "import ctypes\n" + START + "return [ctypes.CDLL(None).fork()] * len(cond)",
        ["error"],
    ),
    "starts a program": ("import subprocess\n" + START + "subprocess.run(['ls'])", ["error"]),
    "os.system": ("import os\n" + START + "os.system('touch MARK')", ["error"]),
    "exec": ("import os\n" + START + "os.execv('/bin/sh', ['sh', '-c', 'touch MARK'])", ["error"]),
    "writes a file": (START + "open('MARK', 'w').write('x')", ["error"]),
    "writes a file by os.open": (
        "import os\n" + START + "os.write(os.open('MARK', os.O_CREAT | os.O_WRONLY), b'x')",
        ["error"],
    ),
    "removes a file": ("import os\n" + START + "os.remove('KEEP')", ["error"]),
    "truncates a file": ("import os\n" + START + "os.truncate('KEEP', 0)", ["error"]),
    "socket": (
        "import socket\n" + START + "socket.create_connection(('127.0.0.1', 9))",
        ["error"],
    ),
    "socket of the module below": ("import _socket\n" + START + "_socket.socket()", ["error"]),
    "url": ("import urllib.request\n" + START + "urllib.request.urlopen('http://a.b')", ["error"]),
    "huge output": (START + "while True: print('x' * 10000)", ["output"]),
    "huge output by another way": (
        "import os\n" + START + "while True: os.write(2, b'x' * 10000)",
        ["output"],
    ),
    "huge answer": (START + "return [[0.5] * 900 for _ in range(900)]", ["answer", "shape"]),
    "huge memory": (START + "x = bytearray(10 ** 10)", ["error"]),
    "grows": (START + "x = []\n    while True: x.append(x * 2)", ["error", "time", "crash"]),
    "huge number": (START + "return [10 ** 4000] * len(cond)", ["answer", "error"]),
    "sys.exit": ("import sys\n" + START + "sys.exit(0)", ["error"]),
    "sys.exit at once": ("import sys\nsys.exit(0)\n" + RIGHT, ["error"]),
    "os._exit": ("import os\n" + START + "os._exit(0)", ["ended"]),
    "os._exit at once": ("import os\nos._exit(0)\n" + RIGHT, ["ended"]),
    "catches SystemExit": (
        "try:\n    raise SystemExit\nexcept BaseException: pass\n" + RIGHT,
        None,
    ),
    "prints a verdict": (
        'print(\'{"nonce": "0", "value": null}\')\nprint(\'right: passed\')\n'
        + START
        + "print('passed'); return cond",
        ["unknown"],
    ),
    "writes verdicts into every pipe": (
        "import os\n"
        "for fd in range(3, 30):\n"
        '    try: os.write(fd, b\'{"nonce": "0", "value": null, "passed": true}\\n\')\n'
        "    except OSError: pass\n" + START + "return cond",
        ["forged", "unknown"],
    ),
    "replies with the nonce of others": (
        "import gc, json\n"
        + START
        + 'json.dumps = lambda *a, **k: \'{"nonce": "0", "value": [1]}\'\n    return cond',
        ["forged"],
    ),
    "monkeypatches a checker": (
        "import builtins, math, sys\n"
        "for name in list(sys.modules):\n"
        "    for key in list(vars(sys.modules[name])):\n"
        "        if 'judge' in key: setattr(sys.modules[name], key, lambda *a: True)\n"
        "math.isclose = lambda *a, **k: True\nbuiltins.all = lambda *a: True\n"
        + START
        + "return cond",
        ["unknown"],
    ),
    "an answer that equals everything": (
        "class Yes(float):\n    def __eq__(self, other): return True\n"
        "    def __sub__(self, other): return 0.0\n" + START + "return [Yes(0)] * len(cond)",
        ["error"],
    ),
    "deep recursion": (START + "return cfg(cond, uncond, scale)", ["error"]),
    "recursion without a limit": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\n"
        + START
        + "return eval('[' * 50) or cfg(cond, uncond, scale)",
        ["crash", "error", "time"],
    ),
    "crashes C by recursion": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A:\n"
        "    def __repr__(self): return repr(self) + ''\n" + START + "return repr(A())",
        ["crash", "error", "time"],
    ),
    "list in itself": (START + "x = []; x.append(x); return x", ["error"]),
    "thread": (
        "import threading\n" + START + "threading.Thread(target=print).start()",
        ["error"],
    ),
    "ctypes reads 0": ("import ctypes\n" + START + "ctypes.string_at(0)", ["error", "crash"]),
    "reads its judge": ("import os\n" + START + "open(f'/proc/{os.getppid()}/mem')", ["error"]),
    "kills its judge": ("import os\n" + START + "os.kill(os.getppid(), 9)", ["error"]),
    "raises its limits": (
        "import resource\n" + START + "resource.setrlimit(resource.RLIMIT_CPU, (9999, 9999))",
        ["error"],
    ),
    "no name of an exercise": ("def other(): pass\n", BadInput),
    "null bytes": ("def cfg(): pass\n\0", ["error"]),
    "deep brackets": (RIGHT + "x = " + "(" * 3000 + ")" * 3000, ["error", "crash"]),
}


@posix
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_contained(kind, tmp_path):
    source, expected = HOSTILE[kind]
    mark, keep = tmp_path / "MARK", tmp_path / "KEEP"
    keep.write_text("kept")
    path = write(tmp_path, source.replace("MARK", str(mark)).replace("KEEP", str(keep)))
    began = time.monotonic()
    if expected is BadInput:
        with pytest.raises(BadInput):
            check_file(path, SHORT)
        return
    limits = SHORT if expected and "time" in expected else Limits(cpu=2, wall=20)
    verdict = check_file(path, limits, seed=1).verdicts["cfg"]
    assert time.monotonic() - began < limits.wall + 2
    assert verdict.passed == (expected is None)
    assert expected is None or verdict.tag in expected, verdict
    assert verdict.message
    assert not mark.exists()
    assert keep.read_text() == "kept"


@pytest.mark.skipif(not LINUX, reason="seccomp")
@pytest.mark.parametrize(
    "call",
    [
        "libc.fork() < 0",
        "libc.socket(2, 1, 0) < 0",
        "libc.open(b'MARK', 0o102, 0o600) < 0",
        "libc.kill(os.getppid(), 0) < 0",
        "libc.unlink(b'KEEP') < 0",
        "libc.execv(b'/bin/true', None) < 0",
        "libc.prlimit(0, 0, (ctypes.c_long * 2)(99, 99), None) < 0",
        "libc.unshare(0x20000) < 0",
        "libc.ptrace(16, os.getppid(), 0, 0) < 0",
        "libc.fcntl(1, 8, os.getppid()) < 0",
    ],
)
def test_the_kernel_refuses_what_the_audit_hook_would_not_see(call, tmp_path):
    """The hook is left out; the filter alone must refuse. A call that is refused gives −1."""
    import subprocess

    child = ROOT / "src/fromnoise/learn/exercises/child.py"
    (tmp_path / "KEEP").write_text("kept")
    code = (
        f"import sys, os, ctypes; sys.path.insert(0, {str(child.parent)!r}); import child\n"
        f"libc = ctypes.CDLL(None); assert 'seccomp' in child.shut_system_calls()\n"
        f"os._exit(7 if {call} else 8)"
    )
    for word in ("MARK", "KEEP"):
        code = code.replace(word, str(tmp_path / word))
    done = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", code], timeout=20)
    assert done.returncode == 7
    assert (tmp_path / "KEEP").exists()
    assert not (tmp_path / "MARK").exists()


@posix
def test_no_process_is_left(tmp_path):
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    check_file(write(tmp_path, HOSTILE["endless sleep"][0]), Limits(wall=0.5))
    if children.exists():
        assert children.read_text() == ""


@posix
def test_files_that_are_none(tmp_path):
    for path in (tmp_path, tmp_path / "none.py"):
        with pytest.raises(BadInput):
            check_file(path)
    large = tmp_path / "large.py"
    large.write_bytes(b"#" * 200_000)
    with pytest.raises(BadInput, match="larger"):
        check_file(large)
    large.write_bytes(b"def cfg(): '\xff'")
    with pytest.raises(BadInput, match="UTF-8"):
        check_file(large)
    with pytest.raises(UnknownName):
        load("cgf")


def test_names_are_found_at_the_margin_only():
    source = "class A:\n    def cfg(self): pass\ndef  kl(a, b): pass\n# def add_noise(\n"
    assert find_exercises(source) == ["kl"]
