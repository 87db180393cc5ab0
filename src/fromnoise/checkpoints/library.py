"""The models on this machine: in this program's folders, and where other programs keep theirs.

Files are listed where they lie, nothing is copied, and no torch is imported."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from fromnoise.errors import BadInput, NotFound

ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
DEPTH, MOST = 6, 20_000  # folders below a root, files and folders in all
KEPT, TICK = 4, 2 * 10**9  # lists that are kept; the coarsest clock of a file system, nanoseconds
LISTS: dict[object, "tuple[list[Model], dict[Path, int | None]]"] = {}
# the folders in which A1111, ComfyUI and InvokeAI keep a kind of file → that kind
KINDS = {
    "stable-diffusion": "model",
    "checkpoints": "model",
    "diffusers": "model",
    "main": "model",
    "unet": "unet",
    "diffusion_models": "unet",
    "vae": "vae",
    "vae_approx": "vae",
    "vae-approx": "vae",
    "text_encoders": "text encoder",
    "clip": "text encoder",
    "lora": "lora",
    "loras": "lora",
    "lycoris": "lora",
    "locon": "lora",
    "embeddings": "embedding",
    "embedding": "embedding",
    "controlnet": "controlnet",
    "control": "controlnet",
    "t2i_adapter": "t2i-adapter",
    "t2i-adapter": "t2i-adapter",
    "t2iadapter": "t2i-adapter",
    "esrgan": "upscaler",
    "realesrgan": "upscaler",
    "upscale_models": "upscaler",
    "clip_vision": "image encoder",
    "ip_adapter": "ip-adapter",
    "ip-adapter": "ip-adapter",
    "ipadapter": "ip-adapter",
}

# names that diffusers and PEFT give to every file of their kind: the folder says which one it is
PLAIN = (
    "diffusion_pytorch_model",
    "pytorch_lora_weights",
    "adapter_model",
    "learned_embeds",
    "model",
)


class Model(NamedTuple):
    """A model file, or the folder of a pipeline. `name` is what --model and its siblings take."""

    name: str
    kind: str  # of KINDS, or "" where the place does not tell
    path: Path
    program: str  # whose folder it lies in
    size: int  # bytes


def find_roots() -> dict[Path, str]:
    """The folders that may hold models → whose they are. FROMNOISE_MODELS holds more folders, with
    the system's separator between them (a colon on Linux)."""
    home = Path.home()
    own = os.environ.get("FROMNOISE_MODELS")
    chosen = [Path(p).expanduser() for p in own.split(os.pathsep) if p] if own else []
    roots = dict.fromkeys(chosen or [home / ".fromnoise" / "models"], "fromnoise")
    for name in ("stable-diffusion-webui", "stable-diffusion-webui-forge"):
        roots[home / name / "models"] = roots[home / name / "embeddings"] = "A1111"
    for name in ("ComfyUI", "Documents/ComfyUI", "comfy/ComfyUI"):
        roots[home / name / "models"] = "ComfyUI"
    invoke = os.environ.get("INVOKEAI_ROOT")
    roots[(Path(invoke) if invoke else home / "invokeai") / "models"] = "InvokeAI"
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    base = Path(os.environ.get("HF_HOME") or home / ".cache" / "huggingface")
    roots[Path(cache) if cache else base / "hub"] = "Hugging Face"
    return roots


def list_models(roots: dict[Path, str] | None = None) -> list[Model]:
    """Every model in the roots, those of this program first, each file once. The list is kept until
    a folder changes; `size` is that of the first look. Raises BadInput for more than MOST files and
    folders."""
    roots = find_roots() if roots is None else roots
    key = tuple(roots.items())
    models, folders = LISTS.get(key, ([], {}))
    if not folders or any(_date(folder) != date for folder, date in folders.items()):
        begun, folders = time.time_ns(), dict.fromkeys(roots)
        models = [*_list_once(roots, folders)]
        folders = {folder: _date(folder) for folder in folders}
        while len(LISTS) >= KEPT:
            LISTS.pop(next(iter(LISTS)), None)
        # a folder that changes in the same tick of its clock would look unchanged
        if max((date or 0 for date in folders.values()), default=0) < begun - TICK:
            LISTS[key] = models, folders
        else:
            LISTS.pop(key, None)
    return [*models]


