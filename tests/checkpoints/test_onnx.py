"""Models as ONNX files: ONNX Runtime computes what PyTorch does, also for sizes that the export did
not see; smaller weights keep their bound or are not used; errors say the remedy."""

import json
import sys
import warnings

import fakes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fromnoise.checkpoints import hub
from fromnoise.checkpoints.exports import load_exporter
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.checkpoints.onnx import export as exporting
from fromnoise.checkpoints.onnx.export import export, measure_error, write_files, write_part
from fromnoise.checkpoints.onnx.parts import Part, make_part
from fromnoise.checkpoints.onnx.trace import drop_outputs, trace
from fromnoise.errors import BadCheckpoint, BadInput, UnknownName
from fromnoise.models.conditioning import Conditioning

# only sums have another order than PyTorch's: 1e-6 of the root mean square is usual
EXACT = 1e-5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model of Stable Diffusion 1's kind, distilled with its guidance scale, and what its
    export wrote. The exporter's warnings would be errors here."""
    home = tmp_path_factory.mktemp("onnx")
    model = fakes.model(home / "words", prediction="eps", guidance_dim=8)
    return model, export(model, home / "out")


def run(path, **inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    arrays = {name: value.numpy() for name, value in inputs.items()}
    return dict(zip(names, session.run(None, arrays), strict=True))


def differ(result, expected):
    """The root mean square of the difference, as a share of the expected values'."""
    expected = expected.detach().numpy()
    assert result.shape == expected.shape
    return np.linalg.norm(result - expected) / np.linalg.norm(expected)


def read_facts(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_every_part_is_written_and_measured(tiny):
    model, report = tiny
    names = ["unet", "text_encoder", "vae_decoder", "vae_encoder", "image_tower"]
    assert [*report.parts] == names
    files = {file for facts in report.parts.values() for file in facts["files"]}
    assert {path.name for path in report.folder.iterdir()} == files | {"vocab.json", "merges.txt"}
    assert report.notes == []
    for facts in report.parts.values():
        assert facts["dtype"] == "fp32"
        assert facts["error"] < EXACT
    for path in report.folder.glob("*.onnx"):
        onnx.checker.check_model(path)
    assert (report.folder / "vocab.json").read_bytes() == model.tokenizer.files["vocab.json"]


@pytest.mark.parametrize(("batch", "height", "width", "tokens"), [(1, 8, 8, 16), (3, 9, 7, 1)])
def test_the_unet_takes_other_sizes_and_gives_its_maps(tiny, batch, height, width, tokens):
    model, report = tiny
    generator = torch.Generator().manual_seed(batch)
    x = torch.randn(batch, 4, height, width, generator=generator)
    context = torch.randn(batch, tokens, 16, generator=generator)
    t, maps, guidance = torch.linspace(0, 999, batch), {}, torch.linspace(1, 9, batch)
    expected = model.unet(x, t, Conditioning(context, guidance=guidance), maps)
    inputs = {"x": x, "t": t, "context": context, "guidance": guidance}
    results = run(report.folder / "unet-maps.onnx", **inputs)
    assert differ(results["prediction"], expected) < EXACT
    assert results.keys() == {"prediction", *maps}
    for name, recorded in maps.items():
        assert differ(results[name], recorded) < EXACT
    plain = run(report.folder / "unet.onnx", **inputs)
    assert plain.keys() == {"prediction"}
    np.testing.assert_array_equal(plain["prediction"], results["prediction"])


def test_the_other_parts_take_other_sizes(tiny):
    model, report = tiny
    ids = torch.tensor([model.tokenizer.encode("a neon cat in space")[0]])
    text, expected = run(report.folder / "text_encoder.onnx", ids=ids), model.text_encoder(ids)
    assert differ(text["context"], expected.last_hidden) < EXACT
    assert differ(text["pooled"], expected.pooled) < EXACT
    assert differ(text["embeds"], expected.pooled @ model.text_projection.T) < EXACT
    latents = torch.randn(1, 4, 3, 8, generator=torch.Generator().manual_seed(0))
    image = model.vae.to_image(latents)
    decoded = run(report.folder / "vae_decoder.onnx", latents=latents)["image"]
    assert differ(decoded, image) < EXACT
    encoded = run(report.folder / "vae_encoder.onnx", image=image.detach())
    assert differ(encoded["latents"], model.vae.to_latents(image)) < EXACT
    noise = torch.ones_like(latents)  # latents with noise 1 less those without: the deviation
    deviation = model.vae.to_latents(image, noise) - model.vae.to_latents(image)
    assert differ(encoded["deviation"], deviation) < 1e-4  # a difference of two larger values
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    embeds = run(report.folder / "image_tower.onnx", image=images)["embeds"]
    assert differ(embeds, model.vision(images).embeds) < EXACT


def test_both_graphs_of_the_unet_name_one_file_and_all_sizes_have_names(tiny):
    _, report = tiny
    for file in ("unet.onnx", "unet-maps.onnx"):
        graph = onnx.load(report.folder / file, load_external_data=False).graph
        places = {
            entry.value
            for tensor in graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        assert places == {"unet.weights"}
        sides = [dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim]
        assert sides == ["batch", "", "height", "width"]
    assert (report.folder / "unet.onnx").stat().st_size < 300_000  # the weights are not in it


def test_a_file_says_what_it_was_made_of(tiny):
    model, report = tiny
    facts = read_facts(report.folder / "unet.onnx")
    assert facts["prediction_type"] == "eps"
    assert facts["dtype"] == "fp32"
    assert facts["fromnoise"]
    assert json.loads(facts["alpha_bar"]) == model.schedule.alpha_bar.tolist()
    decoder = read_facts(report.folder / "vae_decoder.onnx")
    assert json.loads(decoder["scaling_factor"]) == 0.8


def test_smaller_weights_keep_their_bound_or_finer_ones_come(tiny, tmp_path, monkeypatch):
    model, _ = tiny
    part, sizes = make_part(model, "text_encoder"), {}
    traced = trace(part)
    for dtype, bound in (("fp32", EXACT), ("fp16", 1e-3), ("int8", 1e-2)):
        place = tmp_path / dtype
        place.mkdir()
        files = write_files(place, model, "text_encoder", part, traced, dtype)
        assert measure_error(place / files[0], part) < bound
        assert read_facts(place / files[0])["dtype"] == dtype
        onnx.checker.check_model(place / files[0])
        sizes[dtype] = (place / files[1]).stat().st_size
    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"]
    # a bound that int8 does not keep: fp16 comes in its place, and a note says so
    monkeypatch.setattr(exporting, "trace", lambda part: traced)
    monkeypatch.setitem(exporting.BOUNDS, "int8", 1e-3)
    notes = []
    facts = write_part(tmp_path, model, "text_encoder", part, "int8", notes)
    assert facts["dtype"] == "fp16"
    assert len(notes) == 1
    assert "int8" in notes[0]
    assert read_facts(tmp_path / "text_encoder.onnx")["dtype"] == "fp16"
    # weights that are not PyTorch's are found
    traced.weights["text_model.final_layer_norm.weight"] = np.full(16, 2, np.float32)
    with pytest.raises(BadCheckpoint, match="otherwise than PyTorch"):
        write_part(tmp_path, model, "text_encoder", part, "fp32", [])


class Two(torch.nn.Module):
    """Two outputs, of which each needs something of its own."""

    def forward(self, x):
        return x.sin(), x.exp()


def test_a_graph_without_its_last_outputs_has_no_node_for_them():
    traced = trace(Part(Two(), {"x": torch.ones(2, 3)}, ["a", "b"], {"x": {0: "batch"}}))
    first = drop_outputs(traced, 1)
    assert [value.name for value in first.graph.graph.output] == ["a"]
    assert [node.op_type for node in first.graph.graph.node] == ["Sin"]
    assert {node.op_type for node in traced.graph.graph.node} == {"Sin", "Exp"}


def test_the_exporter_says_nothing(capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trace(Part(Two(), {"x": torch.ones(2, 3)}, ["a", "b"], {"x": {0: "batch"}}))
    assert caught == []
    assert capfd.readouterr() == ("", "")


def test_errors_name_the_remedy(tiny, tmp_path, monkeypatch):
    model, _ = tiny
    with pytest.raises(UnknownName, match="unknown part 'vae'"):
        export(model, tmp_path / "a", parts=["vae"])
    with pytest.raises(UnknownName, match="unknown dtype"):
        export(model, tmp_path / "a", "bf16")
    with pytest.raises(UnknownName, match="kind of files"):
        load_exporter("tflite")
    towerless = fakes.model(tmp_path / "words", vision=False)
    with pytest.raises(BadInput, match="no image tower"):
        export(towerless, tmp_path / "a", parts=["image_tower"])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(BadInput) as error:
        export(model, tmp_path / "a")
    assert "pip install 'fromnoise[onnx]'" in error.value.remedy
    assert not (tmp_path / "a").exists()


def test_the_command_line_writes_a_folder(tiny, tmp_path, monkeypatch, capsys):
    from fromnoise.cli import main as command

    model, _ = tiny
    diffusers_folder_save.save(model, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["fromnoise", "export", *args])
        with pytest.raises(SystemExit) as end:
            command.main()
        return end.value.code or 0, *capsys.readouterr()

    code, out, err = call("tiny", "--to", "onnx", "--parts", "image_tower", "--dtype", "fp16")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "tiny-onnx"
    assert "image_tower   fp16" in out
    assert {p.name for p in (tmp_path / "tiny-onnx").iterdir()} == {
        "image_tower.onnx",
        "image_tower.weights",
    }
    # another content: what is there stays. A failure leaves nothing
    code, out, _ = call("tiny", "--parts", "image_tower", "--json")
    assert code == 0
    assert json.loads(out)["folder"].endswith("tiny-onnx-2")
    monkeypatch.setitem(exporting.BOUNDS, "fp32", 0)
    code, _, err = call("tiny", "--parts", "image_tower", "--out", "failed")
    assert code == 1
    assert "otherwise than PyTorch" in err
    assert not [*(tmp_path / "failed").glob("*")]
    code, _, err = call("tiny", "--parts", "tower")
    assert code == 2
    assert "choose one of" in err


def test_the_bundled_unet_agrees_with_pytorch(tmp_path):
    model = hub.load_parts()
    report = export(model, tmp_path / "out", "fp16", ["unet"])
    # its weights are stored in fp16 already: nothing is lost
    assert report.parts["unet"]["dtype"] == "fp16"
    assert report.parts["unet"]["error"] < EXACT
    assert report.parts["unet"]["bytes"] < 13.5e6
    x = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([model.tokenizer.encode(text)[0] for text in ("a neon cat in space", "")])
    context = model.text_encoder(ids).last_hidden.detach()
    t = torch.tensor([999.0, 400.5])
    results = run(report.folder / "unet-maps.onnx", x=x, t=t, context=context)
    maps = {}
    expected = model.unet(x, t, Conditioning(context), maps)
    assert differ(results["prediction"], expected) < EXACT
    assert len(maps) == 7
    for name, recorded in maps.items():
        assert differ(results[name], recorded) < EXACT
