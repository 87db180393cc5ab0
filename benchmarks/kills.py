"""kill −9 of the server at random moments, under many clients: is every accepted job drawn once?

    python benchmarks/kills.py [--kills 30] [--clients 20] [--jobs 10] [--bundled] [--pause 1.5]

On SQLite, and on a throw-away PostgreSQL where one is installed. Without --bundled a fake worker
draws, whose pictures follow from seed and prompt. It fails where a job is lost, drawn twice, or has
other pictures than an undisturbed run.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/serve"))
import kills
from clusters import open_cluster


def expect_bundled(folder: Path):
    """settings of a job → the hashes of its pictures, drawn in this process."""
    from fromnoise.api import load
    from fromnoise.pipeline.generate import generate
    from fromnoise.pipeline.request import GenerationRequest
    from fromnoise.serve.store.files import Files

    engine = load()

    def expect(settings: dict) -> list[str]:
        request = GenerationRequest.of(**settings)
        drawn = generate(engine.model, engine.unet, request)
        return [Files(folder).add_picture(picture)[0] for picture in drawn]

    return expect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("kills", 30), ("clients", 20), ("jobs", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bundled", action="store_true")
    parser.add_argument("--pause", type=float, default=1.5, help="seconds until a kill, at most")
    options = parser.parse_args()
    numbers = options.kills, options.clients, options.jobs
    print("| database | kills | jobs accepted | done once | begun 1×, 2×, 3×, … | seconds |")
    print("|---|---:|---:|---:|---|---:|")
    with tempfile.TemporaryDirectory() as name, open_cluster() as cluster:
        for kind in ("SQLite", *(["PostgreSQL"] if cluster else [])):
            folder = Path(name) / kind
            folder.mkdir()
            url = cluster.format("postgres") if cluster and kind != "SQLite" else ""
            expect = lambda settings: kills.expect_fake(settings, Path(name) / "alone")  # noqa: E731
            if options.bundled:
                expect = expect_bundled(Path(name) / "alone")
            trial = kills.Trial(folder, url, "bundled" if options.bundled else "0.01")
            begun = time.perf_counter()
            try:
                attempts = kills.run_trial(trial, *numbers, expect, pause=options.pause)
            finally:
                if trial.process and trial.process.poll() is None:
                    trial.kill()
                os.sync()
            counts = ", ".join(str(attempts[i]) for i in range(1, max(attempts) + 1))
            done = sum(attempts.values())
            seconds = time.perf_counter() - begun
            accepted = len(trial.accepted)
            print(f"| {kind} | {numbers[0]} | {accepted} | {done} | {counts} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
