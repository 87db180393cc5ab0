"""A name that is no path here → the path of a model: its replacement repaired, a model of another
program, or what the Hugging Face hub has under that id."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

from fromnoise.errors import BadInput, NotFound
from fromnoise.folders import repair

# owner/name, owner/name@revision, owner/name/a/file.safetensors@revision
HUB_ID = re.compile(
    r"(?P<repo>[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95})"
    r"(?P<file>(?:/[\w-][\w. -]*){1,4}\.(?:safetensors|ckpt|gguf|pt|pth|bin))?"
    r"(?:@(?P<revision>[\w./-]{1,255}))?",
    re.ASCII,
)
# files of a pipeline that stand beside its parts
BESIDE = ("model_index.json", "fromnoise.json", "clip_head.safetensors")
# parts of a pipeline that nothing here reads: 1.2 GB of a usual one
UNREAD = ("safety_checker", "feature_extractor")
# "model.safetensors", "model.fp16-00001-of-00002.safetensors", "model.safetensors.index.fp16.json"
WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|model|pytorch_model)(?:\.(\w+))?(-\d{5}-of-\d{5})?(?:\.(\w+))?"
    r"\.(safetensors|bin)(\.index(?:\.(\w+))?\.json)?",
    re.ASCII,
)
TEXTS = (".json", ".txt")


def find_elsewhere(name: str, path: Path, variant: str | None = None) -> Path:
    """The path of a model whose name is no path. Raises NotFound, and BadInput where several models
    have the name. variant: of the weights that the hub is asked for."""
    repair(path.absolute())
    if path.exists():
        return path
    from fromnoise.checkpoints.library import find_model, find_roots

    if not name.startswith((".", "~", "/")):
        # the hub's cache is the hub's affair: it knows whether there is something newer
        places = {r: program for r, program in find_roots().items() if program != "Hugging Face"}
        try:
            return find_model(name, ["model"], places)
        except NotFound:
            if match := HUB_ID.fullmatch(name):
                return download(name, **match.groupdict(), variant=variant or "")
    raise NotFound(
        f"no model {name!r}: {path.absolute()} does not exist",
        "give a file, a folder with a model_index.json, a name that `fromnoise models` lists, or a "
        "hub id 'owner/name'; nothing for the bundled model",
    )


def download(
    name: str, repo: str, file: str | None, revision: str | None, variant: str = ""
) -> Path:
    """The local path of a file, or of a pipeline's folder, of the hub. Only what is read is
    fetched; what is in the hub's cache is not fetched again, and suffices where the hub cannot be
    reached. Raises NotFound, BadInput."""
    import huggingface_hub as hub

    try:
        if file is not None:
            return Path(hub.hf_hub_download(repo, file[1:], revision=revision))
        try:
            info = hub.HfApi().model_info(repo, revision=revision)
        except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError):
            raise  # the hub has answered
        except Exception as error:
            return _find_cached(name, repo, revision, error)
        files = [sibling.rfilename for sibling in info.siblings or []]
        if not (wanted := choose_files(files, variant)):
            raise BadInput(f"{repo} has no model_index.json", _suggest(repo, files))
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except BadInput:
        raise
    # its classes, and those of the HTTP library under it, change from version to version
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise NotFound(
            f"no model {name!r}: no path {Path(name).absolute()}, and the Hugging Face hub gave "
            f"none ({reason[0]})",
            "check the spelling, the connection and, for a gated model, `hf auth login`",
        ) from error


def _find_cached(name: str, repo: str, revision: str | None, error: Exception) -> Path:
    """The folder that an earlier download has left. Raises `error` where there is none."""
    import huggingface_hub as hub

    try:
        folder = hub.snapshot_download(
            repo, revision=revision, allow_patterns="model_index.json", local_files_only=True
        )
    except Exception:
        raise error from None
    if not isinstance(error, hub.errors.OfflineModeIsEnabled):
        warnings.warn(
            f"the hub cannot be reached: {name} is used as it was fetched last", stacklevel=4
        )
    return Path(folder)


def choose_files(files: Iterable[str], variant: str = "") -> list[str]:
    """Those files of a pipeline's repository that are read: configurations, and one set of weights
    a part. Safetensors come before pickles, full precision before a variant, one file before its
    shards. Without a model_index.json, none."""
    files = sorted(files)
    if "model_index.json" not in files:
        return []
    parts: dict[str, list[str]] = {}
    for path in files:
        part, slash, name = path.partition("/")
        if slash and "/" not in name and part not in UNREAD:
            parts.setdefault(part, []).append(name)
    wanted = [name for name in BESIDE if name in files]
    for part, names in parts.items():
        kept = [name for name in names if name.endswith(TEXTS) and ".index." not in name]
        wanted += [f"{part}/{name}" for name in kept + choose_weights(names, variant)]
    return wanted


def choose_weights(names: list[str], asked: str = "") -> list[str]:
    """The weights of one part, of all names that its folder holds: one file, or an index and its
    shards. None where no name is that of weights. asked: the variant that comes before others,
    such as "fp16"; "" is full precision."""
    groups: dict[tuple[bool, str, bool, str], list[str]] = {}
    for name in names:
        if match := WEIGHTS.fullmatch(name):
            stem, first, shard, last, ending, index, of_index = match.groups()
            variant = first or last or of_index or ""
            shards = bool(shard or index)
            groups.setdefault((ending == "bin", variant, shards, stem), []).append(name)
    whole = [key for key, group in groups.items() if not key[2] or _has_index(group)]
    return groups[min(whole, key=lambda key: (key[0], key[1] != asked, key))] if whole else []


def _has_index(names: list[str]) -> bool:
    return any(".index" in name for name in names)


def _suggest(repo: str, files: list[str]) -> str:
    """The remedy for a repository without a pipeline: its single files."""
    single = [f for f in files if f.endswith((".safetensors", ".ckpt", ".gguf")) and "/" not in f]
    if single:
        return f"name one of its files, such as {repo}/{single[0]}"
    return "give the id of a Stable Diffusion model"
