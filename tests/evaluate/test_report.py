"""The report: every figure in every form, one page that needs nothing beside itself."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from fromnoise.evaluate.faithfulness import evaluate
from fromnoise.evaluate.reconstruction import PSNR, Reconstruction
from fromnoise.evaluate.report import Report, as_dict, build_tables, render_html, write_report
from fromnoise.evaluate.retrieval import Retrieval, Score


@pytest.fixture
def report(source, oracle) -> Report:
    def draw(split):
        def of(prompts, seeds):
            images = np.stack([source.sample(s, split).image for s in seeds])
            images[::4, 0, 0] = 1  # a square, whatever was asked for
            return images

        return of

    picture = source.sample(1).image
    return Report(
        "a <model> & its pictures",
        {"model": "tiny", "steps": "4"},
        evaluate(draw("train"), source, oracle, 60, shown=4, reconstruct=lambda x: x),
        evaluate(
            draw("held_out"), source, oracle, 60, "held_out", shown=4, reconstruct=lambda x: x
        ),
        Reconstruction(512, PSNR(1e-3, 1e-5), PSNR(4e-3, 1e-4), [(picture, picture)]),
        Retrieval(Score(250, 256), Score(248, 256)),
        {"loss": [(0, 1.0), (100, 0.5)]},
    )


def test_the_page_is_whole_and_escapes(report, tmp_path):
    page = write_report(report, tmp_path).read_text()
    assert "a &lt;model&gt; &amp; its pictures" in page
    assert "http://" not in page
    assert "https://" not in page
    assert set(re.findall(r' (?:src|href)="?([a-z]+:?)', page)) == {"data:"}
    assert (
        page.count("<img") == 4 * 2 * 2 + 2 + 1
    )  # drawn and real of two splits, one pair, the curves
    assert "30.0 dB" in page
    for name in report.seen.attributes:
        assert f"<th scope=row>{name}" in page
    assert all("alt=" in tag for tag in re.findall("<img[^>]*", page))


def test_the_dictionary_holds_every_figure(report, tmp_path):
    write_report(report, tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found == json.loads(json.dumps(as_dict(report)))
    shape = found["faithfulness"]["held_out"]["attributes"]["shape"]
    assert shape["n"] == 60
    assert shape["drawn"]["accuracy"] == pytest.approx(
        0.75 * 1
    )  # held-out shapes are discs: every fourth is wrong
    assert shape["real"]["accuracy"] == 1
    seen = found["faithfulness"]["seen"]["attributes"]["shape"]
    assert shape["of_seen"]["ratio"] == pytest.approx(0.75 / seen["of_ceiling"]["ratio"])
    assert found["reconstruction"]["whole picture"]["psnr"] == pytest.approx(30)
    assert found["retrieval"]["picture → caption"]["n"] == 256


def test_the_tables_print(report):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(build_tables(report))
    text = console.export_text()
    assert "prompt-following, held-out combinations" in text
    assert "everything stated" in text
    assert "75.0% ±" in text
    assert "whole picture 30.00" in text
    assert "97.7%" in text


def test_a_report_may_lack_any_part():
    bare = Report("nothing")
    assert "<h1>nothing" in render_html(bare)
    assert as_dict(bare) == {"title": "nothing", "facts": {}, "faithfulness": {}}
