"""The models on this machine, as `fromnoise models` and `--model NAME` see them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fromnoise.checkpoints import library
from fromnoise.errors import BadInput, NotFound


def put(path: Path, size: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * size)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("FROMNOISE_MODELS", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("INVOKEAI_ROOT", raising=False)
    return tmp_path


def test_every_programs_folders_are_seen_with_the_kind_of_their_place(home: Path):
    put(home / ".fromnoise/models/mine.safetensors", 5)
    put(home / "stable-diffusion-webui/models/Stable-diffusion/sub/dream.ckpt")
    put(home / "stable-diffusion-webui/models/Lora/style.safetensors")
    put(home / "stable-diffusion-webui/embeddings/easy.pt")
    put(home / "ComfyUI/models/checkpoints/xl.safetensors")
    put(home / "ComfyUI/models/diffusion_models/unet.gguf")
    put(home / "ComfyUI/models/checkpoints/notes.txt")
    put(home / "invokeai/models/sd-1/vae/ft-mse.safetensors")
    pipeline = home / ".cache/huggingface/hub/models--owner--a--name/snapshots/0123"
    put(pipeline / "model_index.json")
    put(pipeline / "unet/diffusion_pytorch_model.safetensors", 7)
    found = {(m.name, m.kind, m.program, m.size) for m in library.list_models()}
    assert found == {
        ("mine.safetensors", "", "fromnoise", 5),
        ("Stable-diffusion/sub/dream.ckpt", "model", "A1111", 8),
        ("Lora/style.safetensors", "lora", "A1111", 8),
        ("easy.pt", "embedding", "A1111", 8),
        ("checkpoints/xl.safetensors", "model", "ComfyUI", 8),
        ("diffusion_models/unet.gguf", "unet", "ComfyUI", 8),
        ("sd-1/vae/ft-mse.safetensors", "vae", "InvokeAI", 8),
        ("owner/a--name", "model", "Hugging Face", 7),
    }


def test_a_model_is_found_by_any_of_its_names(home: Path):
    path = put(home / "ComfyUI/models/checkpoints/sub/Dream v1.5.safetensors")
    put(home / "ComfyUI/models/loras/Dream v1.5.safetensors")
    names = ("checkpoints/sub/Dream v1.5.safetensors", "dream V1.5", "Dream v1.5.safetensors")
    for name in names:
        assert library.find_model(name, ["model"]) == path
    with pytest.raises(NotFound, match="fromnoise models"):
        library.find_model("Dream", ["model"])
    put(home / ".fromnoise/models/dream v1.5.ckpt")
    with pytest.raises(BadInput, match="2 models have the name"):
        library.find_model("Dream v1.5", ["model"])


def test_links_in_a_circle_end_and_a_file_linked_twice_is_one(home: Path):
    real = put(home / "elsewhere/a.safetensors")
    folder = home / ".fromnoise/models"
    folder.mkdir(parents=True)
    (folder / "again").symlink_to(folder)
    (folder / "a.safetensors").symlink_to(real)
    (folder / "b.safetensors").symlink_to(real)
    (folder / "gone.safetensors").symlink_to(home / "nothing")
    assert [m.name for m in library.list_models()] == ["a.safetensors"]


def test_a_huge_tree_is_refused_and_not_walked_to_its_end(home: Path, monkeypatch):
    for i in range(30):
        put(home / f".fromnoise/models/{i}.safetensors")
    monkeypatch.setattr(library, "MOST", 20)
    with pytest.raises(BadInput, match="FROMNOISE_MODELS"):
        library.list_models()


def test_the_variable_names_other_folders(home: Path, monkeypatch: pytest.MonkeyPatch):
    put(home / "x/one.safetensors")
    put(home / "y/two.gguf")
    put(home / ".fromnoise/models/mine.safetensors")
    monkeypatch.setenv("FROMNOISE_MODELS", f"{home}/x:{home}/y")
    assert [m.name for m in library.list_models()] == ["one.safetensors", "two.gguf"]


def test_the_command_lists_them_without_torch(home: Path):
    put(home / ".fromnoise/models/[red]evil[/]\x1b[31m.safetensors")
    code = (
        "import sys; from fromnoise.cli.main import app; app(['models', *sys.argv[1:]], "
        "standalone_mode=False); assert 'torch' not in sys.modules"
    )
    run = [sys.executable, "-c", code]
    text = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "fromnoise" in text
    assert "evil" in text
    assert "\x1b" not in text
    out = subprocess.run([*run, "--json"], capture_output=True, text=True, check=True).stdout
    assert [m["program"] for m in json.loads(out)["models"]] == ["bundled", "fromnoise"]


def test_an_addon_is_found_by_its_name_alone(home: Path):
    style = put(home / "stable-diffusion-webui/models/Lora/people/Style.safetensors")
    lower = put(home / "ComfyUI/models/loras/style.safetensors")
    loose = put(home / ".fromnoise/models/loose.safetensors")
    canny = put(home / "ComfyUI/models/controlnet/canny/diffusion_pytorch_model.safetensors")
    put(home / "ComfyUI/models/checkpoints/style.ckpt")
    for name in ("Style", "people/Style", "Lora/people/Style.safetensors"):
        assert library.find_addon("lora", name) == style
    assert library.find_addon("lora", "style") == lower  # the very name before another case
    assert library.find_addon("lora", "LOOSE") == loose
    assert library.find_addon("controlnet", "canny") == canny
    with pytest.raises(BadInput, match="2 files of the kind lora"):
        library.find_addon("lora", "STYLE")
    with pytest.raises(NotFound) as error:
        library.find_addon("lora", "styles")
    assert "style" in error.value.remedy
    assert str(home / ".fromnoise/models/lora") in error.value.remedy
    with pytest.raises(NotFound, match="'cany'") as error:
        library.find_addon("controlnet", "cany")
    assert error.value.remedy.startswith("there are canny;")  # its folder's name
    for path in (str(style), "../Lora/people/Style", "/etc/passwd"):
        with pytest.raises(NotFound):
            library.find_addon("lora", path)


def test_folders_are_listed_once_until_one_of_them_changes(home: Path, monkeypatch):
    monkeypatch.setattr(library, "TICK", 0)
    file = put(home / ".fromnoise/models/lora/style.safetensors")
    put(home / ".fromnoise/models/lora/sub/other.safetensors")
    walks, walk = [], library._walk
    monkeypatch.setattr(library, "_walk", lambda *given: walks.append(given[0]) or walk(*given))
    first, roots = library.list_models(), len(library.find_roots()) - 1
    assert (library.list_models(), len(walks)) == (first, roots)
    library.list_models().clear()
    assert len(library.list_models()) == 2
    put(file.parent / "sub" / "third.safetensors")
    assert len(library.list_models()) == 3
    file.unlink()
    assert {model.path.name for model in library.list_models()} == {
        "other.safetensors",
        "third.safetensors",
    }
    put(home / "ComfyUI/models/loras/late.safetensors")  # a root that was not there
    assert len(library.list_models()) == 3
    monkeypatch.setattr(library, "TICK", 10**12)  # folders that have just changed
    put(file)
    library.list_models()
    assert not library.LISTS.get(tuple(library.find_roots().items()))
