"""Add-ons of the models' folders: their pictures, which are foreign, and how they fit a model."""

import base64
import io
import os
from pathlib import Path

import control_nets
import fakes
import loras
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fromnoise.api import load
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.models.config import UNetConfig
from fromnoise.serve.settings import Limits, Settings
from fromnoise.serve.store import addon_pictures
from fromnoise.serve.work.drawing import EngineWorker

PLACE = "a hidden place"
LIKE = UNetConfig(4, 4, (16, 32), 1, (True, False), (2, 4), 16, (1,), 8, sample_size=8)
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
RED, BLUE = (220, 10, 10), (10, 10, 220)


def encode(colour=RED, size=(600, 300), kind="PNG", **more):
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, kind, **more)
    return data.getvalue()


def write_lora(path, metadata=None, **tensors):
    """A file whose name and place say that it is a LoRA; it fits no model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    empty = {"alien.lora_up.weight": torch.zeros(4, 2), "alien.lora_down.weight": torch.zeros(2, 4)}
    save_file(tensors or empty, path, metadata)
    return path


@pytest.fixture
def models(tmp_path, monkeypatch):
    """An empty folder of models."""
    place = tmp_path / PLACE / "models"
    place.mkdir(parents=True)
    monkeypatch.setenv("FROMNOISE_MODELS", str(place))
    monkeypatch.setenv("HOME", str(tmp_path))
    return place


def ask(client, name, kind="lora", what="thumbnail", **more):
    headers = more.pop("headers", {})
    query = {"kind": kind, "name": name} | more
    answer = client.get(f"/api/addons/{what}", params=query, headers=headers)
    assert PLACE not in answer.text  # no answer says where files lie
    return answer


def look(answer):
    """The picture of an answer, and its first pixel."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(answer.content), formats=["WEBP"]) as picture:
        return picture.size, picture.convert("RGB").getpixel((0, 0))


def is_like(pixel, colour):
    return all(abs(a - b) < 12 for a, b in zip(pixel, colour, strict=True))


def test_pictures_beside_the_files_and_in_their_headers(client, models):
    folder = models / "lora"
    address = f"data:image/jpeg;base64,{base64.b64encode(encode(BLUE, kind='JPEG')).decode()}"
    write_lora(folder / "one.safetensors", {"modelspec.thumbnail": address})
    write_lora(folder / "style" / "two.v1.safetensors")
    write_lora(folder / "three.safetensors", {"modelspec.title": "of no picture"})
    listed = client.get("/api/addons")
    assert PLACE not in listed.text
    thumbnails = {row["name"]: row["thumbnail"] for row in listed.json()}
    assert thumbnails == {
        "lora/one.safetensors": "/api/addons/thumbnail?kind=lora&name=lora%2Fone.safetensors",
        "lora/style/two.v1.safetensors": None,
        "lora/three.safetensors": None,
    }
    size, pixel = look(client.get(thumbnails["lora/one.safetensors"]))
    assert size == (256, 128)
    assert is_like(pixel, BLUE)
    for end in reversed(addon_pictures.ENDINGS):  # each comes before those that were written
        kind = {"jpg": "JPEG", "jpeg": "JPEG"}.get(end.rpartition(".")[2], end.rpartition(".")[2])
        colour = (len(end) * 20, 200, 0)
        (folder / "style" / f"two.v1{end}").write_bytes(encode(colour, (64, 64), kind))
        size, pixel = look(ask(client, "lora/style/two.v1.safetensors"))
        assert size == (64, 64)
        assert is_like(pixel, colour), end
    # one beside the file comes before that in the header
    (folder / "one.png").write_bytes(encode(RED))
    assert is_like(look(ask(client, "one"))[1], RED)
    told = ask(client, "three")
    assert told.status_code == 404
    assert told.json()["error"]["message"] == "three.safetensors has no picture"
    assert ".preview.png" in told.json()["error"]["remedy"]


