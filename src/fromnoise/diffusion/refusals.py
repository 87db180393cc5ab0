"""What is wrong with a prediction, schedule, guidance or seed, in words: only a fault needs it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

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


def refuse_schedule() -> NoReturn:
    raise BadInput(
        "a noise schedule needs 2 or more values of alpha_bar, decreasing inside of [0, 1)",
        "check the betas: each must lie in (0, 1], only the last may be 1",
    )


def refuse_guidance(guidance: Any, wrong: Sequence[str]) -> NoReturn:
    """wrong: the names of the fields that are out of their range."""
    raise BadInput(
        f"guidance with {', '.join(wrong)} out of range cannot be used: {guidance}",
        "give scale from 0, rescale in [0, 1], 0 ≤ low < high, apg_parallel in [0, 1], "
        "apg_norm above 0, apg_momentum in (−1, 1)",
    )


def refuse_seeds(rng: str, known: Mapping[str, int], seeds: Sequence[int], what: str) -> NoReturn:
    """known: name of a generator → the bits that its seeds may have."""
    if rng not in known:
        raise UnknownName("random number generator", rng, known)
    remedy = f"give an integer from 0 to 2^{known[rng]} − 1 for each image"
    raise BadInput(f"{what} {list(seeds)} cannot be used", remedy)
