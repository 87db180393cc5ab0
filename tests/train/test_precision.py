"""The number format of training: chosen at run time, attention kept in fp32 on CPUs."""

import shutil

import pytest
import torch
from torch.nn import functional as F

from fromnoise.errors import UnknownName
from fromnoise.train.loop.precision import Fp32Attention, choose_precision
from fromnoise.train.run import run_stage
from fromnoise.train.stages.clip import ClipTask


def test_auto_is_bf16_only_where_the_hardware_multiplies_it(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        assert choose_precision("auto", cpu=True) == ("bf16" if native else "no")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision("auto", cpu=False) == "no"  # a GPU that is not CUDA's
    assert choose_precision("no", cpu=True) == "no"
    with pytest.raises(UnknownName, match="bf16"):
        choose_precision("float16", cpu=True)


def test_stages_of_two_precisions_follow_each_other_in_one_process(begun, monkeypatch):
    recipe = begun
    shutil.rmtree(recipe.stage("clip").folder)
    plain, seen = ClipTask.loss, set()

    def loss(*args):
        seen.add((recipe.stage("clip")["precision"], torch.is_autocast_enabled("cpu")))
        return plain(*args)

    monkeypatch.setattr(ClipTask, "loss", loss)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for number_format in ("no", "bf16", "no"):
        recipe.stage("clip").values.update(precision=number_format, pictures=8)
        run_stage(recipe, "clip")
        shutil.rmtree(recipe.stage("clip").folder)
    assert seen == {("no", False), ("bf16", True)}


def test_attention_is_fp32_inside_autocast_and_nothing_else():
    q, k, v = torch.randn(3, 2, 4, 32, 8).unbind()
    exact = F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(F.scaled_dot_product_attention(q, k, v).float(), exact)
        with Fp32Attention():
            assert torch.equal(F.scaled_dot_product_attention(q, k, v), exact)
            assert F.linear(torch.randn(4, 8), torch.randn(8, 8)).dtype == torch.bfloat16
            causal = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # options pass through
    assert torch.equal(causal, F.scaled_dot_product_attention(q, k, v, is_causal=True))