def test_a_browser_keeps_a_picture_until_it_changes(client, models, monkeypatch):
    folder = models / "lora"
    write_lora(folder / "one.safetensors")
    (folder / "one.png").write_bytes(encode(RED))
    calls = []
    apart = addon_pictures.read_apart
    monkeypatch.setattr(
        addon_pictures, "read_apart", lambda *a, **k: calls.append(a) or apart(*a, **k)
    )
    first = ask(client, "one")
    assert first.headers["cache-control"] == "private, no-cache"
    kept = {"if-none-match": first.headers["etag"]}
    again = ask(client, "one", headers=kept)
    assert (again.status_code, again.content) == (304, b"")
    assert ask(client, "one").content == first.content
    assert len(calls) == 1  # unpacked once
    (folder / "one.png").write_bytes(encode(BLUE))
    assert is_like(look(ask(client, "one", headers=kept))[1], BLUE)


def test_what_leaves_is_made_of_pixels_alone(client, models):
    from PIL.PngImagePlugin import PngInfo

    write_lora(models / "lora" / "one.safetensors")
    text = PngInfo()
    text.add_text("parameters", "a secret prompt")
    (models / "lora" / "one.png").write_bytes(encode(pnginfo=text) + b"a secret tail")
    answer = ask(client, "one")
    look(answer)
    assert b"secret" not in answer.content


def test_names_are_no_paths(client, models):
    write_lora(models / "lora" / "one.safetensors")
    (models / "secret.png").write_bytes(encode())
    (models / "secret.safetensors").write_bytes(b"no tensors")
    for name in (
        "../secret",
        "lora/../secret",
        "/etc/passwd",
        "..%2fsecret",
        str(models / "lora" / "one"),
        f"{models}/secret.png",
        "one.png",
        "one\0",
        "lora\\one",
        "./one",
        "~/one",
    ):
        for what in ("thumbnail", "match"):
            answer = ask(client, name, what=what)
            assert answer.status_code in (404, 422), (name, answer.text)
    assert ask(client, "one", kind="model").status_code == 422
    assert ask(client, "one", kind="vae", what="match").status_code == 422
    assert ask(client, "one", kind="embedding").status_code == 404


def test_links_out_of_the_folder_and_other_files_are_no_pictures(client, models, tmp_path):
    folder = models / "lora"
    outside = tmp_path / "private.png"
    outside.write_bytes(encode())
    for name in ("out", "up", "inside", "pipe", "folder", "gone"):
        write_lora(folder / f"{name}.safetensors")
    (folder / "out.png").symlink_to(outside)
    (models / "above.png").write_bytes(encode())
    (folder / "up.preview.png").symlink_to("../above.png")
    (folder / "true.webp").write_bytes(encode(BLUE, kind="WEBP"))
    (folder / "inside.webp").symlink_to("true.webp")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "gone.png").symlink_to("nothing.png")
    listed = {row["name"]: row["thumbnail"] for row in client.get("/api/addons").json()}
    assert [name for name, path in listed.items() if path] == ["lora/inside.safetensors"]
    assert is_like(look(ask(client, "inside"))[1], BLUE)
    for name in ("out", "up", "pipe", "folder", "gone"):
        assert ask(client, name).status_code == 404, name


def test_a_folder_that_is_a_link_itself_has_its_pictures(client, models, tmp_path):
    """Users keep their models on another disk, and link to them."""
    elsewhere = tmp_path / PLACE / "disk"
    write_lora(elsewhere / "one.safetensors")
    (elsewhere / "one.jpg").write_bytes(encode(RED, kind="JPEG"))
    (models / "lora").symlink_to(elsewhere)
    assert is_like(look(ask(client, "one"))[1], RED)


@pytest.mark.parametrize(
    "data",
    [
        b"no picture",
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encode()[:200],
        encode(size=(4000, 4000)),
        encode() + bytes(200_000),
    ],
    ids=["text", "nothing", "svg", "cut", "pixels", "bytes"],
)
def test_pictures_that_cannot_be_used_are_refused_with_a_reason(make_server, models, data):
    client = make_server(limits=Limits(upload_pixels=1_000_000, upload_bytes=100_000))
    write_lora(models / "lora" / "one.safetensors")
    (models / "lora" / "one.png").write_bytes(data)
    answer = ask(client, "one")
    assert answer.status_code == 422
    assert answer.json()["error"]["remedy"]


