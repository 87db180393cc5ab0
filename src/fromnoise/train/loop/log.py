"""The figures of a training run: averaged, kept as rows, written and plotted."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from fromnoise.files import write_file

REMEDY = "free some space on this disk, then run the same command again"


@dataclass
class Log:
    """One row for every `every` steps, with the means of the figures of those steps."""

    every: int = 50
    rows: list[dict[str, float]] = field(default_factory=list)
    rate: float = 0.0  # pictures a second, smoothed
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0  # steps in `sums`

    def add(self, figures: dict[str, float], pictures: int, seconds: float) -> None:
        """Adds one step's figures. The step showed `pictures` pictures in `seconds`."""
        now = pictures / max(seconds, 1e-9)
        self.rate = 0.95 * self.rate + 0.05 * now if self.rate else now
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def close_row(self, step: int, pictures: int, elapsed: float) -> bool:
        """Ends a row when `step` is a multiple of `every`. Returns whether it did."""
        if step % self.every:
            return False
        means = {name: round(total / self.count, 6) for name, total in self.sums.items()}
        counters = {
            "pictures": pictures,
            "seconds": round(elapsed, 1),
            "rate": round(self.rate, 2),
        }
        self.rows.append({**counters, **means})
        self.sums, self.count = {}, 0
        return True

    def state(self) -> dict[str, object]:
        return {"rows": self.rows, "sums": self.sums, "count": self.count}

    def write(self, folder: Path) -> None:
        """Writes log.jsonl and, from the second row on, the curves in loss.png."""
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_file(folder / "log.jsonl", lambda part: part.write_text(text), remedy=REMEDY)
        plot_log(self.rows, folder / "loss.png")


def plot_log(rows: list[dict[str, float]], path: Path) -> None:
    """Draws every figure of the log against the pictures seen, each in its own panel."""
    if len(rows) < 2:
        return
    from matplotlib.figure import Figure

    names = [name for name in rows[-1] if name not in ("pictures", "seconds", "rate")]
    figure = Figure(figsize=(4 * len(names), 3))
    panels = figure.subplots(1, len(names), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        points = [(row["pictures"], row[name]) for row in rows if name in row]
        panel.plot(*zip(*points, strict=True), lw=1)
        panel.set(title=name, xlabel="pictures")
        panel.grid(alpha=0.3)
        if name == "loss" and min(value for _, value in points) > 0:
            panel.set_yscale("log")
    figure.tight_layout()
    write_file(path, lambda part: figure.savefig(part, format="png", dpi=90), remedy=REMEDY)
