"""The texts that a folder gets for a file without any: diffusers and transformers build the very
networks from them, at true size on the meta device."""

import json

import diffusers
import peers
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from fromnoise.checkpoints.families import tell_family
from fromnoise.checkpoints.formats.published import describe_folder


@pytest.mark.parametrize("name", ["sd1-inpainting", "sd2-depth", "xl", "refiner-xl"])
def test_peers_build_the_networks_that_the_texts_describe(name, tmp_path):
    published = peers.TRUE_SIZES[name]
    family = tell_family(peers.true_shapes(name), read=lambda key: [0.0] * 320)
    texts = describe_folder(family)
    values = {key: json.loads(text) for key, text in texts.items() if key.endswith("config.json")}
    index = json.loads(texts["model_index.json"])
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(values["unet/config.json"])
        vae = diffusers.AutoencoderKL.from_config(values["vae/config.json"])
        assert shapes(unet) == peers.true_part(name, "unet")
        assert shapes(vae) == peers.true_part(name, "vae")
        for part in published.texts:
            kind = {"CLIPTextModel": CLIPTextModel}.get(index[part][1], CLIPTextModelWithProjection)
            config = CLIPTextConfig.from_dict(values[f"{part}/config.json"])
            prefix = "text_model." if kind is CLIPTextModel else ""
            found = {prefix + k.removeprefix(prefix): v for k, v in shapes(kind(config)).items()}
            assert found == peers.true_part(name, part)
            expected = published.texts[part]
            for key in ("hidden_act", "num_attention_heads", "intermediate_size"):
                assert getattr(config, key) == getattr(expected, key)
    # what shapes do not show
    for key in ("attention_head_dim", "transformer_layers_per_block", "cross_attention_dim"):
        expected = published.unet[key]
        levels = len(unet.config.block_out_channels)
        found = unet.config[key]
        whole = isinstance(expected, tuple) or isinstance(found, (tuple, list))
        same = [*found] == [*as_levels(expected, levels)] if whole else found == expected
        assert same, key
    # and the pipeline: its class and its parts
    pipeline = getattr(diffusers, index["_class_name"])
    wanted = {*pipeline._get_signature_keys(pipeline)[0]} - {"image_encoder", "feature_extractor"}
    assert wanted <= {*index}
    scheduler = getattr(diffusers, index["scheduler"][1])
    assert scheduler.from_config(values["scheduler/scheduler_config.json"]).config.beta_end == 0.012


def as_levels(value, levels):
    return value if isinstance(value, tuple) else (value,) * levels


def shapes(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def test_tokenizers_pad_as_the_models_were_trained(tmp_path):
    wanted = {"sd1": {"tokenizer": 49407}, "sd2": {"tokenizer": 0}}
    wanted |= {"xl": {"tokenizer": 49407, "tokenizer_2": 0}, "refiner-xl": {"tokenizer_2": 0}}
    for name, pads in wanted.items():
        texts = describe_folder(tell_family(peers.true_shapes(name)))
        for folder, pad in pads.items():
            place = tmp_path / name / folder
            place.mkdir(parents=True)
            for key, text in texts.items():
                if key.startswith(f"{folder}/"):
                    (tmp_path / name / key).write_bytes(text)
            assert CLIPTokenizer.from_pretrained(place).pad_token_id == pad


def test_a_zero_terminal_snr_is_written():
    shapes = peers.true_shapes("sd2") | {"v_pred": (), "ztsnr": ()}
    texts = describe_folder(tell_family(shapes))
    scheduler = json.loads(texts["scheduler/scheduler_config.json"])
    assert scheduler["prediction_type"] == "v_prediction"
    assert scheduler["rescale_betas_zero_snr"] is True
    assert scheduler["timestep_spacing"] == "trailing"
