"""CLIP's text tower (Radford 2021): captions → states for attention, and one vector each."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import BadInput, UnknownName
from fromnoise.models.attention import merge_heads, split_heads
from fromnoise.models.config import CLIPTextConfig
from fromnoise.models.layers import ACTIVATIONS


class TextOutput(NamedTuple):
    """The tower's output for captions."""

    last_hidden: Tensor  # (B, N, dim) after the final norm: the usual context
    pooled: Tensor  # (B, dim) last_hidden at the first end-of-text token
    hidden_states: tuple[Tensor, ...]  # embeddings and layers, (B, N, dim) before the final norm
    embeds: Tensor | None  # (B, projection_dim), not normalized; None without a projection


class SelfAttention(nn.Module):
    """(B, N, dim) → (B, N, dim). causal: a token sees itself and earlier tokens. mask: replaces
    that, (B, 1, N, N) bool, true where token i sees token j."""

    def __init__(self, dim: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q_proj, self.k_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (split_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=self.causal and mask is None)
        return self.out_proj(merge_heads(out))


class MLP(nn.Module):
    """(B, N, dim) → (B, N, dim) through mlp_dim."""

    def __init__(self, dim: int, inner: int, activation: str):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UnknownName("activation", activation, ACTIVATIONS)
        self.activation = ACTIVATIONS[activation]
        self.fc1, self.fc2 = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    """A transformer layer with the norms first."""

    def __init__(self, config: Any, causal: bool):  # CLIPTextConfig or CLIPVisionConfig
        super().__init__()
        self.self_attn = SelfAttention(config.dim, config.heads, causal)
        self.layer_norm1 = nn.LayerNorm(config.dim)
        self.mlp = MLP(config.dim, config.mlp_dim, config.activation)
        self.layer_norm2 = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class LayerStack(nn.Module):
    """The layers. Returns the input and every layer's output."""

    def __init__(self, config: Any, causal: bool):  # CLIPTextConfig or CLIPVisionConfig
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, causal) for _ in range(config.layers))
        if not next(self.parameters()).is_meta:  # else a file fills the weights
            from fromnoise.models.initialization import initialize_layers

            initialize_layers(self, config.dim, config.layers)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return tuple(states)


class TextEmbeddings(nn.Module):
    """Token ids (B, N) → token + position embeddings (B, N, dim)."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.position_embedding = nn.Embedding(config.max_length, config.dim)
        if not self.token_embedding.weight.is_meta:
            from fromnoise.models.initialization import initialize_embeddings

            initialize_embeddings(self.token_embedding, self.position_embedding)

    def forward(self, ids: Tensor, vectors: dict[int, Tensor]) -> Tensor:
        tokens = self.token_embedding(ids)
        for place, vector in vectors.items():
            tokens[:, place] = vector
        return tokens + self.position_embedding.weight[: ids.shape[1]]


class TextTower(nn.Module):
    """The text transformer: a state depends only on its own word and earlier ones."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = LayerStack(config, causal=True)
        self.final_layer_norm = nn.LayerNorm(config.dim)


class CLIPText(nn.Module):
    """CLIP's text encoder; with `projection_dim` also into the space of images and captions."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.config = config
        self.text_model = TextTower(config)
        self.text_projection = None
        if config.projection_dim:
            self.text_projection = nn.Linear(config.dim, config.projection_dim, bias=False)
            nn.init.normal_(self.text_projection.weight, std=config.dim**-0.5)

    def forward(self, ids: Tensor, seen: Tensor | None = None, vectors: Any = None) -> TextOutput:
        """ids (B, N) int64, N ≤ max_length (else BadInput), each row with one eos_id or more. seen:
        (B, N) bool, false for tokens that no token sees; the first of each row must be true.
        vectors: {place in each row: what stands there in place of the token's embedding}."""
        if ids.shape[1] > self.config.max_length:
            limit, remedy = self.config.max_length, "use a shorter text"
            raise BadInput(f"{ids.shape[1]} tokens are more than the encoder's {limit}", remedy)
        mask = None if seen is None else seen[:, None, None].expand(-1, -1, ids.shape[1], -1).tril()
        states = self.text_model.encoder(self.text_model.embeddings(ids, vectors or {}), mask)
        last = self.text_model.final_layer_norm(states[-1])
        end = (ids == self.config.eos_id).int().argmax(1)  # the first: padding may be the same
        pooled = last[torch.arange(ids.shape[0], device=ids.device), end]
        embeds = None if self.text_projection is None else self.text_projection(pooled)
        return TextOutput(last, pooled, states, embeds)
