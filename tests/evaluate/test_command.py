"""`fromnoise evaluate`, whole, on a tiny random model."""

import json
import sys

import fakes
import pytest

from fromnoise.checkpoints.formats import diffusers_folder_save
from fromnoise.evaluate.judge import Judge, JudgeConfig


def evaluate(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    from fromnoise.cli.main import main

    monkeypatch.setattr(sys, "argv", ["fromnoise", "evaluate", *words])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.fixture
def folder(tmp_path, source, monkeypatch):
    monkeypatch.setattr("fromnoise.data.sources.open_source", lambda name, **options: source)
    diffusers_folder_save.save(
        fakes.model(tmp_path / "parts", steps=2, cfg=2.0), tmp_path / "model"
    )
    return tmp_path / "model"


def test_prints_figures_and_writes_the_page(folder, source, tmp_path, monkeypatch, capsys):
    Judge(JudgeConfig(source.schema, 32, 8, (8, 16), (0, 0))).save(folder / "judge")
    monkeypatch.setattr("fromnoise.evaluate.retrieval.SET", 16)
    words = [
        "--model",
        str(folder),
        "--n",
        "6",
        "--batch",
        "4",
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    code, out, err = evaluate(monkeypatch, capsys, *words)
    assert code == 0, err
    found = json.loads(out)
    assert found["faithfulness"]["held_out"]["attributes"]["shape"]["n"] == 6
    assert found["reconstruction"]["n"] == 512
    assert found["facts"]["drawn with"].endswith("2 steps, guidance 2")
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_a_model_without_a_judge_says_how_to_get_one(folder, monkeypatch, capsys):
    code, _, err = evaluate(monkeypatch, capsys, "--model", str(folder))
    assert code == 1
    assert "no judge in" in err
    assert "fromnoise train" in err


def test_a_judge_of_other_attributes_is_refused(folder, monkeypatch, capsys):
    Judge(JudgeConfig({"mood": ("good", "bad")}, 32, 8, (8,), (0,))).save(folder / "judge")
    code, _, err = evaluate(monkeypatch, capsys, "--model", str(folder))
    assert code == 2
    assert "reads other attributes" in err


@pytest.mark.parametrize(
    ("learned", "said"), [("as-shown", None), ("older", "older"), ("", "does not say")]
)
def test_a_judge_of_other_pictures_is_told(
    folder, source, tmp_path, monkeypatch, capsys, learned, said
):
    judge = Judge(JudgeConfig(source.schema, 32, 8, (8, 16), (0, 0)))
    judge.fingerprint = source.fingerprint if learned == "as-shown" else learned
    judge.save(folder / "judge")
    monkeypatch.setattr("fromnoise.evaluate.retrieval.SET", 16)
    words = [
        "--model",
        str(folder),
        "--n",
        "2",
        "--batch",
        "4",
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    code, _, err = evaluate(monkeypatch, capsys, *words)
    assert code == 0
    assert ("learned other pictures" in err) == (said is not None)
    assert said is None or said in err