def _date(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _list_once(roots: dict[Path, str], folders: dict[Path, None]) -> Iterator[Model]:
    """The models in the roots. Puts every folder that it looks into in `folders`."""
    seen: set[tuple[int, int]] = set()
    budget = [MOST]
    for root, program in roots.items():
        walk = _walk_cache if program == "Hugging Face" else _walk
        for model in walk(root, program, budget, folders):
            status = model.path.stat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield model


def find_model(name: str, kinds: Iterable[str], roots: dict[Path, str] | None = None) -> Path:
    """The path of the model with that name, with or without its ending, as `list_models` has it.
    kinds: of KINDS; a model whose place tells no kind fits them all. Raises NotFound, and BadInput
    where several have the name."""
    wanted, kinds = name.lower(), ("", *kinds)
    found = [
        model.path
        for model in list_models(roots)
        if model.kind in kinds and wanted in _name_forms(model)
    ]
    if not found:
        raise NotFound(f"no model {name!r}", "list the models that are here: fromnoise models")
    if len(found) > 1:
        places = ", ".join(map(str, found[:4]))
        raise BadInput(f"{len(found)} models have the name {name!r}: {places}", "give the path")
    return found[0]


def find_addon(kind: str, name: str, roots: dict[Path, str] | None = None) -> Path:
    """The file of that kind ("lora", "embedding", "controlnet", "ip-adapter", "t2i-adapter", "image
    encoder") with that name, with or without its ending and its folder.

    The name as it is written comes before other cases, a place that tells the kind before one that
    tells none. Raises NotFound, which lists near names, and BadInput where several files have the
    name. A path is no name: nothing outside of the models' folders is found."""
    near = [model for model in list_models(roots) if model.kind in ("", kind)]
    for change in (str, str.lower):
        for place in (kind, ""):
            found = [
                model.path
                for model in near
                if model.kind == place and change(name) in _name_forms(model, change)
            ]
            if len(found) > 1:
                places = ", ".join(map(str, found[:4]))
                fault = f"{len(found)} files of the kind {kind} have the name {name!r}: {places}"
                raise BadInput(fault, "give the folder's name too, as in folder/name")
            if found:
                return found[0]
    names = list(dict.fromkeys(shorten(model.name) for model in near if model.kind == kind))
    alike = get_close_matches(shorten(name)[:100], names, 5, 0.5) or names[:5]
    here = f"there are {', '.join(alike)}" if alike else "there is none"
    root = next(iter(find_roots() if roots is None else roots))
    place = root / next(folder for folder, of in KINDS.items() if of == kind)
    remedy = f"{here}; put the file into the folder {place}, or name its folder in FROMNOISE_MODELS"
    raise NotFound(f"no {kind} {name!r} in the models' folders", remedy)


def shorten(name: str) -> str:
    """A name, or a path, without its folder and its ending; the folder's name for one of PLAIN."""
    *folders, last = name.split("/")
    short = _without_ending(last)
    return folders[-1] if folders and short in PLAIN else short


def _name_forms(model: Model, change: Callable[[str], str] = str.lower) -> set[str]:
    """What a user may call it: A1111's and ComfyUI's names hold the folder, pictures do not."""
    name = change(model.name)
    parts = [name] if model.program == "Hugging Face" else name.split("/")
    places = range(len(parts))
    ends = ["/".join(parts[i:]) for i in places]
    forms = {form for end in ends for form in (end, _without_ending(end))}
    if _without_ending(parts[-1]) in PLAIN:
        forms |= {"/".join(parts[i:-1]) for i in places[:-1]}
    return forms


def _without_ending(name: str) -> str:
    return next((name[: -len(end)] for end in ENDINGS if name.lower().endswith(end)), name)


def _walk(
    root: Path, program: str, budget: list[int], looked_into: dict[Path, None]
) -> Iterator[Model]:
    """The models below a root; a folder with a model_index.json is one model."""
    kinds = {root: KINDS.get(root.name.lower(), "")}
    visited: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(root, followlinks=True):
        folder, status = Path(place), os.stat(place)
        looked_into[folder] = None
        _spend(budget, len(files) + len(folders))
        kind = kinds.get(folder) or KINDS.get(folder.name.lower()) or kinds.get(folder.parent, "")
        kinds[folder] = kind
        if "model_index.json" in files:
            name = folder.relative_to(root).as_posix()
            yield Model(name, "model", folder, program, measure(folder))
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in visited or len(folder.parts) - len(root.parts) > DEPTH:
            folders.clear()  # a link back to where it came from
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = folder / name
            if name.lower().endswith(ENDINGS) and path.is_file():
                relative = path.relative_to(root).as_posix()
                yield Model(relative, kind, path, program, path.stat().st_size)


def _walk_cache(
    root: Path, program: str, budget: list[int], looked_into: dict[Path, None]
) -> Iterator[Model]:
    """The pipelines in the hub's cache: models--owner--name/snapshots/<revision>/."""
    for folder in sorted(root.glob("models--*--*")):
        owner, _, name = folder.name.removeprefix("models--").partition("--")
        snapshots = [s for s in folder.glob("snapshots/*") if (s / "model_index.json").is_file()]
        _spend(budget, 1 + len(snapshots))
        looked_into |= dict.fromkeys((folder, folder / "snapshots", *snapshots))
        if snapshots:
            newest = max(snapshots, key=lambda snapshot: snapshot.stat().st_mtime)
            yield Model(f"{owner}/{name}", "model", newest, program, measure(newest))


def _spend(budget: list[int], count: int) -> None:
    budget[0] -= count
    if budget[0] < 0:
        raise BadInput(
            f"the models' folders hold more than {MOST:,} files and folders",
            "name the right ones in FROMNOISE_MODELS",
        )


def measure(folder: Path) -> int:
    """The bytes of the weights in a pipeline's folder."""
    files = (f for f in folder.glob("*/*") if f.suffix in ENDINGS and f.is_file())
    return sum(f.stat().st_size for f in files)
