"""SAMPLERS: the registry of samplers, plain metadata that imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from fromnoise.errors import UnknownName


@dataclass(frozen=True)
class Entry:
    """What is known of a sampler before it is loaded."""

    name: str
    label: str  # as A1111's web UI calls it
    module: str  # file in this folder
    function: str
    order: float | None  # of convergence with the number of steps, of the drift alone (noise held at 0)
    evaluations: int  # of the denoiser, a step
    stochastic: bool  # whether it draws noise by default
    options: tuple[str, ...] = ()


SAMPLERS = {
    entry.name: entry
    for entry in (
        Entry("euler", "Euler", "euler", "euler", 1.0, 1, False),
        Entry("euler_a", "Euler a", "euler", "euler_a", 1.0, 1, True, ("eta", "s_noise")),
        Entry("heun", "Heun", "heun", "heun", 2.0, 2, False),
        Entry("ddim", "DDIM", "ddim", "ddim", 1.0, 1, False, ("eta",)),
        Entry("dpmpp_2m", "DPM++ 2M", "dpmpp", "dpmpp_2m", 2.0, 1, False),
        Entry("dpmpp_2m_sde", "DPM++ 2M SDE", "dpmpp", "dpmpp_2m_sde", 2.0, 1, True, ("eta", "s_noise", "solver")),
    )
}


def find(name: str) -> Entry:
    """The entry of that name or label, in any case. Raises UnknownName."""
    for entry in SAMPLERS.values():
        if name.strip().lower() in (entry.name, entry.label.lower()):
            return entry
    raise UnknownName("sampler", name, SAMPLERS)


def load(name: str) -> Callable:
    """The generator function `sampler(x, sigmas, noise, **options)` of that name or label. Raises UnknownName."""
    entry = find(name)
    return getattr(import_module(f"{__name__}.{entry.module}"), entry.function)
