"""Loss weights by timestep: min-SNR."""

from torch import Tensor

from fromnoise.diffusion.parameterization import PREDICTIONS
from fromnoise.errors import UnknownName


def compute_min_snr_weight(snr: Tensor, prediction: str, gamma: float = 5.0) -> Tensor:
    """The weight of a prediction's squared error at signal-to-noise ratio snr, same shape (Hang et
    al. 2023, eq. 8).

    It is min(SNR, γ) for x0, and that times c_out² for the others, since the error of x0 is c_out
    times the error of the prediction. At snr 0 (zero terminal SNR) the weight is 1 for eps and 0
    for the others."""
    clipped = snr.clamp(max=gamma)
    match prediction:
        case "x0":
            return clipped
        case "eps":  # min(SNR, γ) / SNR, in a form that is defined at SNR 0
            return (gamma / snr).clamp(max=1.0)
        case "v":
            return clipped / (snr + 1)
        case "flow":
            return clipped / (snr.sqrt() + 1) ** 2
    raise UnknownName("prediction", prediction, PREDICTIONS)
