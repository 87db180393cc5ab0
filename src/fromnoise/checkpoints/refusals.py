"""The words of a refusal: what is said of files that cannot be used; imported only where there is
a fault."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from reprlib import repr as shorten  # bounded, however long or deep the value
from typing import TYPE_CHECKING, Any, NoReturn

from fromnoise.errors import BadCheckpoint, BadInput, NotFound

if TYPE_CHECKING:  # what is refused without torch must not wait for it
    from torch import Tensor

    from fromnoise.prompt.tokenizer import Tokenizer

REMEDY = "correct it, or fetch the file again"
MOST = 8  # faults in one message


def refuse_others(folder: Path) -> NoReturn:
    """Raises BadInput for parts in files of their own beside the folder of a whole pipeline."""
    raise BadInput(f"{folder} has all parts of its own", "leave --part out; --vae replaces its VAE")


def refuse_field(file: Path | str, key: str, value: Any, expected: Any) -> NoReturn:
    """Raises BadCheckpoint for the value of one field. expected: a Rule, or words."""
    if not isinstance(expected, str):
        expected = describe_rule(expected)
    raise BadCheckpoint(f"{file}: {key[:200]} is {shorten(value)}, not {expected}", REMEDY)


def describe_rule(rule: Any) -> str:
    words = "true or false" if rule.kind is bool else "a short text"
    if rule.kind in (int, float):
        number = "whole number" if rule.kind is int else "number"
        words = f"a {number} from {rule.low:,} to {rule.high:,}"
    elif rule.choices is not None:
        words = f"one of {', '.join(rule.choices)}"
    return f"a list of 1 to 8 values, each {words}" if rule.per_level else words


def find_twice(pairs: list[tuple[str, Any]]) -> str:
    """The first key that stands in an object twice."""
    return next(key for key, after in pairwise(sorted(k for k, _ in pairs)) if key == after)


def refuse_file(path: Path, error: OSError | None) -> NoReturn:
    """Raises NotFound or BadCheckpoint for what is no regular file, or cannot be opened."""
    if error is None:
        raise BadCheckpoint(f"{path} is not a file", "put the model's file in its place")
    if isinstance(error, FileNotFoundError):
        missing = "it is a link to a file that is not there" if path.is_symlink() else "not there"
        remedy = "check that the model was copied or downloaded whole"
        raise NotFound(f"no {path.name} in {path.parent}: {missing}", remedy)
    remedy = "check the permissions and the disk"
    raise BadCheckpoint(f"{path} cannot be read: {error.strerror}", remedy)


def refuse_tokenizer(
    folder: Path,
    words: dict[str, Any],
    special: tuple[str, ...],
    merges: list[tuple[str, str]],
    most: int,
) -> NoReturn:
    """Raises BadCheckpoint for the first fault of vocab.json and merges.txt. special: the words
    that it must hold; most: how many there may be."""
    file = folder / "vocab.json"
    if len(words) > most:
        raise BadCheckpoint(f"{file} has more than {most:,} words", REMEDY)
    for word in special:
        if word not in words:
            remedy = (
                "the vocabulary of CLIP holds the start and end tokens, and the pad_token of "
                f"{folder / 'tokenizer_config.json'}"
            )
            raise BadCheckpoint(f"{file} has no {shorten(word)}", remedy)
    owners: dict[int, str] = {}
    for word, number in words.items():
        if type(number) is not int or not 0 <= number < 2 * most:
            refuse_field(file, word, number, f"a whole number from 0 to {2 * most - 1:,}")
        if number in owners:
            other = shorten(owners[number])
            refuse_field(file, word, number, f"an id of its own: {other} has that one")
        owners[number] = word
    file = folder / "merges.txt"
    for pair in merges:
        if not {*pair, "".join(pair)} <= words.keys():
            reason = f"{file}: the line {shorten(' '.join(pair))} is no merge"
            remedy = "each line holds two words of the vocabulary, whose merge is a third"
            raise BadCheckpoint(reason, remedy)
    raise BadCheckpoint(f"{file} has more lines than vocab.json has words", REMEDY)


def refuse_parts(
    parts: Mapping[str, Any], tokenizers: "Mapping[str, Tokenizer]", largest: int
) -> NoReturn:
    """Raises BadCheckpoint for parts that are each right and do not fit together."""
    (unet, vae), texts = (parts[name].config for name in ("unet", "vae")), [*tokenizers]
    side, channels, fields = largest // vae.factor, vae.latent_channels, parts["unet"].fields
    if unet.out_channels != channels:
        fields.refuse("out_channels", f"{channels}, the VAE's latent_channels")
    if unet.in_channels - channels not in (0, 1, channels, 1 + channels):
        fields.refuse(
            "in_channels",
            f"{channels}, as out_channels, or {1 + channels} more (inpainting), {channels} more "
            "(pix2pix), or 1 more (depth)",
        )
    if unet.context_dim != (width := sum(parts[name].config.dim for name in texts)):
        whose = "the text encoder's hidden_size" if len(texts) == 1 else "that of its text encoders"
        fields.refuse("cross_attention_dim", f"{width}, {whose}")
    if unet.sample_size > side:
        expected = f"at most {side}, which is a picture of {largest} pixels"
        fields.refuse("sample_size", expected)
    for name, words in tokenizers.items():
        fields, size = parts[name].fields, parts[name].config.vocab_size
        if words.vocab_size > size:
            fields.refuse("vocab_size", f"{words.vocab_size} or more, as vocab.json has it")
        if words.max_length > parts[name].config.max_length:
            expected = f"{words.max_length} or more, the tokenizer's model_max_length"
            fields.refuse("max_position_embeddings", expected)
    pooled = parts[texts[-1]].config
    width = pooled.projection_dim or pooled.dim
    expected = " or ".join(f"{width + n * unet.time_id_dim:,}" for n in (6, 5))
    refuse_field(
        parts["unet"].fields.file,
        "projection_class_embeddings_input_dim",
        unet.added_dim,
        f"{expected}: the pooled text's {width:,} and 6 or 5 times addition_time_embed_dim",
    )


def refuse_misfits(
    wanted: "Mapping[str, Tensor]", tensors: Mapping[str, Any], file: Path
) -> NoReturn:
    """Raises BadCheckpoint with the first keys that are missing, unexpected, or of another shape or
    type than the network's. tensors: tensors, or what is stored of them."""
    faults = [f"missing {k}" for k in wanted if k not in tensors]
    faults += [f"unexpected {k[:200]}" for k in tensors if k not in wanted]
    for key, tensor in tensors.items():
        if key in wanted and tensor.shape != wanted[key].shape:
            faults.append(f"{key} is {tuple(tensor.shape)}, not {tuple(wanted[key].shape)}")
        elif key in wanted and tensor.dtype.is_floating_point != wanted[key].is_floating_point():
            name, right = (str(t.dtype).removeprefix("torch.") for t in (tensor, wanted[key]))
            faults.append(f"{key} has the type {name}, not {right}")
    more = f" and {len(faults) - MOST} more" if len(faults) > MOST else ""
    raise BadCheckpoint(
        f"{file} does not fit its configuration: {'; '.join(faults[:MOST])}{more}",
        "the weights belong to another architecture or configuration; fetch config and weights "
        "together",
    )


def refuse_encoders(model: Any, what: str) -> None:
    """Raises BadInput for a model that is told more than the states of one text encoder (Stable
    Diffusion XL): `what` cannot be done with it."""
    count = len(model.text_encoders)
    if count > 1 or model.unet.config.added_dim:
        raise BadInput(
            f"a model with {count} text encoders, whose U-Net is told sizes, cannot be {what}",
            "use a model of Stable Diffusion 1's or 2's kind; `fromnoise convert` writes any",
        )
