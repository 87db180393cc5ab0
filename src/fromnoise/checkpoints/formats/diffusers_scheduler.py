"""What the scheduler of a diffusers folder asks to be drawn with, for a model that says nothing
else: every field of scheduler_config.json is honoured, or refused by name.

A refusal is kept until a run needs the scheduler: whoever names a sampler needs only the noise
schedule and the prediction."""

import math
from inspect import signature
from typing import Any, NoReturn

from fromnoise.checkpoints.configs import Fields
from fromnoise.checkpoints.formats import flow_scheduler
from fromnoise.checkpoints.formats.diffusers_configs import PREDICTIONS, read_scheduler
from fromnoise.checkpoints.formats.scheduler_classes import CLASSES, MENDED, RAMPS, RULES
from fromnoise.diffusion import samplers
from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.errors import BadCheckpoint, escape

REMEDY = (
    "choose a sampler yourself (--sampler): then only the noise schedule and the prediction of the "
    "file are used"
)


def read(
    config: Fields, index: Fields | None = None, prediction: str | None = None
) -> tuple[NoiseSchedule, str, dict[str, Any]]:
    """scheduler_config.json → (schedule, prediction, the model's defaults); see below. prediction:
    in place of the file's."""
    name = find_class(config, index)
    if prediction == "flow" or flow_scheduler.is_flow(config, name):
        return flow_scheduler.read_flow(config, name, prediction)
    config = complete(config, index)
    words = {ours: word for word, ours in PREDICTIONS.items()}
    if prediction in words:
        config = Fields(config.file, config.values | {"prediction_type": words[prediction]})
    schedule, told = read_scheduler(config)
    return schedule, told, read_defaults(config, schedule)


class Refused(Exception):
    """A field, and why it cannot be honoured."""


def find_class(config: Fields, index: Fields | None) -> str | None:
    """The scheduler's class: diffusers believes model_index.json, then the file itself."""
    entry = index.values.get("scheduler") if index else None
    said = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    name = said or config.values.get("_class_name")
    return name if isinstance(name, str) else None


def complete(config: Fields, index: Fields | None = None) -> Fields:
    """The fields that the scheduler's class reads, as it reads them: those of other classes left
    out, its own defaults for those that are not there. index: model_index.json, whose word on the
    class counts, and whose pipeline mends some fields.

    Raises BadCheckpoint for a class without a noise schedule that is known here."""
    name, pipeline = find_class(config, index), index and index.values.get("_class_name")
    if name not in CLASSES:
        if all(config.values.get(key) is None for key in ("beta_start", "beta_schedule")):
            raise BadCheckpoint(
                f"{config.file}: no noise schedule that is known here is in the settings of "
                f"{escape(name)}",
                "use a model of another kind: with betas, as Stable Diffusion has",
            )
        return Fields(config.file, config.values | {"_class_name": name})
    own = CLASSES[name]
    mended = {k: v for k, v in MENDED.get(str(pipeline), {}).items() if k in own}
    given = {k: v for k, v in config.values.items() if k in own and v is not None}
    return Fields(config.file, {"_class_name": name} | own | given | mended)


def read_defaults(config: Fields, schedule: NoiseSchedule) -> dict[str, Any]:
    """The fields of a class, complete → the `defaults` of a model: under "scheduler" the fields of
    a request that draw as the scheduler does, see pipeline.scheduler, or why none do.

    Raises BadCheckpoint for a value of a wrong type or out of range."""
    name = config.values["_class_name"]
    for key, rule in RULES.items():
        if key in config.values:
            config.get(rule)
    own: dict[str, Any] = {}
    try:
        if name not in CLASSES:
            raise Refused("_class_name", "this scheduler is unknown here")
        own = _Reader(config, name, schedule).read()
    except Refused as refused:
        field, why = refused.args
        value = escape(config.values.get(field), 99)
        own = {"refused": [f"{config.file}, {field} = {value}: {why}", REMEDY]}
    # steps and guidance of latent consistency models: Luo et al. 2023, Table 1
    few = {"LCMScheduler": {"steps": 4, "cfg": 8.0}, "TCDScheduler": {"steps": 4}}
    return {"scheduler": own, "spacing": "automatic"} | few.get(str(name), {})


