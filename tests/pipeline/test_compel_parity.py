"""The dialect "compel" against compel itself: the same text and encoder, the same states."""

import importlib.util
from dataclasses import replace

import fakes
import pytest
import torch
from transformers import CLIPTextConfig as TheirTextConfig
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from fromnoise.checkpoints.configs import read_tokenizer
from fromnoise.latent_diffusion import TextEncoder
from fromnoise.models.clip import CLIPText, SelfAttention
from fromnoise.models.config import CLIPTextConfig
from fromnoise.pipeline.conditioning.weights import encode_weighted, join_texts, pad_with_empty
from fromnoise.prompt import tokenizer_files
from fromnoise.prompt.grammar import parse_prompt

# Largest deviation over the RMS of theirs. fp32 has 1e-7 a layer, sums in another order; a weight
# near 0 is a share of 6e4 in an average, which fp32 still has to 1e-7 of the whole
TOLERANCE = 2e-5
assert importlib.util.find_spec("compel"), "run `make test`, or pip install --no-deps compel"
pytestmark = pytest.mark.filterwarnings(
    "ignore:'delimited_list' deprecated"
)  # its calls of pyparsing


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A tiny model whose text encoder has four heads in three layers; it reads ten tokens at
    once."""
    folder = tmp_path_factory.mktemp("words")
    model = fakes.model(folder, vision=False)
    words = fakes.tokenizer(
        folder / "made", 12, "!"
    )  # a padding token of its own, as in Stable Diffusion 2
    tokenizer_files.save(words, folder / "saved")
    encoder = CLIPText(
        CLIPTextConfig(words.vocab_size, 32, 3, 4, 64, 12, "quick_gelu", 16, words.eos_id)
    ).eval()
    fakes.randomize(encoder, 5)
    words = read_tokenizer(folder / "saved")
    encoders = (TextEncoder(encoder, words),)
    return replace(model, text_encoders=encoders, source=str(folder / "saved"))


@pytest.fixture(scope="module")
def theirs(ours):
    """compel on transformers' encoder and tokenizer: (mode, hidden state returned) → Compel."""
    from compel import Compel, DownweightMode, ReturnedEmbeddingsType

    config = ours.text_encoder.config
    encoder = CLIPTextModelWithProjection(
        TheirTextConfig(  # pyright: ignore
            vocab_size=config.vocab_size,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=12,
            hidden_act="quick_gelu",
            projection_dim=16,
            eos_token_id=config.eos_id,
        )
    ).eval()
    encoder.load_state_dict(ours.text_encoder.state_dict(), strict=True)
    tokenizer = CLIPTokenizer.from_pretrained(ours.source)

    def compel(mode: str = "MASK", clip_skip: int = 1):
        kinds = ("LAST_HIDDEN_STATES_NORMALIZED", "PENULTIMATE_HIDDEN_STATES_NORMALIZED")
        return Compel(
            tokenizer,
            encoder,
            truncate_long_prompts=False,
            downweight_mode=DownweightMode[mode],
            returned_embeddings_type=ReturnedEmbeddingsType[kinds[clip_skip - 1]],
        )

    assert (
        Compel(tokenizer, encoder).conditioning_provider.downweight_mode is DownweightMode.MASK
    )  # its default
    return compel


def deviation(found, wanted):
    assert found.shape == wanted.shape
    return ((found - wanted).abs().max() / wanted.square().mean().sqrt()).item()


def states(model, text, clip_skip=1):
    prompt = parse_prompt(text, "compel")
    joined = join_texts(
        model, tuple((p.chunks, p.weight) for p in prompt.resolve(0, 1)), prompt.blend, clip_skip
    )
    return joined.context


TEXTS = [
    "",
    "a cat",
    "a cat++",
    "a cat++ b",
    "(a b)1.4 c",
    "a cat- b",
    "a (cat b)0.5 c",
    "(a)0.2 (b)1.7 (c)0.8",
    "(cat)0 b",
    "a ((cat)0.8 b+)0.9 c",
    '"a (b- c)+" d',
    "(cat)0.999 b",
    "(a)0.5 b (a)0.3 b (a)0.5",
    # longer than one block, with weak words in one, across an end, in all
    "cat b c d e f+ g h i j k l",
    "a b c d e f g (h i j k l)0.4 m n",
    "(a)0.4 b c d e f g h i j k l m n o p q r (s)0.6",
    "(a b c d e f g h i j k l m n o p q r s t u v w x y z)0.3",
    '("a cat", "b c").and()',
    '("a cat++", "b (c)0.5").and(0.7, 1.3)',
    '("a cat").and(0.5)',
    '("a", "b").and(-1, 0)',
    '("a b c d e f g h i j k l", "cat").and(0.5, 2)',
    '("a cat", "b c").blend(0.7, 0.3)',
    '("a (cat)0.4", "b+ c").blend(2, 1)',
    '("a", "b", "c").blend()',
    '("a b c d e f g h i j k l", "cat").blend(1, 3)',
    '("a", "b").blend(1, -0.3, no_normalize)',
    '("a", "b").blend(1, 1, no_normalize)',
    '("a cat").blend(0.5)',
]


@pytest.mark.parametrize("text", TEXTS)
@torch.no_grad()
def test_states_are_those_of_compel(ours, theirs, text):
    assert deviation(states(ours, text), theirs().build_conditioning_tensor(text)) <= TOLERANCE


@pytest.mark.parametrize("text", ["a (cat b)0.5 c", '("a cat-", "b").and(0.5, 1)'])
@torch.no_grad()
def test_clip_skip(ours, theirs, text):
    assert (
        deviation(states(ours, text, 2), theirs(clip_skip=2).build_conditioning_tensor(text))
        <= TOLERANCE
    )


@pytest.mark.parametrize(
    "text",
    [
        "a cat- b",
        "a (cat b)0.5 c",
        "(a)0.2 (b)1.7 (c)0.8",
        "(cat)0 b",
        "a ((cat)0.8 b+)0.9 c",
        "(a)0.5 b (a)0.3 b (a)0.5",
        # in both modes two blocks: theirs cannot add states of unequal length
        "a b c d e (f)0.4 g h i j k l m n",
    ],
)
@torch.no_grad()
def test_the_other_mode_takes_words_out(ours, theirs, text):
    (part,) = parse_prompt(text, "compel").resolve(0, 1)
    wanted = theirs("REMOVE").build_conditioning_tensor(text)
    found = encode_weighted(ours, part.chunks, "compel", remove=True).context
    assert deviation(found, wanted) <= TOLERANCE


@torch.no_grad()
def test_prompts_are_made_equally_long_as_compel_does(ours, theirs):
    texts = ["a cat", '("a", "b", "c").and()']
    found = pad_with_empty([states(ours, text) for text in texts], states(ours, ""))
    assert deviation(found, theirs()(texts)) <= TOLERANCE


@torch.no_grad()
def test_a_fault_is_seen(ours, theirs, monkeypatch):
    """The other mode, no mask and a weight that is a little off exceed the tolerance, the first two
    by far."""
    text = "a (cat b)0.5 c"
    mask, remove = (theirs(mode).build_conditioning_tensor(text) for mode in ("MASK", "REMOVE"))
    assert deviation(mask, remove) > 100 * TOLERANCE
    assert deviation(states(ours, "a (cat b)0.501 c"), mask) > TOLERANCE
    forward = SelfAttention.forward
    monkeypatch.setattr(SelfAttention, "forward", lambda self, x, mask=None: forward(self, x))
    assert deviation(states(ours, text), mask) > 100 * TOLERANCE
