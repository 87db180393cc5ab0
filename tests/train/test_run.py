"""Finished stages: reused when the recipe's own words made them, else the difference is said."""

import json
import os
import shutil

import pytest
from typer.testing import CliRunner

from fromnoise.checkpoints import training_state
from fromnoise.cli.main import app
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.train import parts
from fromnoise.train.recipe import Recipe, read_recipe
from fromnoise.train.results import read_done
from fromnoise.train.run import run_stage, run_stages


def change(recipe: Recipe, recipe_file, old: str, new: str) -> Recipe:
    """The recipe with other words, for the same folder."""
    text = recipe_file.read_text()
    assert old in text
    path = recipe.runs / "changed.toml"
    path.write_text(text.replace(old, new))
    return read_recipe(path, runs=recipe.runs)


def check(recipe: Recipe, *names: str, **options) -> list[str]:
    lines: list[str] = []
    run_stages(recipe, names, lines.append, **options)
    return lines


@pytest.mark.parametrize(
    ("old", "new", "name", "said"),
    [
        ("size = 32", "size = 40", "tokenizer", "source.size = 40 (was 32)"),
        ("seed = 3", "seed = 4", "tokenizer", "seed = 4 (was 3)"),
        ("captions = 300", "captions = 301", "tokenizer", "captions = 301 (was 300)"),
        ("lr = 1e-3\ntext", "lr = 2e-3\ntext", "clip", "lr = 0.002 (was 0.001)"),
        (
            "layers = 1, heads = 2, mlp_dim = 32 }\nv",
            "layers = 2, heads = 2, mlp_dim = 32 }\nv",
            "clip",
            "text.layers = 2 (was 1)",
        ),
        ("kl = 1e-4\n", "", "vae", "kl = nothing (was 0.0001)"),
        ("clip = { pictures = 32 }", "clip = { pictures = 40 }", "clip", "pictures = 40 (was 32)"),
    ],
)
def test_a_stage_of_other_words_is_not_reused(begun, recipe_file, old, new, name, said):
    assert check(begun, name) == [f"{name}: finished, skipped ({begun.runs / name})"]
    changed = change(begun, recipe_file, old, new)
    with pytest.raises(BadInput) as caught:
        check(changed, name)
    assert said in caught.value.message
    assert f"[{name}]" in caught.value.message
    assert f"--stage {name} --fresh" in caught.value.remedy
    assert "--runs" in caught.value.remedy


def test_settings_that_change_no_result_may_change(begun, recipe_file):
    changed = change(begun, recipe_file, "perceptual = 0.1", "perceptual = 0.1\nworkers = 1")
    assert "skipped" in check(changed, "vae")[0]


def test_a_stage_is_not_built_on_one_of_other_words(begun, recipe_file):
    changed = change(begun, recipe_file, "vocab_size = 700", "vocab_size = 650")
    with pytest.raises(BadInput, match=r"\[tokenizer\].*vocab_size = 650"):
        run_stage(changed, "unet")


def test_a_stage_whose_upstream_was_trained_again_is_not_reused(begun):
    assert "skipped" in check(begun, "clip")[0]
    words = json.loads((begun.runs / "tokenizer" / "done.json").read_text())
    words["fingerprint"] = "another"
    (begun.runs / "tokenizer" / "done.json").write_text(json.dumps(words))
    with pytest.raises(BadInput, match=r"upstream\.tokenizer = another"):
        check(begun, "clip")


def test_a_run_of_an_older_version_says_so_and_can_be_adopted(begun):
    path = begun.runs / "vae" / "done.json"
    done = json.loads(path.read_text())
    path.write_text(json.dumps({k: done[k] for k in ("psnr", "scaling_factor", "pictures")}))
    with pytest.raises(BadInput, match="older version") as caught:
        check(begun, "vae")
    assert "--adopt" in caught.value.remedy
    assert "--fresh" in caught.value.remedy
    assert "taken as made by this recipe" in check(begun, "vae", adopt=True)[0]
    assert "skipped" in check(begun, "vae")[0]
    assert read_done(begun.stage("vae"))["scaling_factor"] == done["scaling_factor"]


