"""`fromnoise generate --prompts`: prompts from a file, one a line; all are checked before the first
is drawn."""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from fromnoise.cli.outputs import choose_path, is_drawn
from fromnoise.cli.run import Run
from fromnoise.cli.values import parse_options
from fromnoise.errors import BadInput, NotFound
from fromnoise.pipeline.request import GenerationRequest

BYTES, LINES = 64 * 2**20, 100_000  # at most
MANY = ("sampler_option", "spacing_option", "mask_file")  # options that may come more than once
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
    """Draws every line of the file `prompts`; `request` holds what the lines leave unsaid. Raises
    BadInput, naming the lines, before the first picture."""
    if prompts is None or prompt is not None:
        raise BadInput(
            "say what to draw: words, or --prompts FILE, and not both",
            'write it as "a neon cat in space"',
        )
    if trace is not None:
        raise BadInput("--trace looks into one run", "leave it out, or give one prompt by itself")
    if run.out is not None and run.out.suffix:
        raise BadInput(
            f"--prompts draws many pictures, and {run.out} is one file",
            "name a folder; see --format",
        )
    found = read_lines(prompts)
    from fromnoise.pipeline.preflight import check_drawable, check_each

    base, width = request.model_dump(), len(str(found[-1][0]))
    numbers = [number for number, _ in found]
    names = [f"line {number}" for number in numbers]

    def asked(line: str) -> GenerationRequest:
        made = type(request).of(**base | parse_line(line))
        if run.check:
            run.check(made)
        return made

    requests = check_each(zip(names, (line for _, line in found), strict=True), asked)
    parts, unet, guide = run.load(encoder=False)
    from fromnoise.pipeline.generate import generate as draw
    from fromnoise.pipeline.provenance.write import write_infotext

    requests = check_each(
        zip(names, requests, strict=True), lambda one: check_drawable(parts, unet, one, guide)
    )
    stems = [f"{number:0{width}}-" for number in numbers]
    outs = [
        choose_line_path(run.out, one, stem, run.suffix)
        for one, stem in zip(requests, stems, strict=True)
    ]

    def done(item: tuple[GenerationRequest, Path]) -> bool:
        one, out = item
        there = [
            is_drawn(
                choose_path(out, one, i), write_infotext(parts, one, i, unet.plan, None, guide)
            )
            for i in range(one.count)
        ]
        return all(there)

    skipped = check_each(zip(names, zip(requests, outs, strict=True), strict=True), done)
    if any(skipped):
        print(
            f"note: {sum(skipped)} of {len(skipped)} lines were drawn before, with these very settings: skipped",
            file=sys.stderr,
        )
    for number, one, out, already in zip(numbers, requests, outs, skipped, strict=True):
        if already:
            if run.json:
                paths = [
                    {"path": str(choose_path(out, one, i)), "seed": (one.seed or 0) + i}
                    for i in range(one.count)
                ]
                print(
                    json.dumps(
                        {"line": number, "skipped": True, "pictures": paths}, ensure_ascii=False
                    )
                )
            continue
        run.started, run.notes, run.out = time.perf_counter(), {}, out
        run.facts["line"] = number
        with run.show_progress() as watch:
            pictures = draw(parts, unet, one, watch=watch, guide=guide)
        run.save_pictures(pictures, one)
        sys.stdout.flush()  # who reads along learns of each picture when it is there


def read_lines(source: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of the lines that ask for pictures; "-" is standard input. Raises
    NotFound, BadInput."""
    if str(source) == "-":
        text = sys.stdin.read(BYTES + 1)
    else:
        try:
            with source.open("rb") as file:
                raw = file.read(BYTES + 1)
            text = raw.decode("utf-8-sig")
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {source}", "look for a slip in its name") from error
        except OSError as error:
            raise BadInput(
                f"cannot read {source}: {error.strerror}", "name a text file, or - for input"
            ) from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise BadInput(
                f"line {line} of {source} is not UTF-8", "save the file as UTF-8"
            ) from error
    whole = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found = [
        (i, line.strip())
        for i, line in enumerate(whole, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise BadInput(
            f"{source} holds no prompt", "write one a line; lines that begin with # are left out"
        )
    if len(text) > BYTES or len(found) > LINES:
        raise BadInput(
            f"{source} is too long", f"split it: {LINES:,} lines and {BYTES >> 20} MiB are the most"
        )
    return found


def parse_line(line: str) -> dict[str, Any]:
    """What a line says of its request: JSON, options, or else the prompt alone. Raises BadInput."""
    if line.startswith("--"):
        said = parse_line_options(line)
    elif line.startswith("{"):
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"begins with a brace and is no JSON: {error}",
                'write {"prompt": "a cat", "seed": 7}, also where the prompt itself has a brace',
            ) from error
    else:
        return {"prompt": line}
    if "prompt" not in said:
        raise BadInput("has no prompt", 'name it "prompt"; it may be empty')
    return said


def parse_line_options(line: str) -> dict[str, Any]:
    """`--prompt "a cat" --steps 20 --size 64`: fields by their names here or in A1111's script,
    where a value goes on to the next option and -1 is a seed by lot. Raises BadInput."""
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
    size = " ".join(found.pop("size", []))
    said = parse_options(**{name: found.pop(name, None) for name in MANY}, size=size or None)
    said = {name: value for name, value in said.items() if value != {}}
    for name, values in found.items():
        value = " ".join(values) if values or "prompt" in name else True
        said[name] = None if "seed" in name and value == "-1" else value
    return said


def choose_line_path(
    folder: Path | None, request: GenerationRequest, stem: str, suffix: str
) -> Path:
    """The file of a line's picture, or of several the one that their names are made of; no two
    lines have the same."""
    path = choose_path(folder, request, 0, suffix)
    name = (
        path.name
        if request.count == 1
        else path.name.removesuffix(f"-{request.seed}{suffix}") + suffix
    )
    return path.with_name(stem + name)
