"""The command line on terminals of every kind: encodings, closed and full streams, signals, and
what files say."""

import io
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

from fromnoise.cli import main as command
from fromnoise.cli.json_output import format_json
from fromnoise.cli.texts import decode_text, read_text_file
from fromnoise.errors import BadInput
from fromnoise.pipeline.saving import save_picture

ROOT = str(Path(__file__).parents[2] / "src")
CODE = f"import sys; sys.path.insert(0, {ROOT!r}); from fromnoise.cli.main import main; main()"
COMMAND = [sys.executable, "-c", CODE]


def run(*args, environment=None, **streams):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(
        [*COMMAND, *args], env=os.environ | (environment or {}), timeout=120, **streams
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_old_terminals_get_every_list(encoding, tmp_path):
    picture = Image.new("RGB", (8, 8))
    picture.info["parameters"] = "café 日 →\nSteps: 3, Sampler: Euler, Seed: 1"
    save_picture(picture, tmp_path / "a.png")
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for args in (["--help"], ["film", "--help"], ["samplers"], ["generate", "a", "--size", "x→"]):
        done = run(*args, environment=environment)
        assert done.returncode == (2 if "x→" in args else 0)
        assert b"Traceback" not in done.stderr
        if encoding != "ascii" or b"Usage" not in done.stdout:  # click prints help as UTF-8 there
            (done.stdout + done.stderr).decode(encoding)
    done = run("settings", str(tmp_path / "a.png"), environment=environment)
    assert json.loads(done.stdout.decode(encoding))["prompt"] == "café 日 →"


def test_full_closed_and_broken_output():
    with open("/dev/full", "wb") as full:
        done = run("samplers", stdout=full)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: cannot write to standard output: No space left")
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    for closed in ("1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        done = subprocess.run(["bash", "-c", f'"$@" {closed}', "-", *COMMAND, "samplers"])
        assert done.returncode == 0
    reader, writer = os.pipe()
    os.close(reader)
    done = run("samplers", stdout=writer)  # as `| head`, when it has gone
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_ctrl_c_and_sigterm(fromnoise, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fromnoise.cli.samplers.Console", stop)
    before = signal.getsignal(signal.SIGTERM)
    code, out, said = fromnoise("samplers")
    assert (code, out, said) == (130, "", "\nfromnoise: stopped\n")
    monkeypatch.setattr(
        "fromnoise.cli.samplers.Console", lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert fromnoise("samplers")[0] == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_warnings_are_notes(fromnoise, monkeypatch):
    def warn(*_):
        warnings.warn("the model's scheduler x\x1b[2J is unknown", stacklevel=1)
        raise BadInput("wrong", "right")

    monkeypatch.setattr("fromnoise.cli.samplers.Console", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, said = fromnoise("samplers")
    assert code == 2
    assert said == "note: the model's scheduler x\\x1b[2J is unknown\nerror: wrong\n→ right\n"


@pytest.mark.parametrize(
    "args",
    [
        ["\x1b[2J"],
        ["samplers", "--\x1b[2J"],
        ["samplers", "a\x1b[2J\u202e"],
        ["generate", "a", "--steps", "\x1b[2J"],
        ["generate", "a", "--model", "\x1b[2J\x9b"],
        ["generate", "a", "--sampler", "\x1b[2J"],
        ["generate", "a", "--out", "\x1b[2J.gif"],
        ["settings", "\x1b[2J.png"],
        ["describe", "\x1b[2J.png"],
        ["upscale", "\x1b[2J" + "y" * 100_000],
    ],
)
def test_no_escape_sequence_reaches_the_terminal(fromnoise, args):
    code, out, said = fromnoise(*args)
    assert code in (1, 2)
    assert not {"\x1b", "\x9b", "\u202e"} & set(out + said)
    assert len(out + said) < 10_000
    assert "→" in said


def test_json_has_no_control_characters_and_keeps_its_meaning():
    value = {"a\x1b\x7f\x9b": "日 \u202e \U000e0001 é", "b": ["\n", 1.5]}
    text = format_json(value, 2)
    assert json.loads(text) == value
    assert not {"\x1b", "\x7f", "\x9b", "\u202e", "\U000e0001"} & set(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_texts_of_every_utf(encoding, tmp_path, monkeypatch):
    raw = "a café\r\n日 🐱\n".encode(encoding)
    assert decode_text(raw, "it") == "a café\r\n日 🐱\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), "ascii"))
    assert read_text_file("-", 99) == "a café\r\n日 🐱\n"
    for mark in ("utf-16-le", "utf-16-be"):
        text = "\ufeffa 日".encode(mark)
        assert decode_text(text, "it") == "a 日"


def test_texts_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="line 2 of it is not UTF-8"):
        decode_text(b"a\ncaf\xe9", "it")
    with pytest.raises(BadInput, match="line 2 of it is not UTF-16-LE"):
        decode_text("\ufeffa\n日".encode("utf-16-le") + b"\x00", "it")
    (tmp_path / "a").write_bytes(b"x" * 11)
    with pytest.raises(BadInput, match="more than 10 bytes"):
        read_text_file(tmp_path / "a", 10)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(BadInput, match="no standard input"):
        read_text_file("-", 10)


def test_a_command_alone_shows_its_help(fromnoise):
    code, out, said = fromnoise()
    assert (code, said) == (2, "")
    assert out.startswith("Usage: fromnoise")
    assert command.COMMANDS.keys() <= set(out.split())