class _Reader:
    """One class's fields on their way to a request. A missing field has its default."""

    def __init__(self, config: Fields, name: str, schedule: NoiseSchedule):
        self.values, self.name, self.schedule = config.values, name, schedule
        self.v = self.values["prediction_type"] == "v_prediction"

    def read(self) -> dict[str, Any]:
        self.refuse_unusable()
        match self.name.removesuffix("Scheduler"):
            case "DDIM" | "DDIMParallel":
                strided = self.values["timestep_spacing"] != "leading"
                levels = self.space("whole", self.values["set_alpha_to_one"], ceiling=True)
                return self.draw("ddim", levels, stride=strided)
            case "DDPM" | "DDPMParallel":
                return self.draw("ddpm", self.space("whole", True, ceiling=True))
            case "PNDM":
                return self.read_pndm()
            case "LCM" | "TCD" as kind:
                return self.read_consistency(kind)
            case "EulerDiscrete":
                if self.values["final_sigmas_type"] != "zero":
                    self.refuse("final_sigmas_type", "its last latents would not be scaled")
                return self.draw("euler", self.space("between", True))
            case "DPMSolverMultistep" | "DPMSolverSinglestep" as kind:
                return self.read_dpm(kind)
            case "DEISMultistep":
                levels = self.space("multistep", False)
                few = {"final_order": 2 if levels["final_sigma"] == "last" else 1}
                options = {"order": self.values["solver_order"], "variable": "log_sigma"}
                return self.draw("deis", levels, options, self.lower(few))
            case "UniPCMultistep":
                return self.read_unipc()
            case "SASolver":
                return self.read_sa_solver()
            case kind:  # k-diffusion's samplers
                sampler = {
                    "EulerAncestralDiscrete": "euler_a",
                    "HeunDiscrete": "heun",
                    "LMSDiscrete": "lms",
                    "KDPM2Discrete": "dpm2",
                    "KDPM2AncestralDiscrete": "dpm2_a",
                    "DPMSolverSDE": "dpmpp_sde",
                }[kind]
                if sampler.startswith("dpm2") and self.values["use_karras_sigmas"]:
                    self.refuse("use_karras_sigmas", "it rounds every second timestep alone")
                return self.draw(sampler, self.space("between", True))

    def refuse(self, field: str, why: str) -> NoReturn:
        raise Refused(field, why)

    def refuse_unusable(self) -> None:
        """What no class can be drawn with here, and what diffusers itself cannot draw."""
        values = self.values
        for field, why in {
            "thresholding": "pictures of latents cannot be thresholded",
            "clip_sample": "latents would be cut at ±1, and are far larger",
            "use_flow_sigmas": "the levels are those of flow matching",
            "use_dynamic_shifting": "the levels are those of flow matching",
            "shift_terminal": "the levels are those of flow matching",
            "solver_p": "a second scheduler inside of the first is unknown here",
        }.items():
            if values.get(field):
                self.refuse(field, why)
        if values.get("variance_type") not in (None, "fixed_small"):
            self.refuse("variance_type", "only fixed_small is known here")
        if values.get("interpolation_type") == "log_linear":
            self.refuse("interpolation_type", "its levels are not those of its timesteps")
        if values.get("timestep_type") == "continuous" and self.v:
            self.refuse("timestep_type", "the network would be told log sigma, not a timestep")
        limit = values.get("lambda_min_clipped", -math.inf)
        if -self.schedule.log_sigmas[-1] < limit and not self.find_ramp():
            self.refuse("lambda_min_clipped", "it leaves out the noisiest timesteps")
        if values["prediction_type"] == "sample" and self.name in (
            "PNDMScheduler",
            "KDPM2DiscreteScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "DPMSolverSDEScheduler",
            "EulerAncestralDiscreteScheduler",
        ):
            self.refuse("prediction_type", "the class draws no such prediction")

    def find_ramp(self) -> str | None:
        """The field that says how else than by timesteps the levels are spaced."""
        found = [key for key in RAMPS if self.values.get(key)]
        if len(found) > 1 and found != ["use_karras_sigmas", "use_lu_lambdas"]:
            self.refuse(found[1], f"{found[0]} is set too")
        return found[0] if found else None

    def space(self, kind: str, to_zero: bool, ceiling: bool = False) -> dict[str, Any]:
        """The fields of a request that say which noise levels a run visits.

        kind: "whole" timesteps; "between" them too, with x of k-diffusion's scale; "multistep",
        whole ones of one step more, without the last. to_zero: the run ends at 0, else at the
        schedule's first level, and where it visits that already, there. ceiling: the class has no
        finite level of a timestep that is pure noise."""
        base, offset = self.values.get("timestep_spacing", "linspace"), 0
        options: dict[str, Any] = {}
        if base == "linspace":
            options["between"] = "sigma" if kind == "between" else "nothing"
        elif base == "leading":
            options["steps_offset"] = offset = self.values["steps_offset"]
        if ceiling and self.schedule.has_infinite_sigma:
            options["ceiling"] = 2.0**20
        visits_first = kind != "multistep" and (
            base == "linspace" or (base == "leading" and offset == 0)
        )
        fields: dict[str, Any] = {
            "spacing": base,
            "spacing_options": options,
            "discard_penultimate": kind == "multistep" and base != "trailing",
            "noise_scaling": "sigma_max" if kind == "between" and base != "leading" else "unit",
            "timesteps": "exact",
        }
        if (ramp := self.find_ramp()) is not None:
            ends = ("sigma_min", "sigma_max")
            span = {key: self.values[key] for key in ends if self.values[key] is not None}
            if kind == "between" and base != "linspace":
                fields["ends"] = {"spacing": base, "options": options}
            else:
                # DEIS ends where its levels end, the others at the schedule's first level
                ends_itself = self.name == "DEISMultistepScheduler"
                visits_first = ends_itself or "sigma_min" not in span
            if kind == "multistep":
                # whole timesteps: two classes of ramps are rounded, the others cut
                whole = ramp in ("use_karras_sigmas", "use_lu_lambdas")
                cosine = self.values["beta_schedule"] == "squaredcos_cap_v2"
                cut = cosine and self.name == "DPMSolverMultistepScheduler"
                fields["timesteps"] = "rounded" if whole and not cut else "cut"
            fields |= {"spacing": RAMPS[ramp], "spacing_options": span}
            fields["discard_penultimate"] = False
        end = "last" if visits_first else "first"
        return fields | {"final_sigma": "zero" if to_zero else end}

    def draw(
        self,
        sampler: str,
        levels: dict[str, Any],
        options: dict[str, Any] | None = None,
        few: dict[str, Any] | None = None,
        stride: bool = False,
    ) -> dict[str, Any]:
        """options: of the sampler, kept where they are not its own defaults. few: options of runs
        of few steps. stride: whether the stride of timesteps is given."""
        usual = signature(samplers.load(sampler)).parameters
        said = {k: v for k, v in (options or {}).items() if v != usual[k].default}
        fields = levels | {"sampler": sampler, "sampler_options": said}
        return fields | ({"few": few} if few else {}) | ({"stride": True} if stride else {})

    def lower(self, few: dict[str, Any]) -> dict[str, Any]:
        return few if self.values["lower_order_final"] else {}

    def read_pndm(self) -> dict[str, Any]:
        levels = self.space("whole", self.values["set_alpha_to_one"])
        strided = self.values["timestep_spacing"] != "leading"
        if self.values["skip_prk_steps"] and not strided and not self.v:
            return self.draw("plms", levels)
        start = "euler" if self.values["skip_prk_steps"] else "runge_kutta"
        options = {"start": start, "predict": "v" if self.v else "noise"}
        return self.draw("plms", levels, options, stride=strided)

    def read_consistency(self, kind: str) -> dict[str, Any]:
        """Both start at the last timestep, whatever timestep_spacing says."""
        many = self.values["original_inference_steps"]
        if many > len(self.schedule):
            self.refuse("original_inference_steps", "it is more than num_train_timesteps")
        # LCM mixes the share 1 / (4·t² + 1) of x into x0: nothing, unless t is about 0
        lowest = (len(self.schedule) // many - 1) * self.values["timestep_scaling"]
        if kind == "LCM" and lowest < 50:
            self.refuse("timestep_scaling", "it mixes x into the picture")
        options: dict[str, Any] = {"original_steps": many}
        if self.schedule.has_infinite_sigma:
            options["ceiling"] = 2.0**20
        levels = {
            "spacing": "distilled",
            "spacing_options": options,
            "discard_penultimate": False,
            "noise_scaling": "unit",
            "timesteps": "exact",
            "final_sigma": "zero" if kind == "LCM" else "first",
        }
        # diffusers' pipelines give every scheduler their own eta, 0
        return self.draw(kind.lower(), levels, {"eta": 0.0} if kind == "TCD" else {})

    def read_dpm(self, kind: str) -> dict[str, Any]:
        values, to_zero = self.values, self.values["final_sigmas_type"] == "zero"
        algorithm = values["algorithm_type"]
        sde = algorithm.startswith("sde")
        predict = "x0" if algorithm.endswith(("++", "deis")) else "noise"
        order, solver = values["solver_order"], values["solver_type"]
        solver = "heun" if solver == "heun" else "midpoint"
        if predict == "noise" and to_zero:
            self.refuse("algorithm_type", "it reaches no sigma 0, as final_sigmas_type asks")
        if sde and predict == "noise" and (order == 3 or kind == "DPMSolverSinglestep"):
            self.refuse("algorithm_type", "it has no such solver_order")
        levels = self.space("multistep", to_zero)
        if levels["final_sigma"] == "last" and (
            order == 3 or solver == "heun" or kind == "DPMSolverSinglestep"
        ):
            self.refuse("final_sigmas_type", "its last step has no length")
        options = {"order": order, "predict": predict, "solver": solver, "sde": sde}
        if kind == "DPMSolverSinglestep":
            options["lower_order_final"] = values["lower_order_final"]
            return self.draw("dpm_singlestep", levels, options)
        if order == 2 and predict == "x0" and to_zero:  # the last step has order 1 in any case
            if sde:
                return self.draw("dpmpp_2m_sde", levels, {"solver": solver})
            if solver == "midpoint":
                return self.draw("dpmpp_2m", levels)
        few = {}
        if levels["final_sigma"] != "last":
            few = self.lower({"lower_order_final": True})
            options["euler_at_final"] = values["euler_at_final"]
        return self.draw("dpm_multistep", levels, options, few)

    def read_sa_solver(self) -> dict[str, Any]:
        values = self.values
        if values["tau_func"] is not None:
            self.refuse("tau_func", "it is a function, which no file can hold")
        if values["algorithm_type"] == "noise_prediction":
            self.refuse("algorithm_type", "only data_prediction is known here")
        if (ramp := self.find_ramp()) is not None:
            self.refuse(ramp, "its last step has no length")
        if len(self.schedule) <= 800:
            self.refuse("num_train_timesteps", "its noise lies between timesteps 200 and 800")
        low, high = (float(self.schedule.sigmas[t]) for t in (200, 800))
        options = {
            "tau_min": low * (1 - 1e-9),
            "tau_max": high * (1 + 1e-9),
            "predictor": values["predictor_order"],
            "corrector": values["corrector_order"],
            "lower_order_final": values["lower_order_final"],
            "style": "diffusers",
        }
        return self.draw("sa_solver", self.space("multistep", False), options)

    def read_unipc(self) -> dict[str, Any]:
        values, to_zero = self.values, self.values["final_sigmas_type"] == "zero"
        steps = values["disable_corrector"]
        if not isinstance(steps, list) or not all(type(i) is int and i >= 0 for i in steps):
            self.refuse("disable_corrector", "it is no list of steps")
        if len(steps) > 1000:
            self.refuse("disable_corrector", "it has more steps than any run")
        if not values["predict_x0"] and to_zero:
            self.refuse("predict_x0", "the noise reaches no sigma 0, as final_sigmas_type asks")
        if not values["lower_order_final"] and to_zero and values["solver_order"] > 1:
            self.refuse("lower_order_final", "the step to sigma 0 has no other order than 1")
        levels = self.space("multistep", to_zero)
        if levels["final_sigma"] == "last":
            self.refuse("final_sigmas_type", "its last step has no length")
        options = {
            "order": values["solver_order"],
            "variant": "bh1" if values["solver_type"] == "bh1" else "bh2",
            "lower_order_final": values["lower_order_final"],
            "predict": "x0" if values["predict_x0"] else "noise",
            "uncorrected": " ".join(map(str, steps)),
        }
        return self.draw("unipc", levels, options)
