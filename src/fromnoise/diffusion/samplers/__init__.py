"""SAMPLERS: the registry of samplers. It is plain metadata and imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from fromnoise.errors import UnknownName


@dataclass(frozen=True)
class Entry:
    """The metadata of a sampler, readable before its module loads."""

    name: str
    label: str  # the name in A1111's web UI, or one of that style
    module: str  # file in this folder
    function: str
    order: float | None  # of convergence, for the drift alone and from exact starting values
    evaluations: int | None  # calls of the denoiser in one step; None: the sampler decides
    stochastic: bool  # whether it draws noise by default
    options: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # names in A1111's, ComfyUI's and k-diffusion's own code
    preset: dict[str, Any] = field(default_factory=dict)  # fixed options of the function
    spacing: str = "uniform"  # A1111's "automatic" choice for it
    brownian: bool = False  # its noise is a Brownian path (A1111's choice), not new at each step
    uncond: bool = False  # needs the unconditional picture
    discard_penultimate: bool = False  # A1111 leaves out the last positive level
    own_order: float | None = None  # the order with its own start, where that is lower
    why: str = ""  # the reason for a missing order
    timesteps: bool = False  # it takes the noise schedule too, as `schedule`


CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
ANCESTRAL = ("eta", "s_noise")
SA = ("tau", "tau_min", "tau_max", "s_noise", "predictor", "corrector")
UNIPC = ("lower_order_final", "predict", "uncorrected")
DPM = ("order", "predict", "solver", "sde", "lower_order_final")

SAMPLERS = {
    entry.name: entry
    for entry in (
        Entry("euler", "Euler", "euler", "euler", 1, 1, False, CHURN, ("k_euler",)),
        Entry("euler_a", "Euler a", "euler", "euler_a", 1, 1, True, ANCESTRAL,
              ("euler_ancestral", "k_euler_a", "k_euler_ancestral")),
        Entry("heun", "Heun", "heun", "heun", 2, 2, False, CHURN, ("k_heun",)),
        Entry("heunpp2", "Heun++ 2", "heun", "heunpp2", 1, 3, False, CHURN),
        Entry("dpm2", "DPM2", "dpm2", "dpm2", 2, 2, False, CHURN, ("dpm_2", "k_dpm_2"),
              spacing="karras", discard_penultimate=True),
        Entry("dpm2_a", "DPM2 a", "dpm2", "dpm2_a", 1, 2, True, ANCESTRAL,
              ("dpm_2_ancestral", "k_dpm_2_a", "k_dpm_2_ancestral"), spacing="karras",
              discard_penultimate=True),
        Entry("ddim", "DDIM", "ddim", "ddim", 1, 1, False, (*ANCESTRAL, "stride"), spacing="ddim",
              timesteps=True),
        Entry("ddpm", "DDPM", "ddim", "ddim", 1, 1, True, ("s_noise",), preset={"eta": 1.0}),
        Entry("tcd", "TCD", "strides", "tcd", None, 1, True, ANCESTRAL, timesteps=True,
              why="it is for networks that were distilled to step so"),
        Entry("lms", "LMS", "adams", "lms", 4, 1, False, ("order",), ("k_lms",), own_order=2),
        Entry("plms", "PLMS", "adams", "plms", None, 1, False, ("start", "predict", "stride"),
              spacing="ddim", timesteps=True,
              why="its weights are those of even steps, and no run's levels are even in sigma"),
        Entry("ipndm", "IPNDM", "adams", "ipndm", 2, 1, False, ("order",)),
        Entry("ipndm_v", "IPNDM V", "adams", "ipndm_v", None, 1, False, ("order", "exact"),
              why="two of its published weights are wrong for uneven steps; with exact it is LMS"),
        Entry("deis", "DEIS", "adams", "deis", 3, 1, False, ("order", "variable", "final_order"),
              own_order=2),
        Entry("gradient_estimation", "Gradient estimation", "adams", "gradient_estimation", 1, 1,
              False, ("gamma",)),
        Entry("dpm_solver_3", "DPM-Solver-3", "dpm_solver", "dpm_solver_3", 3, 3, False),
        Entry("dpm_fast", "DPM fast", "dpm_solver", "dpm_fast", None, 1, True, ANCESTRAL,
              ("k_dpm_fast",), why="its steps are of order 3, 2 and 1, at levels of its own"),
        Entry("dpm_adaptive", "DPM adaptive", "dpm_solver", "dpm_adaptive", None, None, True,
              (*ANCESTRAL, "order", "rtol", "atol", "h_init", "accept_safety"),
              ("k_dpm_ad", "k_dpm_adaptive"),
              why="it takes as many steps as its tolerance asks for"),
        Entry("dpmpp_2m", "DPM++ 2M", "dpmpp", "dpmpp_2m", 2, 1, False, (), ("k_dpmpp_2m",),
              spacing="karras"),
        Entry("dpmpp_3m", "DPM++ 3M", "dpmpp_sde", "dpmpp_3m", 3, 1, False, (), spacing="karras",
              own_order=2),
        Entry("dpmpp_2m_sde", "DPM++ 2M SDE", "dpmpp_sde", "dpmpp_2m_sde", 2, 1, True,
              (*ANCESTRAL, "solver"), ("k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu"), spacing="exponential",
              brownian=True),
        Entry("dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun", "dpmpp_sde", "dpmpp_2m_sde", 2, 1, True,
              ANCESTRAL, ("k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"), {"solver": "heun"},
              "exponential", brownian=True),
        Entry("dpmpp_3m_sde", "DPM++ 3M SDE", "dpmpp_sde", "dpmpp_3m_sde", 2, 1, True,
              (*ANCESTRAL, "exact"), ("k_dpmpp_3m_sde", "dpmpp_3m_sde_gpu"), spacing="exponential",
              brownian=True, discard_penultimate=True),
        Entry("dpmpp_sde", "DPM++ SDE", "dpmpp_sde", "dpmpp_sde", 2, 2, True, (*ANCESTRAL, "r"),
              ("k_dpmpp_sde", "dpmpp_sde_gpu"), spacing="karras", brownian=True),
        Entry("dpmpp_2s_a", "DPM++ 2S a", "dpmpp_2s", "dpmpp_2s_a", 1, 2, True, ANCESTRAL,
              ("dpmpp_2s_ancestral", "k_dpmpp_2s_a"), spacing="karras"),
        Entry("dpm_multistep", "DPM-Solver multistep", "dpm_general", "dpm_multistep", 2, 1, False,
              (*DPM, "euler_at_final")),
        Entry("dpm_singlestep", "DPM-Solver singlestep", "dpm_general", "dpm_singlestep", None, 1,
              False, DPM, why="its steps have orders 1, 2 and 3 in turn"),
        Entry("restart", "Restart", "restart", "restart", None, 2, True, ("s_noise",),
              spacing="karras", why="it goes back up with fresh noise"),
        Entry("unipc", "UniPC", "unipc", "unipc", 4, 1, False,
              ("order", "variant", *UNIPC), ("uni_pc",), spacing="ddim", own_order=2),
        Entry("unipc_bh2", "UniPC BH2", "unipc", "unipc", 4, 1, False,
              ("order", *UNIPC), ("uni_pc_bh2",), {"variant": "bh2"}, own_order=2),
        Entry("res_multistep", "RES multistep", "res", "res_multistep", 2, 1, False),
        Entry("res_multistep_a", "RES multistep a", "res", "res_multistep", 2, 1, True, ANCESTRAL,
              ("res_multistep_ancestral",), {"eta": 1.0}),
        Entry("er_sde", "ER-SDE", "er_sde", "er_sde", 2, 1, True, ("s_noise", "order", "exact")),
        Entry("seeds_2", "SEEDS-2", "seeds", "seeds_2", 2, 2, True, (*ANCESTRAL, "r", "exact")),
        Entry("seeds_3", "SEEDS-3", "seeds", "seeds_3", 3, 3, True, (*ANCESTRAL, "r1", "r2")),
        Entry("exp_heun_2_x0", "Exponential Heun", "seeds", "seeds_2", 2, 2, False, (),
              preset={"eta": 0.0, "r": 1.0, "exact": True}),
        Entry("exp_heun_2_x0_sde", "Exponential Heun SDE", "seeds", "seeds_2", 2, 2, True,
              ANCESTRAL, preset={"r": 1.0, "exact": True}),
        Entry("sa_solver", "SA-Solver", "sa_solver", "sa_solver", 4, 1, True,
              (*SA, "lower_order_final", "style"), own_order=2),
        Entry("sa_solver_pece", "SA-Solver PECE", "sa_solver", "sa_solver", 4, 2, True,
              SA, preset={"pece": True}, own_order=2),
        Entry("lcm", "LCM", "lcm", "lcm", None, 1, True, ("s_noise",), ("k_lcm",),
              why="each step forgets all but x0"),
        Entry("ddim_cfg_pp", "DDIM CFG++", "cfg_pp", "euler_cfg_pp", 1, 1, False, ANCESTRAL,
              spacing="ddim", uncond=True),
        Entry("euler_cfg_pp", "Euler CFG++", "cfg_pp", "euler_cfg_pp", 1, 1, False, (),
              uncond=True),
        Entry("euler_a_cfg_pp", "Euler a CFG++", "cfg_pp", "euler_cfg_pp", 1, 1, True, ANCESTRAL,
              ("euler_ancestral_cfg_pp",), {"eta": 1.0}, uncond=True),
        Entry("dpmpp_2m_cfg_pp", "DPM++ 2M CFG++", "cfg_pp", "dpmpp_2m_cfg_pp", 2, 1, False,
              ("exact",), spacing="karras", uncond=True),
        Entry("dpmpp_2s_a_cfg_pp", "DPM++ 2S a CFG++", "cfg_pp", "dpmpp_2s_a_cfg_pp", 1, 2, True,
              ANCESTRAL, ("dpmpp_2s_ancestral_cfg_pp",), spacing="karras", uncond=True),
        Entry("res_multistep_cfg_pp", "RES multistep CFG++", "cfg_pp", "res_multistep_cfg_pp", 2, 1,
              False, (), uncond=True),
        Entry("res_multistep_a_cfg_pp", "RES multistep a CFG++", "cfg_pp", "res_multistep_cfg_pp",
              2, 1, True, ANCESTRAL, ("res_multistep_ancestral_cfg_pp",), {"eta": 1.0},
              uncond=True),
        Entry("gradient_estimation_cfg_pp", "Gradient estimation CFG++", "cfg_pp",
              "gradient_estimation_cfg_pp", 1, 1, False, ("gamma",), uncond=True),
    )
}  # fmt: skip


def _normalize(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def parse(name: str) -> tuple[Entry, str | None]:
    """The entry with that name, label or alias in any case, and the spacing that the name includes,
    as in A1111 before 1.9: "DPM++ 2M Karras" → (DPM++ 2M, "karras"). Raises UnknownName."""
    key, spacing = _normalize(name), None
    for ending, full in (("karras", "karras"), ("exponential", "exponential"), ("ka", "karras")):
        if key.endswith(" " + ending):
            key, spacing = key.removesuffix(" " + ending), full
    for entry in SAMPLERS.values():
        if key in map(_normalize, (entry.name, entry.label, *entry.aliases)):
            return entry, spacing
    raise UnknownName("sampler", name, SAMPLERS)


def find(name: str) -> Entry:
    """The entry with that name, label or alias. Raises UnknownName."""
    return parse(name)[0]


def load(name: str, schedule: Any = None) -> Callable:
    """The generator function `sampler(x, sigmas, noise, **options)`. Raises UnknownName."""
    entry = find(name)
    preset = entry.preset | ({"schedule": schedule} if entry.timesteps and schedule else {})
    function = getattr(import_module(f"{__name__}.{entry.module}"), entry.function)
    return partial(function, **preset) if preset else function
