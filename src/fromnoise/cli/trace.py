"""`fromnoise generate --trace FOLDER`: the same pictures, and what happened inside."""

from pathlib import Path
from typing import TYPE_CHECKING

from fromnoise.cli.run import Run
from fromnoise.cli.terminal import print_note
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.rare_files import check_writable

if TYPE_CHECKING:
    from fromnoise.pipeline.generate import Step


def draw_with_trace(folder: Path, request: GenerationRequest, run: Run) -> None:
    """Draws, writes the pictures as `generate` does, and their traces into `folder`."""
    from fromnoise.pipeline.inside import report as trace_report

    trace_report.check_plotting()
    check_writable(folder / "trace.safetensors", trace_report.REMEDY)
    parts, unet, guide = run.load(encoder=False)
    from fromnoise.pipeline.generate import generate as draw
    from fromnoise.pipeline.inside.trace import Trace

    request = request.resolve(parts)
    trace = Trace(parts, request)
    with run.show_progress() as watch:

        def watch_both(step: "Step") -> None:
            trace.watch(step)
            watch(step)

        pictures = draw(parts, unet, request, watch=watch_both, guide=guide, observer=trace.observe)
    folders = trace_report.write_trace(trace, pictures, folder)
    run.facts["trace"] = [str(place) for place in folders]
    run.save_pictures(pictures, request)
    if not run.json:
        for place in folders:
            print_note(place, "trace")
