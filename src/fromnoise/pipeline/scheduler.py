"""What a model's own scheduler asks for, at a number of steps → the fields of a request."""

from typing import Any, TypeVar

from pydantic import BaseModel

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.diffusion.spacing import make_sigmas
from fromnoise.errors import BadCheckpoint

Request = TypeVar("Request", bound=BaseModel)
FEW = 15  # steps below which diffusers' solvers lower the order of the last ones


def choose_settings(request: Request, schedule: NoiseSchedule, defaults: dict[str, Any]) -> Request:
    """A request that names no sampler, with all that the model's scheduler asks for. What it sets
    itself wins; a spacing of its own replaces all that the scheduler says of the noise levels.

    defaults: of the model, see checkpoints.formats.diffusers_scheduler. Raises BadCheckpoint for a
    scheduler that cannot be run."""
    own = defaults["scheduler"]
    # the command line sets every field; what is as usual leaves it to the scheduler
    usual = {name: field.default for name, field in type(request).model_fields.items()}
    given = {k: v for k in request.model_fields_set if (v := getattr(request, k)) != usual[k]}
    steps = given.get("steps", defaults["steps"])
    if refused := own.get("refused"):
        raise BadCheckpoint(*refused)
    fields = {k: v for k, v in own.items() if k not in ("few", "stride", "ends")}
    options = own["sampler_options"] | (own.get("few", {}) if steps < FEW else {})
    if "spacing" in given:
        fields = {"sampler": own["sampler"]}
    else:
        if own.get("stride"):
            options = options | {"stride": len(schedule) // steps}
        if ends := own.get("ends"):  # of the levels that it would visit otherwise
            levels = make_sigmas(schedule, steps, ends["spacing"], "last", **ends["options"])
            span = {"sigma_min": float(levels[-1]), "sigma_max": float(levels[0])}
            fields["spacing_options"] = span | own["spacing_options"]
        fields["spacing_options"] = fields["spacing_options"] | given.get("spacing_options", {})
    mine = given.get("sampler_options", {})
    fields["sampler_options"] = {k: v for k, v in options.items() if k not in given} | mine
    settled = ("spacing_options", "sampler_options")
    update = {k: v for k, v in fields.items() if k in settled or k not in given}
    return request.model_copy(update=update)
