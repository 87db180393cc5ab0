"""`fromnoise replay`: draws a picture again from the settings in it, and says whether it is the
same."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.json_output import print_json
from fromnoise.cli.terminal import print_line
from fromnoise.pipeline.provenance.read import read_settings
from fromnoise.pipeline.saving import save_picture
from fromnoise.rare_files import check_writable


def replay(
    file: Annotated[Path, typer.Argument(help="A picture that carries its settings.")],
    model: Annotated[
        str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="What it was made from, if it is an edit or a blend.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="And the mask.")] = None,
    mask_file: Annotated[
        list[str] | None, typer.Option(help="What IMASK(left) means: left=left.png.")
    ] = None,
    upscaler: Annotated[
        Path | None, typer.Option(help="The network's file, if one enlarged it.")
    ] = None,
    image2: Annotated[Path | None, typer.Option(help="The second one, if it is a blend.")] = None,
    vae: Annotated[
        Path | None, typer.Option(help="The VAE, if it was not the model's own.")
    ] = None,
    guide: Annotated[str | None, typer.Option(help="The model that guided it, if one did.")] = None,
    refiner: Annotated[
        str | None, typer.Option(help="The model that drew its end, if one did.")
    ] = None,
    refiner_switch: Annotated[float, typer.Option(help="Where that took over.")] = 0.8,
    depth_map: Annotated[
        Path | None, typer.Option(help="The depths that it was drawn by, if any.")
    ] = None,
    lora: Annotated[
        list[Path] | None, typer.Option(help="A LoRA's file, if it lies in no folder of models.")
    ] = None,
    control: Annotated[
        list[Path] | None, typer.Option(help="A ControlNet's file, if it lies in no such folder.")
    ] = None,
    control_image: Annotated[
        list[Path] | None, typer.Option(help="What each ControlNet saw, in their order.")
    ] = None,
    embedding: Annotated[
        list[Path] | None, typer.Option(help="An embedding's file, if it lies in no such folder.")
    ] = None,
    ip_adapter: Annotated[
        list[Path] | None, typer.Option(help="An IP-Adapter's file, if it lies in no such folder.")
    ] = None,
    ip_image: Annotated[
        list[Path] | None, typer.Option(help="The pictures that IP-Adapters looked at.")
    ] = None,
    image_encoder: Annotated[
        Path | None, typer.Option(help="CLIP's image tower for them, if it is not found.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="As the picture says if left out.")] = None,
    dtype: Annotated[str | None, typer.Option(help="As the picture says if left out.")] = None,
    max_cost: Annotated[
        float, typer.Option(help="The most that it may cost, in default pictures of the model.")
    ] = 100.0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the new picture: .png, .jpg or .webp.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Draw a picture again. Exit codes: 0 identical, 1 near or different, and why."""
    from fromnoise.checkpoints.hub import load_parts
    from fromnoise.cli.values import parse_pairs
    from fromnoise.pipeline.replay import read_plan
    from fromnoise.pipeline.replay import replay as replay_picture
    from fromnoise.runtime.prepare import prepare_model

    if out is not None:
        check_writable(out)
    network = None
    if upscaler is not None:
        from fromnoise.checkpoints.formats.upscaler import load

        network = load(upscaler)
    was = read_plan(file) or ("cpu", "fp32")
    told = read_settings(file).fields.get("Prediction")
    parts = load_parts(model, image_tower=image2 is not None, prediction=told)
    if vae is not None:
        from fromnoise.checkpoints.formats.vae import replace_vae

        replace_vae(parts, vae)
    masks = {name: Path(value) for name, value in parse_pairs(mask_file, "left=left.png").items()}
    unet = prepare_model(parts, device or was[0], dtype or was[1])
    weaker = None
    if guide is not None:
        from fromnoise.runtime.guide import prepare_guide

        weaker = prepare_guide(
            parts, load_parts(guide, image_tower=False), device or was[0], dtype or was[1]
        )
    if refiner is not None:
        from fromnoise.runtime.refiner import prepare_refiner

        second = load_parts(refiner, image_tower=False)
        of = device or was[0], dtype or was[1]
        parts.refiner = prepare_refiner(parts, second, refiner_switch, *of)
    result = replay_picture(
        file,
        parts,
        unet,
        image,
        mask,
        masks,
        network,
        image2,
        weaker,
        max_cost,
        depth_map,
        {path.stem: path for path in lora or ()},
        control_image or (),
        {path.name if path.is_dir() else path.stem: path for path in control or ()},
        {
            "embeddings": embedding or (),
            "ip_adapters": ip_adapter or (),
            "pictures": ip_image or (),
            "encoder": [image_encoder] if image_encoder else (),
        },
    )
    if out is not None:
        save_picture(result.picture, out)
    if json:
        outcome = {
            "verdict": result.verdict,
            "difference": result.difference,
            "reasons": result.reasons,
        }
        print_json(outcome | {"unused": result.unused})
    else:
        size = "" if not result.difference else f", by {result.difference} of 255 levels at most"
        print(f"{result.verdict}{size}")
        for reason in result.reasons if result.difference != 0 else ():
            print_line(f"  {reason}")
    if result.verdict != "identical":
        sys.exit(1)
