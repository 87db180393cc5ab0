"""Hostile files of ControlNets, T2I-Adapters, IP-Adapters, image towers and embeddings: no code of
them runs, and each is refused in words, within a second and 200 MiB."""

import shutil
import signal
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import adapters
import control_nets as nets
import hostile_networks as hostile
import peers
import pytest
import torch
from hostile_files import HUGE, MIB, SECONDS, read_memory, take_least
from safetensors.torch import save_file

from fromnoise.checkpoints.formats import controlnet, embedding, image_encoder, ip_adapter
from fromnoise.errors import FromnoiseError

LIKE = nets.UNETS["sd1"]
NUMBERS = ("8", [], {}, True, -1, 0, 2.5, HUGE, 2**63)
LEVELS = (8, "8,8", [], [8, "8"], [8, -8], [8, HUGE], [[8]], [8] * 99)
# what may be read for all that: an embedding is any one tensor, beside which code is left lying,
# and a file of a tower may hold more
READABLE = {("embedding", "code"), ("image encoder", "keys")}
# other sizes that are as good: of other towers, and other vectors
READABLE |= {
    ("ip-adapter", "image_proj.proj_in.weight has a last side more"),
    ("image encoder", "visual_projection.weight has a channel more"),
    ("embedding", "name of 1 MB"),  # it has no name then
    ("embedding", "emb_params under another name"),
}
READABLE |= {
    ("embedding", f"emb_params has {what}")
    for what in ("one dimension", "a channel more", "a last side more")
}


def load_tower(path: Path):
    return image_encoder.open_encoder(path).load()


