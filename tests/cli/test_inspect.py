"""`fromnoise inspect`: what a file is, from its header, in no time and without torch."""

import hashlib
import json
import resource
import struct
import subprocess
import sys
from math import prod
from pathlib import Path

import fakes
import peers
import pytest
import torch
from safetensors.torch import save_file

from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.cli import main as command

SCRIPT = "import sys; from fromnoise.cli.main import main\ntry:\n    main()\nfinally:\n"
SCRIPT += "    print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)"


def write_sparse(path: Path, shapes, metadata=None, behind=0) -> None:
    """A safetensors file of fp16 zeros that take no room on the disk."""
    header, place = {"__metadata__": metadata or {}}, 0
    for key, shape in shapes.items():
        end = place + 2 * prod(shape)
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [place, end]}
        place = end
    if behind:
        header["behind"] = {
            "dtype": "U8",
            "shape": [behind],
            "data_offsets": [place, place + behind],
        }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + place + behind)


def run(monkeypatch, capsys, *args):
    monkeypatch.setattr(sys, "argv", ["fromnoise", "inspect", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        command.main()
    return end.value.code or 0, *capsys.readouterr()


def read_json(monkeypatch, capsys, *args):
    code, out, said = run(monkeypatch, capsys, *args, "--json")
    assert code == 0, said
    return json.loads(out)


@pytest.mark.parametrize("name", peers.TRUE_SIZES)
def test_a_file_of_true_size_in_no_time(tmp_path, name):
    """The bar is 0.3 s above an empty process for 7 GB; the test falls at 1 s."""
    path, shapes = tmp_path / "x.safetensors", peers.true_shapes(name)
    weights = 2 * sum(map(prod, shapes.values()))
    write_sparse(path, shapes, behind=max(0, 7_000_000_000 - weights))

    def measure(*args):
        """Seconds of the processor, so that a busy machine fails nothing."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, *args], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done

    empty = min(measure("-c", "pass")[0] for _ in range(3))
    runs = [measure("-c", SCRIPT, "inspect", str(path)) for _ in range(3)]
    seconds, done = min(runs, key=lambda found: found[0])
    print(f"{name}: {seconds - empty:.3f} s above an empty process (bar 0.3)")
    assert "False False" in done.stderr
    assert "unet" in done.stdout
    assert seconds - empty < 1


def test_parts_types_and_prediction(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.safetensors"
    write_sparse(
        path, peers.true_shapes("sd1"), {"modelspec.title": "\x1b[31mred", "long": "x" * 9999}
    )
    found = read_json(monkeypatch, capsys, path)
    assert found["family"]["name"] == "Stable Diffusion 1"
    assert found["prediction"]["name"] == "eps"
    assert [part["name"] for part in found["parts"]] == [
        "unet",
        "vae",
        "text_encoder",
    ]
    assert found["parts"][0]["parameters"] == 859_520_964
    assert found["parts"][0]["types"] == {"F16": 859_520_964}
    assert (found["kind"], found["problems"]) == ("safetensors", [])
    assert len(found["metadata"]["long"]) == 4000
    code, out, _ = run(monkeypatch, capsys, path)
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out
    assert "859,520,964 parameters  F16" in out


def test_stable_diffusion_2_is_told_from_one_norm(tmp_path, monkeypatch, capsys):
    norm = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    path = tmp_path / "x.safetensors"
    write_sparse(path, peers.true_shapes("sd2"))
    found = read_json(monkeypatch, capsys, path)["prediction"]
    assert (found["name"], found["guessed"]) == ("eps", True)
    from fromnoise.checkpoints.headers import peek

    place = peek(path).entries[norm]
    with path.open("r+b") as file:
        file.seek(place.start)
        file.write(torch.tensor([0.2, -0.2] * (place.count // 2)).half().numpy().tobytes())
    assert read_json(monkeypatch, capsys, path)["prediction"]["name"] == "v"
    path.with_suffix(".yaml").write_text("model:\n  params:\n    parameterization: eps\n")
    assert (
        read_json(monkeypatch, capsys, path)["prediction"]["reason"]
        == "the configuration beside it"
    )


def test_hashes_are_those_of_other_programs(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.safetensors"
    generator = torch.Generator().manual_seed(0)
    save_file({"lora_unet_x.lora_up.weight": torch.randn(900, 500, generator=generator)}, path)
    data = path.read_bytes()
    found = read_json(monkeypatch, capsys, path, "--hash")
    whole = hashlib.sha256(data).hexdigest()
    header = int.from_bytes(data[:8], "little")
    assert found["hashes"] == {
        "SHA-256": whole,
        "AutoV2": whole[:10],
        "legacy": hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8],
        "AutoV3": hashlib.sha256(data[8 + header :]).hexdigest()[:12],
    }
    assert found["family"]["kind"] == "lora"


def test_a_pickle_says_what_it_names(tmp_path, monkeypatch, capsys):
    class Bomb:
        def __reduce__(self):
            return (eval, (f"open({str(tmp_path / 'canary')!r}, 'w')",))

    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 3, "bomb": Bomb()}, path)
    code, out, said = run(monkeypatch, capsys, path)
    assert code == 0
    assert "globals     __builtin__.eval: named by the pickle, not imported and not run" in out
    assert "metadata    epoch: 3" in out
    assert "which could run code where another program opens it" in said
    found = read_json(monkeypatch, capsys, path)
    assert (found["kind"], found["placeholders"]) == ("pickle", ["__builtin__.eval"])
    assert not (tmp_path / "canary").exists()


def test_a_folder_is_told_by_its_parts(tmp_path, monkeypatch, capsys):
    diffusers_folder_save.save(fakes.model(tmp_path / "w"), tmp_path / "m")
    (tmp_path / "m" / "vae" / "broken.ckpt").write_bytes(b"PK\3\4")
    found = read_json(monkeypatch, capsys, tmp_path / "m", "--hash")
    assert found["kind"] == "folder"
    assert found["metadata"]["pipeline"] == "StableDiffusionPipeline"
    assert found["prediction"]["reason"] == "prediction_type in scheduler_config.json"
    assert "unet/diffusion_pytorch_model.safetensors" in [part["name"] for part in found["parts"]]
    assert "broken.ckpt is a zip archive that cannot be read" in found["problems"][0]
    unet = next(
        f for f in found["files"] if f["path"].endswith("unet/diffusion_pytorch_model.safetensors")
    )
    data = Path(unet["path"]).read_bytes()
    assert unet["hashes"]["SHA-256"] == hashlib.sha256(data).hexdigest()
    assert run(monkeypatch, capsys, tmp_path / "m")[0] == 0


def test_what_is_no_model_is_an_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.txt").write_text("<html>")
    code, _, said = run(monkeypatch, capsys, tmp_path / "a.txt")
    assert (code, "a page of the web" in said) == (1, True)
    code, _, said = run(monkeypatch, capsys, tmp_path)
    assert (code, "there is no file of tensors" in said) == (1, True)
    code, _, said = run(monkeypatch, capsys, tmp_path / "none")
    assert (code, "no none in" in said) == (1, True)
