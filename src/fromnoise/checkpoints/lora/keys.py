"""The keys of a LoRA's tensors: which module a tensor belongs to, and what it is there. No torch.

Trainers agree on neither. This is every spelling of kohya-ss, LyCORIS, PEFT, diffusers (its old
attention processors too), OneTrainer and ComfyUI."""

import re
from typing import NamedTuple

ADAPTER = r"(?:\.(?!weight$|bias$)[\w-]+)?"  # PEFT may name the adapter: lora_A.default.weight
# how a key ends → what the tensor is, in LyCORIS's words
ENDINGS = (
    (rf"[._]lora_(?:down|A){ADAPTER}(?:\.weight)?", "lora_down"),
    (rf"[._]lora_(?:up|B){ADAPTER}(?:\.weight)?", "lora_up"),
    (rf"[._]lora_(?:up|B){ADAPTER}\.bias", "lora_up_bias"),
    (r"[._]lora_mid(?:\.weight)?", "lora_mid"),
    (r"[._]lora(?:_linear_layer)?[._]down(?:\.weight)?", "lora_down"),
    (r"[._]lora(?:_linear_layer)?[._]up(?:\.weight)?", "lora_up"),
    (rf"\.lora_embedding_A{ADAPTER}", "embedding_down"),
    (rf"\.lora_embedding_B{ADAPTER}", "embedding_up"),
    (rf"\.lora_magnitude_vector{ADAPTER}(?:\.weight)?", "magnitude"),
    (r"\.(hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2)(?:\.weight)?", ""),
    (r"\.(dora_scale|diff_b|diff|w_norm|b_norm|on_input|alpha)", ""),
    (r"\.(oft_blocks|rescale|a1|a2|b1|b2|bm)(?:\.weight)?", ""),
    (rf"\.oft_R{ADAPTER}(?:\.weight)?", "oft_R"),
    (rf"\.(oft_diag|boft_R|boft_s|boft_P|ia3_l|vera_lambda_[bd]){ADAPTER}(?:\.weight)?", "unread"),
    (r"\.(bias_indices|bias_values|bias_size|set_weight|reshape_weight|scalar)", "unread"),
    (r"\.weight", "weight"),  # of (IA)³ alone
)
LONGEST = 1000  # signs of a key
UNREAD = "unread"  # how a leaf begins that is of a kind that is not read
# the most frequent of them, which no other one ends with
USUAL = {".alpha": "alpha"}
USUAL |= dict.fromkeys((".lora_down.weight", ".lora_A.weight"), "lora_down")
USUAL |= dict.fromkeys((".lora_up.weight", ".lora_B.weight"), "lora_up")
ANY_ENDING = re.compile("|".join(f"(?P<e{i}>{end})" for i, (end, _) in enumerate(ENDINGS)))
NUMBERED = re.compile(r"([\w.-]+):(\d{1,5}):(up|down)")  # the layout of 2022
LISTED = re.compile(r"\d{1,5}")  # and its list
EMBEDDED = re.compile(r"bundle_emb\.([^.]{1,200})\.(.{1,200})")  # kohya's embeddings in a LoRA
UNET = re.compile(
    r"(?:^|[._])(?:unet|diffusion_model|(?:down|mid|up|input|middle|output)_blocks?|time_embed\w*|"
    r"label_emb|add_embedding|conv_in|conv_out|conv_norm_out)(?:[._]|$)"
)
SECOND = re.compile(r"(?:^|[._])(?:te2|text_encoder_2|clip_g|embedders[._]1)(?:[._]|$)")


class Place(NamedTuple):
    """Where a tensor belongs: its module as the file calls it, and what it is there."""

    stem: str
    leaf: str


def split_key(key: str) -> Place | None:
    """The place of a tensor; None for a key of no known layout."""
    if len(key) > LONGEST:
        return None
    for end, leaf in USUAL.items():
        if key.endswith(end):
            return Place(key[: -len(end)].replace(".processor", ""), leaf)
    for start in _find_starts(key):
        if match := ANY_ENDING.fullmatch(key, start):
            assert match.lastgroup
            number = int(match.lastgroup[1:])
            leaf = ENDINGS[number][1] or key[start + 1 :].removesuffix(".weight")
            if leaf == UNREAD:
                leaf = f"{UNREAD} {key[start + 1 :]}"
            return Place(key[:start].replace(".processor", ""), leaf)
    return None


def _find_starts(key: str) -> list[int]:
    """Where an ending may begin, the longest first: none has more than twelve words."""
    marks = [i for i in range(max(len(key) - 300, 1), len(key)) if key[i] in "._"]
    return marks[-12:]


def name_part(stem: str) -> str:
    """The part that a module's name speaks of, where no model is there to ask."""
    if UNET.search(stem):
        return "unet"
    return "text_encoder_2" if SECOND.search(stem) else "text_encoder"
