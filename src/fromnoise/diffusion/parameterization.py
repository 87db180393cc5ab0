"""eps, v, x0 and flow predictions in one affine form: x0 = c_skip·x + c_out·F(c_in·x, t)."""

import math

from fromnoise.diffusion.schedule import NoiseSchedule
from fromnoise.errors import BadInput, UnknownName

PREDICTIONS = ("eps", "v", "x0", "flow")


def compute_coefficients(prediction: str, sigma: float) -> tuple[float, float, float]:
    """(c_skip, c_out, c_in) at noise level sigma, for x = x0 + sigma·n (Karras et al. 2022, eq. 7).

    The input of the network F is c_in·x, which equals `forward.add_noise` in training. F predicts n
    (eps), √ᾱ·n − √(1 − ᾱ)·x0 (v, Salimans & Ho 2022), x0, or n − x0 (flow). Raises UnknownName, and
    BadInput for a sigma that is negative, infinite or not a number."""
    sigma = float(sigma)
    if not 0 <= sigma < math.inf:
        remedy = "use NoiseSchedule.sigmas, which are finite, with a v, x0 or flow model"
        raise BadInput(f"sigma {sigma} has no {prediction} prediction", remedy)
    root = math.hypot(1, sigma)  # 1 / √ᾱ
    match prediction:
        case "eps":
            return 1.0, -sigma, 1 / root
        case "v":
            return 1 / root**2, -sigma / root, 1 / root
        case "x0":
            return 0.0, 1.0, 1 / root
        case "flow":
            return 1 / (1 + sigma), -sigma / (1 + sigma), 1 / (1 + sigma)
    raise UnknownName("prediction", prediction, PREDICTIONS)


def check_prediction(prediction: str, schedule: NoiseSchedule) -> None:
    """Raises UnknownName, and BadInput for a prediction that does not work on this schedule: eps
    where the last timestep is pure noise, and flow with another kind, or another with flow."""
    flow = prediction == "flow"
    if (
        prediction not in PREDICTIONS
        or flow != (schedule.kind == "flow")
        or (prediction == "eps" and schedule.has_infinite_sigma)
    ):
        from fromnoise.diffusion.refusals import refuse_prediction

        refuse_prediction(prediction, PREDICTIONS, schedule.kind)
