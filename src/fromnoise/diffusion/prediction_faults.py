"""What is wrong with a prediction on a schedule, in words: only a fault needs it."""

from collections.abc import Collection
from typing import NoReturn

from fromnoise.errors import BadInput, UnknownName


def refuse_prediction(prediction: str, known: Collection[str], kind: str) -> NoReturn:
    """Raises UnknownName or BadInput for a prediction that does not work on a schedule of that
    kind."""
    if prediction not in known:
        raise UnknownName("prediction", prediction, known)
    if (prediction == "flow") != (kind == "flow"):
        raise BadInput(
            f"a {prediction} prediction does not work with a {kind} schedule",
            "use prediction 'flow' with schedules.make_flow, and eps, v or x0 with the others",
        )
    raise BadInput(
        "an eps prediction says nothing about the picture where sigma is infinite "
        "(zero terminal SNR)",
        "use prediction 'v' or 'x0', or a schedule without zero terminal SNR",
    )
