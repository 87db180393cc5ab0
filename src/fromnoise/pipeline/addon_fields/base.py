"""What every add-on of a request has: a name or a file, and the part of the run where it acts."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class AddOn(BaseModel):
    """One thing that is put on a model, by its name in the models' folders.

    `file` names it by its path instead: for Python and the command line, see addons.find_files. It
    acts in the steps i of n with start ≤ i / n and (i + 1) / n ≤ end, as in diffusers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # without what ends a tag in a prompt, and what no name of a file should hold
    name: str = Field(min_length=1, max_length=255, pattern=r"^[^<>:\x00-\x1f\x7f]+$")
    file: Path | None = None
    start: float = Field(default=0.0, ge=0, le=1, description="Share of the run before it acts.")
    end: float = Field(
        default=1.0, ge=0, le=1, description="Share of the run after which it is gone."
    )

    def acts(self, step: int, steps: int) -> bool:
        """Whether it acts in this step, counted from 0, of so many."""
        return self.start <= step / steps and (step + 1) / steps <= self.end
