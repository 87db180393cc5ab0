"""A small pipeline of diffusers, and one add-on of each kind for it."""

import json
from pathlib import Path
from typing import Any

import adapters
import control_nets as nets
import fakes
import peers
import torch
from diffusers import ControlNetModel
from loras import list_modules, make_pairs, save, write_peft
from PIL import Image
from safetensors.torch import save_file

from fromnoise.api import load
from fromnoise.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture

PROMPT, SETTINGS = "a (paper:1.1) cat", {"cfg": 5.0, "steps": 4, "seed": 1}


class Case:
    """A small pipeline, and one add-on of each kind that fits it; `ask` gives those of a row."""

    def __init__(self, base: str, folder: Path):
        self.folder, self.base = folder, base
        pipeline: Any = peers.make_pipeline(base, folder)
        encoders = [pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
        encoders = [encoder for encoder in encoders if encoder is not None]
        for i, encoder in enumerate(encoders):
            fakes.randomize(encoder, 10 + i)
        pipeline.save_pretrained(folder / "m")
        self.pipeline, self.engine = pipeline, load(folder / "m")
        model = self.engine.model
        modules = [of for of in list_modules(model) if ".attn" in of[1] or "self_attn" in of[1]]
        pairs = make_pairs(model, modules)
        save(folder / "paint.safetensors", write_peft(pairs, ".lora_A.weight", ".lora_B.weight"))
        draw = torch.Generator().manual_seed(5)
        widths = [encoder.config.hidden_size for encoder in encoders]
        keys = ("clip_l", "clip_g") if base == "xl" else ("emb_params",)
        vectors = {k: torch.randn(2, n, generator=draw) for k, n in zip(keys, widths, strict=True)}
        save_file(vectors, folder / "paper.safetensors")
        adapters.make_tower(folder)
        adapters.make_adapter(folder / "look.safetensors", pipeline, "plus")
        config = nets.describe(model.unet.config)
        for name, seed in (("lines", 3), ("tones", 6)):
            control = ControlNetModel(**config, conditioning_embedding_out_channels=(4, 8))
            nets.randomize(control, seed, 1.0)
            control.save_pretrained(folder / name)
        kind, factor = ("full_adapter_xl", 4) if base == "xl" else ("full_adapter", 2)
        sketch = T2IAdapter(T2IAdapterConfig(kind, 3, (8, 16), 1, factor))
        nets.randomize(sketch, 4, 1.0)
        (folder / "sketch").mkdir()
        save_file(sketch.state_dict(), folder / "sketch" / "diffusion_pytorch_model.safetensors")
        told = {"_class_name": "T2IAdapter", "adapter_type": kind, "in_channels": 3}
        told |= {"channels": [8, 16], "num_res_blocks": 1, "downscale_factor": factor}
        (folder / "sketch" / "config.json").write_text(json.dumps(told))
        self.picture = adapters.make_picture(folder / "seen.png", (16, 16), 8)

    def ask(self, kind: str, picture: Image.Image | None = None) -> dict[str, list[dict]]:
        """The add-ons of a row. picture: what controls see in place of their file."""
        f = self.folder
        seen = {"picture": picture} if picture else {"image": self.picture}
        rows = {
            "lora": ("loras", {"name": "paint", "file": f / "paint.safetensors", "weight": 0.8}),
            "embedding": ("embeddings", {"name": "paper", "file": f / "paper.safetensors"}),
            "control": ("controls", {"name": "lines", "file": f / "lines", "mode": "control"}),
            "second": ("controls", {"name": "tones", "file": f / "tones", "weight": 0.6}),
            "t2i": ("controls", {"name": "sketch", "file": f / "sketch", "weight": 0.7}),
            "ip-adapter": ("ip_adapters", {"name": "look", "file": f / "look.safetensors"}),
        }
        rows["control"][1].update(seen)
        rows["second"][1].update(seen)
        rows["t2i"][1].update(seen)
        rows["ip-adapter"][1]["pictures"] = [self.picture]
        asked: dict[str, list[dict]] = {}
        for name, (field, item) in rows.items():
            if kind in (name, "all", "parts") or name in kind.split("+"):
                part = {"start": 0.25} if name in ("control", "lora") else {"end": 0.5}
                more = part if kind == "parts" and name != "embedding" else {}
                asked.setdefault(field, []).append(item | more)
        return asked

    def draw(self, kind: str, prompt: str = PROMPT, **more: Any) -> Any:
        return self.engine.generate(prompt, addons=self.ask(kind), **SETTINGS | more)

    def draw_plain(self, **more: Any) -> Any:
        return self.engine.generate(PROMPT, **SETTINGS | more)

    def replay(self, picture: Image.Image, kind: str, **more: Any) -> Any:
        """Of a picture that was drawn with the add-ons of a row."""
        path = self.folder / "kept.png"
        save_picture(picture, path)
        asked, places = self.ask(kind), {}
        given = {
            "embeddings": [item["file"] for item in asked.get("embeddings", ())],
            "ip_adapters": [item["file"] for item in asked.get("ip_adapters", ())],
            "pictures": [self.picture] if "ip_adapters" in asked else [],
        }
        for field in ("loras", "controls"):
            places[field] = {item["name"]: item["file"] for item in asked.get(field, ())}
        seen = [self.picture] * len(asked.get("controls", ()))
        rest = self.engine.model, self.engine.unet
        return replay(path, *rest, control_images=seen, others=given, **places, **more)
