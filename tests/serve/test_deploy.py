"""The files for running the server elsewhere name options and places that exist. `make check` has
linters read the Dockerfile and the compose file."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from fromnoise.cli.main import app

ROOT = Path(__file__).parents[2]
WORDS = {"FROM", "WORKDIR", "COPY", "ARG", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"}
WORDS |= {"HEALTHCHECK", "CMD"}


def list_options():
    command = get_command(app).get_command(None, "serve")
    context = command.make_context("serve", [], resilient_parsing=True)
    return {option for param in context.command.params for option in param.opts}


def test_every_option_in_deploy_and_in_the_page_exists():
    known = list_options()
    assert {"--host", "--data"} <= known
    files = [*(ROOT / "deploy").iterdir(), ROOT / "docs/server.md"]
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if "fromnoise serve" in line or '"fromnoise", "serve"' in line:
                command = re.split(r'fromnoise serve|"fromnoise", "serve"', line)[1]
                used = set(re.findall(r"--[a-z-]+", command))
                assert used <= known, (file.name, line)


def test_the_container_and_the_compose_file_fit_together():
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", text).splitlines()
    words = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    assert set(words) <= WORDS
    assert words.index("USER") < words.index("CMD"), "the server must not run as root"
    for name in re.findall(r"^COPY ([^-].*) \S+$", text, re.MULTILINE):
        assert all((ROOT / part).exists() for part in name.split()), name
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
    server, database = compose["services"]["server"], compose["services"]["database"]
    assert (ROOT / server["build"]["dockerfile"]).exists()
    url = server["environment"]["FROMNOISE_DATABASE"]
    assert url.startswith(f"postgresql://{database['environment']['POSTGRES_USER']}:")
    assert url.endswith(f"@database/{database['environment']['POSTGRES_DB']}")
    volumes = {v.split(":")[0] for s in compose["services"].values() for v in s["volumes"]}
    assert volumes == compose["volumes"].keys()
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])


def test_the_unit_of_systemd():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy/fromnoise.service", encoding="utf-8")
    service = unit["Service"]
    assert service["DynamicUser"] == "yes"
    assert service["StateDirectory"] in service["ExecStart"]
    assert int(service["TimeoutStopSec"]) > 30


def test_systemd_reads_the_unit(tmp_path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd is not installed")
    text = (ROOT / "deploy/fromnoise.service").read_text(encoding="utf-8")

    def read(text):
        file = tmp_path / "fromnoise.service"  # the program need not be in its place here
        file.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text), encoding="utf-8")
        command = [verify, "verify", "--man=no", file]
        return subprocess.run(command, capture_output=True, text=True).stderr

    assert read(text) == ""
    assert "Unknown key" in read(text.replace("PrivateTmp", "PrivateTemp"))


def test_tokens_on_the_command_line(folder):
    def run(*args):
        command = [sys.executable, "-c", "from fromnoise.cli.main import main; main()", "serve"]
        done = subprocess.run(
            [*command, "--data", str(folder), *args], capture_output=True, text=True
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("token", "add", "ann", "--scope", "draw")
    assert (code, err) == (0, "")
    secret = out.splitlines()[0]
    assert secret.startswith("fn_")
    code, out, _ = run("token", "list")
    assert (code, out) == (0, "ann  draw\n")
    code, _, err = run("tokn")
    assert code == 2
    assert "token add NAME" in err
