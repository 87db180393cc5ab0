"""Writes the nine pictures that the tests of the form drop on the page: PNG, JPEG and WebP as
A1111, ComfyUI and InvokeAI have them. Called with a folder.

A1111 writes a text of PNG, and the same text as EXIF's UserComment in UTF-16 (its
modules/images.py). ComfyUI writes its graph as a text of PNG, and in WebP as EXIF's Model, with the
editor's workflow as its Make (its comfy_extras/nodes_images.py); nodes of others do so in JPEG.
InvokeAI writes PNG alone: its JSON as a UserComment stands for a converter that keeps the texts.
"""

import json
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

MAKE, MODEL, EXIF, USER_COMMENT = 0x010F, 0x0110, 0x8769, 0x9286
PROMPT, NEGATIVE = "a red fox, süß 🦊", "snow"
SIZE = {"width": 128, "height": 144}

A1111 = f"""{PROMPT}
Negative prompt: {NEGATIVE}
Steps: 3, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.5, Seed: 4294967295, \
Size: 128x144, Model hash: 6ce0161689, Model: someone-elses-model, Denoising strength: 0.4, \
Hires upscale: 1.25, Hires upscaler: Their ESRGAN, Wonder: 5, Version: v1.10.1"""


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


SAMPLER = node(
    "KSampler",
    seed=12345678901234567890,
    steps=3,
    cfg=3.5,
    sampler_name="dpmpp_2m",
    scheduler="karras",
    denoise=1.0,
    model=["10", 0],
    positive=["6", 0],
    negative=["7", 0],
    latent_image=["5", 0],
)
LORA = {"lora_name": "their-style.safetensors", "strength_model": 0.8, "strength_clip": 0.8}
GRAPH = {
    "3": SAMPLER,
    "4": node("CheckpointLoaderSimple", ckpt_name="someone-elses-model.safetensors"),
    "5": node("EmptyLatentImage", **SIZE, batch_size=1),
    "6": node("CLIPTextEncode", text=PROMPT, clip=["10", 1]),
    "7": node("CLIPTextEncode", text=NEGATIVE, clip=["10", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="x", images=["8", 0]),
    "10": node("LoraLoader", **LORA, model=["4", 0], clip=["4", 1]),
}
WORKFLOW = {"nodes": [{"id": 3, "type": "KSampler"}], "links": [], "version": 0.4}
INVOKE = SIZE | {
    "generation_mode": "txt2img",
    "positive_prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "seed": 4294967295,
    "rand_device": "cpu",
    "cfg_scale": 3.5,
    "steps": 3,
    "scheduler": "dpmpp_2m_k",
    "model": {"name": "someone-elses-model", "hash": "blake3:1f", "base": "sd-1"},
    "hrf_enabled": True,
    "app_version": "5.4.2",
}


def write(folder: Path, maker: str, texts: dict[str, str], tags: dict[int, str]) -> None:
    """A picture in three files; texts: of PNG; tags: of EXIF."""
    picture = Image.linear_gradient("L").resize((128, 144)).convert("RGB")
    png = PngInfo()
    for name, text in texts.items():
        png.add_itxt(name, text)
    picture.save(folder / f"{maker}.png", pnginfo=png)
    exif = Image.Exif()
    for tag, text in tags.items():
        if tag == USER_COMMENT:
            exif.get_ifd(EXIF)[tag] = b"UNICODE\0" + text.encode("utf-16-be")
        else:
            exif[tag] = text
    for kind in ("jpg", "webp"):
        picture.save(folder / f"{maker}.{kind}", exif=exif)


def main() -> None:
    folder = Path(sys.argv[1])
    graph, workflow, invoke = map(json.dumps, (GRAPH, WORKFLOW, INVOKE))
    write(folder, "a1111", {"parameters": A1111}, {USER_COMMENT: A1111})
    tags = {MODEL: f"prompt:{graph}", MAKE: f"workflow:{workflow}"}
    write(folder, "comfyui", {"prompt": graph, "workflow": workflow}, tags)
    write(folder, "invokeai", {"invokeai_metadata": invoke}, {USER_COMMENT: invoke})


if __name__ == "__main__":
    main()
