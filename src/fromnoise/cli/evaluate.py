"""`fromnoise evaluate`: how well a model follows its prompts, as a table and an HTML report."""

import json as jsonlib
import time
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.errors import BadInput


def evaluate(
    model: Annotated[
        str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="The data source whose captions are drawn.")
    ] = "stickers",
    n: Annotated[
        int, typer.Option(min=1, help="Captions of seen, and as many of held-out combinations.")
    ] = 300,
    minimum: Annotated[
        int, typer.Option(min=0, help="Go on until every attribute was stated so often.")
    ] = 0,
    judge: Annotated[
        Path | None, typer.Option(help="The judge's folder; `judge` in the model's if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path(
        "evaluation"
    ),
    steps: Annotated[int | None, typer.Option(min=1, help="Number of denoising steps.")] = None,
    cfg: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="The sampler, as `fromnoise samplers` lists them.")
    ] = None,
    spacing: Annotated[str | None, typer.Option(help="Spacing of the noise levels.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Other captions and pictures; equal seeds pair two runs.")
    ] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Pictures drawn at once.")] = 32,
    runs: Annotated[
        Path | None, typer.Option(help="The training's folder, to show its curves.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="Precision of the network: fp32, bf16 or fp16.")
    ] = "fp32",
    json: Annotated[
        bool, typer.Option("--json", help="Print every figure as JSON, for scripts.")
    ] = False,
) -> None:
    """Measure a model: how well does it follow its prompts?"""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from fromnoise.api import load
    from fromnoise.data.sources import open_source
    from fromnoise.evaluate import faithfulness, reconstruction, retrieval
    from fromnoise.evaluate.judge import Judge
    from fromnoise.evaluate.report import Report, as_dict, build_tables, write_report
    from fromnoise.pipeline.seeing.clip import build_embedders

    started = time.perf_counter()
    engine = load(model, device, dtype, batch=batch)
    data = open_source(source, size=engine.model.size)
    folder = judge or find_judge(model)
    reader = Judge.load(folder).to(engine.unet.device)
    if dict(data.schema) != reader.config.schema:
        raise BadInput(
            f"the judge in {folder} reads other attributes than {source} has",
            "train the judge again",
        )
    if reader.fingerprint != data.fingerprint:
        learned = reader.fingerprint or "it does not say which"
        message = (
            f"warning: the judge in {folder} learned other pictures ({learned}) than"
            f" {data.fingerprint}"
        )
        Console(stderr=True).print(message, soft_wrap=True, highlight=False)
    settings = {
        k: v
        for k, v in {"steps": steps, "cfg": cfg, "sampler": sampler, "spacing": spacing}.items()
        if v
    }
    draw = faithfulness.build_drawer(engine, **settings)
    reconstruct = reconstruction.build_reconstructor(engine.model.vae)
    report = Report(f"How well {engine.model.source or 'the model'} follows its prompts")
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=json) as bar:
        for split, first in (
            ("seen", faithfulness.SEEDS),
            ("held_out", faithfulness.HELD_OUT_SEEDS),
        ):
            line = bar.add_task(f"drawing {split.replace('_', '-')}", total=None)
            result = faithfulness.evaluate(
                draw,
                data,
                reader,
                n,
                split,
                minimum,
                first + seed * 1_000_000,
                reconstruct,
                batch,
                progress=lambda done, total, line=line: bar.update(
                    line, completed=done, total=total
                ),
            )
            setattr(report, split, result)
        line = bar.add_task("autoencoder", total=1)
        report.reconstruction = reconstruction.evaluate(reconstruct, data)
        bar.update(line, completed=1)
        if engine.model.vision is not None:
            line = bar.add_task("CLIP", total=1)
            report.retrieval = retrieval.evaluate(*build_embedders(engine.model), data)
            bar.update(line, completed=1)
    if runs is not None:
        report.curves = read_curves(runs)
    used = faithfulness.build_request(engine, **settings)
    where = (
        f" where {used.guidance.low:g} < σ ≤ {used.guidance.high:g}"
        if used.guidance.high < float("inf")
        else ""
    )
    report.facts = {
        "model": f"{engine.model.source or '–'} {engine.model.digest}".strip(),
        "drawn with": f"{used.sampler}, {used.spacing}, {used.steps} steps,"
        f" guidance {used.cfg:g}{where}",
        "pictures": f"{used.width} × {used.height}, {data.fingerprint}",
        "seed": str(seed),
        "plan": engine.unet.plan,
        "time": f"{(time.perf_counter() - started) / 60:.1f} min",
    }
    page = write_report(report, out)
    if json:
        print(jsonlib.dumps(as_dict(report) | {"report": str(page)}, ensure_ascii=False))
    else:
        Console().print(build_tables(report))
        print(page)


def find_judge(model: str | None) -> Path:
    """Where the judge of a model lies: `judge` in its folder, wherever that is."""
    from fromnoise.checkpoints import hub
    from fromnoise.checkpoints.download import find_elsewhere

    if model is None:
        return hub.BUNDLED / "judge"
    return find_elsewhere(model, Path(model).expanduser()) / "judge"


def read_curves(runs: Path) -> dict[str, list[tuple[float, float]]]:
    """The loss of every stage that left a log.jsonl in a folder below `runs`.

    Raises BadInput when there is none, or one is damaged.
    """
    losses = {}
    for log in sorted(runs.glob("*/log.jsonl")):
        try:
            rows = [jsonlib.loads(line) for line in log.read_text("utf-8").splitlines()]
            points = [(float(row["pictures"]), float(row["loss"])) for row in rows]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{log} is damaged: {error}", "remove it, or leave out --runs") from None
        losses[f"{log.parent.name}: loss"] = points
    if not losses:
        raise BadInput(
            f"no training curves in {runs}", "give the folder that `fromnoise train --runs` wrote"
        )
    return losses