LOADERS = {
    "controlnet": partial(controlnet.load, like=LIKE),
    "t2i-adapter": partial(controlnet.load, like=LIKE),
    "ip-adapter": ip_adapter.load,
    "image encoder": load_tower,
    "embedding": embedding.load,
}
HINT = "controlnet_cond_embedding."
TOWER = "vision_model.embeddings."
# of each kind: tensors of its file that are changed, and names that are added, with their shapes
KEYS = {
    "controlnet": (
        (
            "conv_in.weight",
            f"{HINT}conv_in.weight",
            f"{HINT}blocks.1.weight",
            "controlnet_mid_block.bias",
        ),
        {
            "down_blocks.9999.resnets.0.conv1.weight": [1],
            "down_blocks.0.attentions.0.transformer_blocks.999.attn2.to_k.weight": [4, 4],
            f"{HINT}blocks.99.weight": [1, 1, 1, 1],
            "lllite_x": [1],
            "task_embedding": [1],
        },
    ),
    "t2i-adapter": (
        (
            "adapter.conv_in.weight",
            "adapter.body.0.resnets.0.block1.weight",
            "adapter.body.1.in_conv.bias",
        ),
        {
            "adapter.body.9999.resnets.0.block1.weight": [1, 1, 1, 1],
            "adapter.body.0.resnets.9999.block1.weight": [1, 1, 1, 1],
            "style_embedding": [1],
            "body.0.block1.weight": [1],
        },
    ),
    "ip-adapter": (
        ("image_proj.latents", "image_proj.proj_in.weight", "image_proj.layers.0.0.to_q.weight"),
        {
            "ip_adapter.9999.to_k_ip.weight": [4, 4],
            "ip_adapter.99999999999999999999.to_k_ip.weight": [4, 4],
            "image_proj.layers.9999.0.to_q.weight": [4, 4],
            "image_proj.perceiver_resampler.x": [1],
            "ip_adapter.1.to_q_lora.down.weight": [1],
        },
    ),
    "image encoder": (
        (
            f"{TOWER}patch_embedding.weight",
            f"{TOWER}position_embedding.weight",
            "visual_projection.weight",
        ),
        {"vision_model.encoder.layers.9999.mlp.fc1.weight": [4, 4]},
    ),
    "embedding": (
        ("emb_params",),
        {"clip_l": [1, 768], "other": [2, 768], "string_to_param.*": [9999, 768]},
    ),
}
CONFIGS = {
    "controlnet": [
        ("conditioning_channels", NUMBERS),
        ("conditioning_embedding_out_channels", LEVELS),
        ("controlnet_conditioning_channel_order", ("gbr", 5, [], "x" * 5000)),
        ("global_pool_conditions", ("true", 1, [])),
        ("block_out_channels", LEVELS),
        ("_class_name", ("UNet2DConditionModel", 5, "\x1b[2J" * 400)),
    ],
    "t2i-adapter": [
        ("adapter_type", ("other", 5, [])),
        ("in_channels", NUMBERS),
        ("channels", LEVELS),
        ("num_res_blocks", NUMBERS),
        ("downscale_factor", NUMBERS),
    ],
    "image encoder": [
        ("hidden_size", NUMBERS),
        ("num_hidden_layers", (*NUMBERS, 10**6)),
        ("num_attention_heads", (*NUMBERS, 10**6)),
        ("patch_size", (*NUMBERS, 4096)),
        ("model_type", ("bert", 5, [])),
    ],
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Of each kind a good file, and a folder where there are such."""
    where = tmp_path_factory.mktemp("good")
    networks = {
        "controlnet": nets.make_their_controlnet(LIKE),
        "t2i-adapter": nets.make_adapters("full")[1],
        "image encoder": adapters.make_tower(where),
    }
    for name, network in networks.items():
        network.save_pretrained(where / f"{name} folder", safe_serialization=True)
        tensors = {key: value.clone() for key, value in network.state_dict().items()}
        if name == "image encoder":
            prefix = "" if any(k.startswith("vision_model.") for k in tensors) else "vision_model."
            tensors = {k if k[:7] == "visual_" else prefix + k: v for k, v in tensors.items()}
        save_file(tensors, where / f"{name}.safetensors")
    pipeline = peers.make_pipeline("sd1", where)
    adapters.make_adapter(where / "ip-adapter.safetensors", pipeline, "plus")
    save_file({"emb_params": torch.ones(2, 768)}, where / "embedding.safetensors")
    return where


def judge(load, path: Path, canary: Path) -> tuple[str, float, int]:
    """Opens one: ("" for one that was read, or what was said; seconds of the processor; MiB)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, begun = read_memory()["VmRSS"], time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(path)
        said = ""
    except FromnoiseError as error:
        said = str(error)
        if path.name not in said or len(error.message) < 20 or not error.remedy:
            said = f"FAULT: says no reason: {said[:300]}"
    except BaseException as error:
        said = f"FAULT: {type(error).__name__} {str(error)[:200]}"
    seconds = take_least(time.process_time() - begun, partial(load, path))
    if canary.exists():
        canary.unlink()
        said = "FAULT: RAN CODE"
    if len(said) > 9000 or "\x1b" in said:
        said = f"FAULT: raw or endless: {len(said)}"
    return said, seconds, (read_memory()["VmHWM"] - before) >> 10


def test_hostile_networks_run_no_code_and_say_why(good, tmp_path):
    """Seconds are those of the processor, so that a busy machine fails nothing; what waits for ever
    is ended by the alarm."""

    def end(*_):
        raise TimeoutError("it never ends")

    counts, read, faults = Counter(), Counter(), []
    slowest, largest = (0.0, ""), (0, "")
    canary, path = tmp_path / "canary", tmp_path / "x.safetensors"
    previous = signal.signal(signal.SIGALRM, end)

    def check(kind: str, group: str, what: str, place: Path) -> None:
        nonlocal slowest, largest
        counts[kind, group] += 1
        signal.alarm(30)
        said, seconds, mib = judge(LOADERS[kind], place, canary)
        signal.alarm(0)
        slowest = max(slowest, (seconds, f"{kind}, {what}"))
        largest = max(largest, (mib, f"{kind}, {what}"))
        if not said:
            read[kind, group] += 1
        allowed = {(kind, group), (kind, what)} & READABLE
        if said.startswith("FAULT") or not (said or allowed):
            faults.append(f"{kind}, {group}, {what}: {said or 'was read'}")

    try:
        for kind, load in LOADERS.items():
            load(good / f"{kind}.safetensors")  # is read: the changes are what is refused
            for group, what, write in hostile.list_files(
                kind, good / f"{kind}.safetensors", canary, *KEYS[kind]
            ):
                path.unlink(missing_ok=True)
                write(path)
                check(kind, group, what, path)
            path.unlink(missing_ok=True)
        for kind, rules in CONFIGS.items():
            LOADERS[kind](good / f"{kind} folder")
            for group, what, change in hostile.list_folders(rules):
                folder = tmp_path / "folder"
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(good / f"{kind} folder", folder)
                change(folder)
                check(kind, group, what, folder)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    by_kind = Counter()
    for (kind, _), count in counts.items():
        by_kind[kind] += count
    print(f"{sum(counts.values())} files: {dict(by_kind)}; read all the same: {dict(read)};")
    print(f"by class: {dict(counts)}")
    print(f"slowest {slowest} (bar {SECONDS} s); largest {largest} (bar {MIB} MiB)")
    assert not faults, f"{len(faults)}\n" + "\n".join(faults[:60])
    assert sum(counts.values()) >= 400
    assert min(by_kind.values()) >= 60
    assert slowest[0] <= SECONDS, slowest
    assert largest[0] <= MIB, largest