def test_hostile_headers(client, models):
    texts = {
        "page": "https://example.com/x.png",
        "text": "data:text/html;base64,PGI+",
        "svg": f"data:image/svg+xml;base64,{base64.b64encode(b'<svg/>').decode()}",
        "broken": "data:image/png;base64,%%%",
        "odd": "data:image/png;base64,abc",
        "nothing": "",
    }
    for name, text in texts.items():
        write_lora(models / "lora" / f"{name}.safetensors", {"modelspec.thumbnail": text})
    (models / "lora" / "torn.safetensors").write_bytes(
        (9999).to_bytes(8, "little") + b'{"modelspec.thumbnail'
    )
    write_lora(models / "lora" / "key.safetensors", **{"modelspec.thumbnail": torch.zeros(2)})
    assert client.get("/api/addons").status_code == 200
    for name in ("svg", "broken", "odd"):
        assert ask(client, name).status_code == 422, name
    for name in ("page", "text", "nothing", "torn", "key"):
        assert ask(client, name).status_code == 404, name


# --- how they fit


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small model in a folder of diffusers, and add-ons that fit it, in part, or not."""
    place = tmp_path_factory.mktemp("models") / PLACE / "models"
    made = fakes.model(place.parent / "words", vision=False, steps=1, cfg=3.0)
    for name in ("one", "two"):
        diffusers_folder_save.save(made, place / "diffusers" / name)
    model = load(place / "diffusers" / "one").model
    pairs = loras.make_pairs(model, loras.list_modules(model))
    kohya = loras.write_kohya(pairs, lambda part, name: KOHYA[part] + name.replace(".", "_"))
    training = {
        "modelspec.trigger_phrase": "papercut, in paper",
        "ss_tag_frequency": '{"a": {"cat": 9, "in paper": 3, "bad\\u0007": 2}, "b": {"dog": 4}}',
        "ss_sd_model_name": f"{place}/base.safetensors",
    }
    folder = place / "lora"
    write_lora(folder / "whole.safetensors", training, **kohya)
    more = {"unet.alien.lora_A.weight": torch.zeros(2, 4), "x.y": torch.zeros(3)}
    more |= {"unet.alien.lora_B.weight": torch.zeros(4, 2)}
    write_lora(folder / "part.safetensors", **kohya, **more)
    keys = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    foreign = {f"{keys}.lora_down.weight": torch.zeros(4, 2048)}
    foreign |= {f"{keys}.lora_up.weight": torch.zeros(640, 4)}
    write_lora(folder / "foreign.safetensors", **foreign)
    (folder / "hurt.safetensors").write_bytes(b"\x09" * 40)
    (place / "embeddings").mkdir()
    for name, width in (("paper", 16), ("wide", 768)):
        save_file(
            {"emb_params": torch.ones(2, width)}, place / "embeddings" / f"{name}.safetensors"
        )
    controls = place / "controlnet"
    fitting = control_nets.make_their_controlnet(LIKE, 1, (4, 8, 8))
    fitting.save_pretrained(controls / "edges")
    other = UNetConfig(4, 4, (16, 48), 1, (True, False), (2, 4), 16, (1,), 8, sample_size=8)
    control_nets.make_their_controlnet(other, 1, (4, 8, 8)).save_pretrained(controls / "other")
    return place


@pytest.fixture
def served(written, monkeypatch, make_server, folder, tmp_path):
    """A server whose own model is loaded, and another one that is not."""
    monkeypatch.setenv("FROMNOISE_MODELS", str(written))
    monkeypatch.setenv("HOME", str(tmp_path))
    worker = EngineWorker(Settings(folder, model="diffusers/one"))
    client = make_server(worker, model="diffusers/one")
    worker.load("diffusers/one")
    return client


def match(client, name, kind="lora", **more):
    answer = ask(client, name, kind, "match", **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_lora_is_counted_against_the_model(served, written):
    total = len(loras.list_modules(load(written / "diffusers" / "one").model))
    whole = match(served, "lora/whole.safetensors")
    assert whole["loaded"]
    assert (whole["fits"], whole["matched"], whole["total"]) == ("whole", total, total)
    assert whole["summary"] == f"It fits: {total} of {total} parts have a place."
    assert whole["lost"] == []
    assert whole["triggers"] == ["papercut", "in paper", "cat", "dog"]
    assert whole["facts"]["rank"] == f"3 ({total})"
    assert whole["facts"]["trained on"] == "base.safetensors"
    part = match(served, "part")
    assert (part["fits"], part["matched"], part["total"]) == ("part", total, total + 1)
    assert {*part["lost"]} == {"unet.alien", "x.y"}
    assert part["lost_count"] == 2
    none = match(served, "foreign")
    assert (none["fits"], none["matched"], none["total"]) == ("none", 0, 1)
    assert none["made_for"] == "Stable Diffusion XL"
    told = "It does not fit this model: 0 of 1 parts have a place. It was made for "
    assert none["summary"] == f"{told}Stable Diffusion XL."


def test_a_report_says_what_drawing_says(served, written):
    """The counts are those of the code that puts a LoRA on; headers suffice for them."""
    from fromnoise.checkpoints.formats import lora as formats
    from fromnoise.checkpoints.lora.place import place

    model = served.server.worker.peek("diffusers/one")
    for name in ("whole", "part", "foreign"):
        file = written / "lora" / f"{name}.safetensors"
        plain, outline = (place(formats.load(file, outline=o), model) for o in (False, True))
        assert plain.unplaced == outline.unplaced
        assert plain.counts == outline.counts
        matrices = [leaf for _, of in outline.deltas["unet"] for leaf in of.leaves.values()]
        assert all(matrix.is_meta for matrix in matrices)  # none was read


def test_embeddings_controls_and_damaged_files(served):
    paper = match(served, "paper", "embedding")
    assert paper["fits"] == "whole"
    assert paper["facts"] == {"vectors": "2", "width": "16"}
    assert paper["triggers"] == ["paper"]
    wide = match(served, "wide", "embedding")
    assert wide["fits"] == "none"
    assert "Stable Diffusion 1" in wide["summary"]
    edges = match(served, "controlnet/edges/diffusion_pytorch_model.safetensors", "controlnet")
    assert edges["fits"] == "whole", edges
    assert edges["facts"]["network"] == "ControlNet"
    other = match(served, "controlnet/other/diffusion_pytorch_model.safetensors", "controlnet")
    assert other["fits"] == "none"
    told = "It does not fit: other was made for a model that differs in widths of blocks"
    assert other["summary"].startswith(told)
    hurt = match(served, "hurt")
    assert hurt["fits"] == "none"
    assert "What to do: " in hurt["summary"]
    assert ask(served, "none", "ip-adapter", "match").status_code == 404


def test_a_model_that_is_not_loaded_is_compared_by_its_family(served, make_server, folder):
    found = match(served, "whole", model="diffusers/two")
    assert (found["loaded"], found["fits"]) == (False, "unknown")
    assert not served.server.worker.peek("diffusers/two")  # and nothing was loaded for it
    assert ask(served, "whole", what="match", model="none").status_code == 404
    client = make_server(folder=folder / "other")  # whose worker says Stable Diffusion 1
    assert match(client, "foreign")["fits"] == "none"
    assert match(client, "wide", "embedding")["fits"] == "unknown"
    told = match(client, "wide", "embedding")["summary"]
    assert told.startswith("It was made for Stable Diffusion 1, as this model is.")
    assert match(client, "whole")["fits"] == "unknown"


def test_an_ip_adapter_needs_its_tower(served, written):
    import adapters

    model = served.server.worker.peek("diffusers/one")
    place = written / "ipadapter"
    place.mkdir(exist_ok=True)
    state = write_adapter(place / "look.safetensors", model, adapters)
    found = match(served, "look", "ip-adapter")
    assert found["fits"] == "part", found
    assert "image tower" in found["summary"]
    assert found["facts"]["network"] == "IP-Adapter (plain)"
    state = {key: value for key, value in state.items() if ".1." not in key or "proj" in key}
    save_file(state, place / "short.safetensors")
    assert match(served, "short", "ip-adapter")["fits"] == "none"


def write_adapter(path: Path, model, adapters):
    from fromnoise.models.image_prompt import KINDS, ImagePromptConfig, list_layers

    config = ImagePromptConfig("plain", adapters.EMBED, model.unet.config.context_dim, tokens=4)
    state = {f"image_proj.{k}": v for k, v in KINDS["plain"](config).state_dict().items()}
    for i, name in enumerate(list_layers(model.unet)):
        for end in "kv":
            weight = model.unet.get_parameter(f"{name}.to_{end}.weight")
            state[f"ip_adapter.{2 * i + 1}.to_{end}_ip.weight"] = torch.zeros(weight.shape)
    save_file(state, path)
    return state
