"""`fromnoise convert --lora`: a model with LoRA merged into its weights."""

import tempfile
from pathlib import Path

from fromnoise.checkpoints.convert import TYPES, Report, convert
from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.checkpoints.hub import load_parts
from fromnoise.cli.values import parse_lora
from fromnoise.errors import BadInput, UnknownName
from fromnoise.pipeline.addon_fields.addons import read_addons
from fromnoise.pipeline.addons.lora import merge


def write_merged(
    path: Path, out: Path, to: str, dtype: str, prediction: str | None, loras: list[str]
) -> Report:
    """Writes the model with these LoRA in it. The networks are built for it, and all weights are
    written in one type: dtype, or that of the U-Net's file. Raises as `convert` and as the LoRA."""
    if dtype not in TYPES:
        raise UnknownName("type of weights", dtype, TYPES)
    if to == "folder" and out.exists():
        raise BadInput(f"{out} is there already", "choose another name")
    addons = read_addons({"loras": [parse_lora(text) for text in loras]})
    assert addons is not None
    if any(lora.start or lora.end != 1 for lora in addons.loras):
        raise BadInput("a file has no steps", "leave out the part of the run, @START-END")
    model = merge(load_parts(path, prediction=prediction), addons.loras)
    chosen = TYPES[dtype] or model.dtypes["unet"]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        whole = Path(folder) / "model"
        diffusers_folder_save.save(model, whole, chosen)
        report = convert(whole, out, to, "keep", prediction)
    names = ", ".join(f"{lora.name} ({lora.weight:g})" for lora in addons.loras)
    report.notes.append(f"merged in: {names}")
    return report