def test_fresh_removes_what_a_stage_left_and_nothing_else(begun):
    folder = begun.runs / "vae"
    (folder / "start.json").write_text("{}")
    first = (folder / "vae.safetensors").read_bytes()
    (folder / "stray.png").write_bytes(b"")
    assert check(begun, "vae", fresh=True)[0].startswith("vae: psnr")
    assert not (folder / "stray.png").exists()
    assert (folder / "start.json").exists()
    assert (folder / "vae.safetensors").read_bytes() == first  # the seed decides all


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x00" * 99, b"\xff\xfe", b'{"files": 3}'])
def test_a_damaged_done_json_is_written_once_more_from_the_state(begun, content):
    path = begun.runs / "vae" / "done.json"
    before = json.loads(path.read_text())
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=r"done\.json is damaged"):
        parts.load_vae(begun)
    warning, line = check(begun, "vae")
    assert "done.json is damaged" in warning
    assert "finished once more" in warning
    assert line.startswith("vae: psnr")
    after = json.loads(path.read_text())
    assert {k: v for k, v in after.items() if k != "seconds"} == {
        k: v for k, v in before.items() if k != "seconds"
    }


@pytest.mark.parametrize("content", [b"", b"{}", None, "cut"])
def test_a_damaged_stage_file_is_written_once_more_or_is_an_error(begun, content):
    path = begun.runs / "vae" / "vae.safetensors"
    before = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(before[:-10] if content == "cut" else content)
    with pytest.raises(BadCheckpoint, match=r"vae\.safetensors cannot be read"):
        parts.load_vae(begun)
    with pytest.raises(BadCheckpoint, match=r"vae\.safetensors is"):
        run_stage(begun, "unet")
    assert "finished once more" in check(begun, "vae")[0]
    assert path.read_bytes() == before
    # without a state it cannot be repaired
    path.write_bytes(b"")
    training_state.remove(begun.runs / "vae")
    with pytest.raises(BadCheckpoint) as caught:
        check(begun, "vae")
    assert "--fresh" in caught.value.remedy


def test_a_file_of_another_network_is_an_error_that_names_both(begun):
    begun.stage("vae").values["network"]["block_out_channels"] = [8, 16]
    with pytest.raises(BadCheckpoint, match="another network than the recipe's"):
        parts.load_vae(begun)
    begun.stage("vae").values["network"]["norm_groups"] = 3
    with pytest.raises(BadInput, match="norm_groups 3"):
        parts.build_vae(begun)


def test_files_have_the_permissions_of_any_new_file(begun):
    mask = os.umask(0o022)
    os.umask(mask)
    for name in ("vae.safetensors", "state.safetensors", "done.json", "log.jsonl", "final.png"):
        path = begun.runs / "vae" / name
        if path.exists():
            assert path.stat().st_mode & 0o777 == 0o666 & ~mask, name


def test_rewind_goes_back_one_state(begun):
    shutil.rmtree(begun.runs / "clip")
    with pytest.raises(BadInput, match="no state before the last one"):
        check(begun, "clip", rewind=True)


def test_the_command_stops_with_the_signals_code_and_goes_on(begun, recipe_file, monkeypatch):
    import signal

    from fromnoise.train.stages.unet import UNetTask

    plain, steps = UNetTask.loss, []

    def loss(self, *args):
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, *args)

    monkeypatch.setattr(UNetTask, "loss", loss)
    words = ["train", str(recipe_file), "--runs", str(begun.runs), "--stage", "unet"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 143
    assert "stopped [unet] after step 2" in result.output
    assert "run the same command again" in result.output
    assert CliRunner().invoke(app, words).exit_code == 0
    assert len(steps) == 6
    assert read_done(begun.stage("unet"))["steps"] == 6
