"""`fromnoise generate --prompts`: prompts from a file, one a line; all are checked before the first
is drawn."""

import json
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from fromnoise.cli.output_files import find_drawn
from fromnoise.cli.run import Run, name_picture
from fromnoise.cli.terminal import print_note
from fromnoise.cli.texts import read_text_file
from fromnoise.cli.values import parse_options
from fromnoise.errors import BadInput
from fromnoise.pipeline.request import GenerationRequest

BYTES, LINES = 64 * 2**20, 100_000  # at most
# options that may come more than once
MANY = ("sampler_option", "spacing_option", "mask_file", "lora", "embedding", "ip_adapter")
MANY += ("ip_image", "control", "control_image", "control_mode", "control_resize")
MANY += ("control_preprocess",)
# what A1111's "prompts from file" and this command line call the fields
NAMES = {
    "negative": "negative_prompt",
    "ensd": "eta_noise_seed_delta",
    "cfg_scale": "cfg",
    "sampler_name": "sampler",
    "n_iter": "count",
    "batch_size": "count",
    "subseed": "variation_seed",
    "subseed_strength": "variation_strength",
}


def draw_batch(
    prompt: str | None,
    prompts: Path | None,
    request: GenerationRequest,
    run: Run,
    trace: Path | None = None,
) -> None:
    """Draws every line of the file `prompts`; `request` holds what the lines leave open. Raises
    BadInput, naming the lines, before the first picture."""
    if prompts is None or prompt is not None:
        raise BadInput(
            "say what to draw: either words, or --prompts FILE",
            'write it as "a neon cat in space"',
        )
    if trace is not None:
        raise BadInput("--trace looks into one run", "leave it out, or give one prompt by itself")
    if run.file is not None:
        raise BadInput(
            f"--prompts draws many pictures, and {run.file} is one file",
            "name a folder; see --format",
        )
    lines = read_lines(prompts)
    from fromnoise.pipeline.preflight import check_drawable, check_each

    base, width = request.model_dump(), len(str(lines[-1][0]))
    numbers = [number for number, _ in lines]
    names = [f"line {number}" for number in numbers]

    def build_request(line: str) -> GenerationRequest:
        one = type(request).of(**base | parse_line(line))
        if run.check:
            run.check(one)
        return one

    requests = check_each(zip(names, (line for _, line in lines), strict=True), build_request)
    parts, unet, guide = run.load(encoder=False)
    from fromnoise.pipeline.generate import generate as draw
    from fromnoise.pipeline.provenance.write import write_infotext

    requests = check_each(
        zip(names, requests, strict=True), lambda one: check_drawable(parts, unet, one, guide)
    )
    paths = [
        [
            run.folder / f"{number:0{width}}-{name_picture(one, i, run.suffix)}"
            for i in range(one.count)
        ]
        for number, one in zip(numbers, requests, strict=True)
    ]
    drawn = [
        [
            find_drawn(path, write_infotext(parts, one, i, unet.plan, None, guide))
            for i, path in enumerate(places)
        ]
        for one, places in zip(requests, paths, strict=True)
    ]
    if skipped := sum(all(found) for found in drawn):
        print_note(
            f"{skipped} of {len(drawn)} lines were drawn before, with the same settings: skipped"
        )
    for number, one, places, found in zip(numbers, requests, paths, drawn, strict=True):
        if all(found):
            if run.json:
                from fromnoise.cli.json_output import print_json

                pictures = [
                    {"path": str(path), "seed": (one.seed or 0) + i} for i, path in enumerate(found)
                ]
                print_json({"line": number, "skipped": True, "pictures": pictures})
            continue
        run.started, run.notes = time.perf_counter(), {}
        run.facts["line"] = number
        with run.show_progress() as watch:
            pictures = draw(parts, unet, one, watch=watch, guide=guide)
        run.save_pictures(pictures, one, places)
        sys.stdout.flush()  # a program that reads along learns of each picture when it is there


def read_lines(source: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of the lines that ask for pictures; "-" is standard input. Raises
    NotFound, BadInput."""
    text = read_text_file(source, BYTES)
    lines = [
        (number, line.strip())
        for number, line in enumerate(re.split("\r\n|\r|\n", text), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise BadInput(
            f"{source} holds no prompt", "write one a line; lines that begin with # are left out"
        )
    if len(lines) > LINES:
        raise BadInput(f"{source} is too long", f"split it: {LINES:,} lines are the most")
    return lines


def parse_line(line: str) -> dict[str, Any]:
    """The fields of a line's request: JSON, options, or else the prompt alone. Raises BadInput."""
    if line.startswith("--"):
        values = parse_line_options(line)
    elif line.startswith("{"):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"begins with a brace and is not JSON: {error}",
                'write {"prompt": "a cat", "seed": 7}, also where the prompt itself has a brace',
            ) from error
    else:
        return {"prompt": line}
    if "prompt" not in values:
        raise BadInput("has no prompt", 'name it "prompt"; it may be empty')
    return values


def parse_line_options(line: str) -> dict[str, Any]:
    """`--prompt "a cat" --steps 20 --size 64`: fields by their names here or in A1111's script,
    where a value goes on to the next option and the seed -1 is a random one. Raises BadInput."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        remedy = 'put prompts in double quotes: --prompt "a cat\'s tail"'
        raise BadInput(f"cannot be taken apart: {error}", remedy) from error
    found: dict[str, list[str]] = {}
    key = ""
    for word in words:
        if word.startswith("--"):
            key = NAMES.get(name := word[2:].replace("-", "_"), name)
            if key in found and key not in MANY:
                raise BadInput(f"{word} is given twice", "leave one out")
            found.setdefault(key, [])
        else:
            found[key].append(word)
    more: dict[str, Any] = {name: found.pop(name) for name in MANY if name in found}
    more |= {k: " ".join(found.pop(k)) or None for k in ("size", "image_encoder") if k in found}
    fields = parse_options(**more)
    fields = {name: value for name, value in fields.items() if value != {}}
    for name, values in found.items():
        value = " ".join(values) if values or "prompt" in name else True
        fields[name] = None if "seed" in name and value == "-1" else value
    return fields
