"""What a representation holds: the attributes that a linear classifier reads in it (Alain & Bengio
2016)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fromnoise.data.source import Sample

RIDGE = 10.0


@torch.no_grad()
def probe_attributes(
    states: Tensor, samples: Sequence[Sample], schema: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """The accuracy of a ridge classifier on `states` (N, D), for each attribute.

    It is fitted on the first three quarters of the samples whose captions state the attribute, and
    scored on the rest. An attribute that fewer than 16 captions state is left out.
    """
    accuracy = {}
    for name, values in schema.items():
        rows = [i for i, s in enumerate(samples) if name in s.stated]
        if len(rows) < 16:
            continue
        x = states[rows].double().cpu()
        x = torch.cat(
            ((x - x.mean(0)) / (x.std(0) + 1e-6), torch.ones(len(rows), 1, dtype=x.dtype)), 1
        )
        y = torch.tensor([values.index(samples[i].attributes[name]) for i in rows])
        n = len(rows) * 3 // 4
        goal = F.one_hot(y[:n], len(values)).double()
        reader = torch.linalg.solve(
            x[:n].T @ x[:n] + RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x[:n].T @ goal
        )
        accuracy[name] = round(((x[n:] @ reader).argmax(1) == y[n:]).double().mean().item(), 4)
    return accuracy
