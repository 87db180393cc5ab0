"""`fromnoise completion`, in real shells where there are any; and that it stays light."""

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fromnoise.cli.completion import SCRIPTS, complete_word
from fromnoise.cli.main import COMMANDS
from fromnoise.diffusion.samplers import SAMPLERS

ROOT = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize(
    ("before", "word", "found"),
    [
        ([], "re", ["replay"]),
        ([], "--v", ["--version"]),
        (["generate"], "--sampler-o", ["--sampler-option"]),
        (["generate", "a cat"], "--nega", ["--negative"]),
        (["generate"], "a", []),
        (["nonsense"], "--", []),
        (["generate", "--sampler"], "dpm_ad", ["dpm_adaptive"]),
        (["generate"], "--dialect=c", ["--dialect=comfy", "--dialect=compel"]),
        (["generate", "--spacing"], "auto", ["automatic"]),
        (["generate", "--preset"], "lcm_", ["lcm_lora"]),
        (["edit", "a.png", "--content"], "", ["original", "fill", "noise"]),
        (["film", "--easing"], "s", ["smooth"]),
        (["film", "--format"], "g", ["gif"]),
        (["generate", "--out"], "", []),
        (["generate", "--steps"], "", []),
        (["generate", "--seed", "3"], "--see", []),
        (["generate", "--sampler-option", "a=1"], "--sampler-o", ["--sampler-option"]),
        (["generate", "--apg"], "--jso", ["--json"]),
        (["generate"], "--keep", ["--keep-penultimate"]),
        (["completion"], "z", ["zsh"]),
        (["completion", "zsh"], "", []),
    ],
)
def test_what_may_follow(before, word, found):
    assert complete_word(before, word) == found


def test_of_a_value_bash_wants_the_rest():
    assert complete_word(["generate", "--sampler"], "=", alone=True) == list(SAMPLERS)
    assert complete_word(["generate", "--sampler"], "dpm_ad", alone=True) == ["dpm_adaptive"]


@pytest.mark.parametrize("command", COMMANDS)
def test_completing_loads_no_torch(command):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from fromnoise.cli.completion import complete_word
assert complete_word([{command!r}], "--") or {command!r} == "completion"
drawing = {command!r} in ("generate", "edit", "film", "grid")
assert complete_word([{command!r}, "--sampler"], "eul") or not drawing
import json; print(json.dumps([*sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "safetensors", "tokenizers"} & set(json.loads(done.stdout))


def test_samplers_as_json(fromnoise):
    code, out, _ = fromnoise("samplers", "--json")
    found = json.loads(out)
    assert code == 0
    assert [entry["name"] for entry in found["samplers"]] == list(SAMPLERS)
    assert found["samplers"][1]["options"] == ["eta", "s_noise"]
    assert found["spacings"][0]["name"] == "karras"


def test_scripts_are_printed(fromnoise):
    for shell, script in SCRIPTS.items():
        assert fromnoise("completion", shell)[:2] == (0, script)
    code, _, said = fromnoise("completion", "tcsh")
    assert (code, "choose one of: bash, zsh, fish" in said) == (2, True)


STARTS = {
    "bash": (
        ["--norc", "--noprofile", "-i"],
        "source ./script; bind 'set enable-bracketed-paste off'",
    ),
    "zsh": (
        ["-f", "-i"],
        "bindkey -e; unset zle_bracketed_paste; autoload -Uz compinit; compinit -D -u; . ./script",
    ),
}
TYPED = [
    ("fromnoise samp\t", "fromnoise samplers"),
    ("fromnoise generate 'a cat' --sampler dpm_ad\t", "dpm_adaptive"),
    ("fromnoise generate --sampler=dpm_ad\t", "--sampler=dpm_adaptive"),
    ("fromnoise edit --only-m\t", "--only-masked"),
    ("fromnoise generate --out some\t", "--out some file.png"),
]


@pytest.fixture
def shells(tmp_path):
    """The environment of a shell that finds this program, in a folder with one file."""
    shim = tmp_path / "bin" / "fromnoise"
    shim.parent.mkdir()
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    code += "from fromnoise.cli.main import main; main()"
    shim.write_text(f'#!/bin/sh\nexec \'{sys.executable}\' -c "{code}" "$@"\n')
    shim.chmod(0o755)
    (tmp_path / "some file.png").touch()
    path = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "TERM": "dumb", "HOME": str(tmp_path)}


@pytest.mark.parametrize(("typed", "line"), TYPED)
@pytest.mark.parametrize("shell", STARTS)
def test_a_real_shell(shells, tmp_path, shell, typed, line):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    options, start = STARTS[shell]
    (tmp_path / "script").write_text(SCRIPTS[shell])
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [shell, *options], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=shells
    )
    os.close(theirs)
    try:
        # the line is completed, put behind echo, and run: what the shell then prints is what it had
        os.write(ours, f"{start}\n{typed}".encode())
        seen = b""
        os.write(ours, b"\x01echo '<' \x05'>'\nexit\n")
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # the shell is gone
                break
        said = [
            text for text in seen.decode(errors="replace").splitlines() if text.startswith("< ")
        ]
        assert len(said) == 1, seen
        assert line in said[0]
    finally:
        running.kill()
        running.wait()
        os.close(ours)


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(("typed", "line"), TYPED)
def test_a_real_fish(shells, tmp_path, typed, line):
    """Which says itself how it would complete a line."""
    asked = f"source ./script; complete --do-complete={shlex.quote(typed.strip())}"
    (tmp_path / "script").write_text(SCRIPTS["fish"])
    done = subprocess.run(
        ["fish", "--no-config", "-c", asked],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=shells,
    )
    assert done.stdout.split("\t")[0].strip() == line.removeprefix("fromnoise ").removeprefix(
        "--out "
    ), done
