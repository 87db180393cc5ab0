"""The evaluation as a table for the terminal, a dictionary for scripts, and one self-contained HTML
page to look at."""

import base64
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fromnoise.evaluate.faithfulness import Faithfulness, Ratio, Score, Tally
from fromnoise.evaluate.reconstruction import PSNR, Reconstruction
from fromnoise.evaluate.retrieval import Retrieval
from fromnoise.files import write_file


@dataclass
class Report:
    """All figures of one evaluation. What was not measured is None."""

    title: str
    # model, steps, judge, … in the order of the page
    facts: dict[str, str] = field(default_factory=dict)
    seen: Faithfulness | None = None
    held_out: Faithfulness | None = None
    reconstruction: Reconstruction | None = None
    retrieval: Retrieval | None = None
    # name → (pictures seen, value)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def splits(self) -> list[Faithfulness]:
        return [split for split in (self.seen, self.held_out) if split]

    def held_out_ratio(self, name: str) -> Ratio | None:
        """Accuracy on held-out combinations as a fraction of that on seen ones, both relative to
        their ceilings."""
        if not (
            self.seen
            and self.held_out
            and {name} <= {*self.seen.attributes} & {*self.held_out.attributes}
        ):
            return None
        a, b = self.held_out.ratio(name), self.seen.ratio(name)
        if not b.value > 0:
            return None
        value = a.value / b.value
        return Ratio(value, ((a.error / b.value) ** 2 + (value * b.error / b.value) ** 2) ** 0.5)


def as_dict(report: Report) -> dict:
    """Every figure, without the pictures: the content of report.json, and what `--json` prints."""
    out: dict = {"title": report.title, "facts": report.facts, "faithfulness": {}}
    for split in report.splits:
        rows = {}
        for name in split.attributes:
            ratio, across = split.ratio(name), report.held_out_ratio(name)
            rows[name] = {"n": split.drawn.n[name], "balanced": split.drawn.balanced(name)}
            for kind, tally in _kinds(split):
                rows[name][kind] = {
                    "accuracy": tally.scores()[name].accuracy,
                    "error": tally.scores()[name].error,
                }
            rows[name]["of_ceiling"] = {"ratio": ratio.value, "error": ratio.error}
            if split is report.held_out and across:
                rows[name]["of_seen"] = {"ratio": across.value, "error": across.error}
            rows[name]["confusions"] = split.drawn.confusions(name)
        everything = {
            kind: {"accuracy": _whole(t).accuracy, "n": _whole(t).n} for kind, t in _kinds(split)
        }
        out["faithfulness"][split.split] = {"attributes": rows, "everything": everything}
    if report.reconstruction:
        r = report.reconstruction
        out["reconstruction"] = {"n": r.n} | {
            name: {"psnr": p.db, "error": p.db_error} for name, p in _psnr(r)
        }
    if report.retrieval:
        out["retrieval"] = {
            name: {"top1": s.accuracy, "error": s.error, "n": s.n} for name, s in _retrieved(report)
        }
    return out


def build_tables(report: Report) -> Group:
    """For a rich console: a table for each split, then a line for reconstruction and one for
    retrieval."""
    parts: list[Table | Text] = []
    for split in report.splits:
        title = f"prompt-following, {_words(split.split)} combinations"
        table = Table(title=title, title_justify="left", title_style="bold")
        for heading in (
            "attribute",
            "right",
            "n",
            *(["through VAE"] if split.reconstructed else []),
            "on real",
            "of ceiling",
            *(["of seen"] if split is report.held_out and report.seen else []),
        ):
            table.add_column(heading, justify="left" if heading == "attribute" else "right")
        for name in split.attributes:
            row = [name, _percent(split.drawn.scores()[name]), f"{split.drawn.n[name]:,}"]
            row += [f"{t.scores()[name].accuracy:.1%}" for _, t in reversed(_kinds(split)[1:])]
            row.append(_ratio(split.ratio(name)))
            if split is report.held_out and report.seen:
                across = report.held_out_ratio(name)
                row.append(_ratio(across) if across else "–")
            table.add_row(*row)
        table.add_section()
        kinds = _kinds(split)
        table.add_row(
            "everything stated",
            _percent(_whole(split.drawn)),
            f"{_whole(split.drawn).n:,}",
            *[f"{_whole(t).accuracy:.1%}" for _, t in reversed(kinds[1:])],
            _ratio(Ratio.of(_whole(split.drawn), _whole(split.real))),
        )
        parts += [table, Text()]
    if report.reconstruction:
        figures = ", ".join(
            f"{name} {p.db:.2f} ± {p.db_error:.2f} dB" for name, p in _psnr(report.reconstruction)
        )
        parts.append(Text(f"autoencoder PSNR: {figures} (n = {report.reconstruction.n:,})"))
    if report.retrieval:
        figures = ", ".join(f"{name} {_percent(s)} (n = {s.n:,})" for name, s in _retrieved(report))
        parts.append(Text(f"CLIP top-1 of 256: {figures}"))
    return Group(*parts)


def write_report(report: Report, folder: str | Path) -> Path:
    """Writes report.html and report.json, each whole or not at all. Returns the page's path."""
    figures = json.dumps(as_dict(report), indent=1, ensure_ascii=False) + "\n"
    page = render_html(report)
    for name, text in (("report.json", figures), ("report.html", page)):
        data = text.encode()
        write_file(Path(folder) / name, lambda part, data=data: part.write_bytes(data))
    return Path(folder) / "report.html"


def render_html(report: Report) -> str:
    """One page that needs no other file: its pictures are embedded."""
    body = [f"<h1>{escape(report.title)}</h1>", _facts(report.facts), _tiles(report)]
    if report.splits:
        body.append(
            "<h2>Does the picture show what the words say?</h2>"
            "<p>Every caption states some attributes. A separate network, the judge, reads them"
            " back from the picture that the model drew. The mark on a bar is the judge’s own"
            " ceiling:"
            " what it reads in <em>real</em> pictures of the same captions. ± is one standard"
            " error.</p>"
        )
        body += [_score_table(report, split) for split in report.splits]
        body += [_sheet(split) for split in report.splits]
        body += [_mistakes(split) for split in report.splits]
    if report.reconstruction:
        r = report.reconstruction
        figures = " · ".join(
            f"<b>{p.db:.2f}</b> ± {p.db_error:.2f} dB {name}" for name, p in _psnr(r)
        )
        pairs = "".join(
            f"<figure class=pair>{_img(a, 'original')}{_img(b, 'reconstruction')}</figure>"
            for a, b in r.shown
        )
        body.append(
            f"<h2>What the autoencoder keeps</h2><p>{figures}, from the mean squared error over"
            f" {r.n:,} fresh pictures. Left: the picture. Right: its reconstruction.</p>"
            f"<div class=sheet>{pairs}</div>"
        )
    if report.curves:
        body.append("<h2>Learning</h2>" + _curves(report.curves))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width">'
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style>"
        f"<main>{''.join(body)}</main></html>\n"
    )


def _kinds(split: Faithfulness) -> list[tuple[str, Tally]]:
    kinds = [("drawn", split.drawn), ("real", split.real)]
    return kinds + ([("reconstructed", split.reconstructed)] if split.reconstructed else [])


def _whole(tally: Tally) -> Score:
    return Score(*tally.whole)


def _psnr(r: Reconstruction) -> list[tuple[str, PSNR]]:
    return [("whole picture", r.whole)] + ([("inside the object", r.inside)] if r.inside else [])


def _retrieved(report: Report) -> list[tuple[str, Score]]:
    r = report.retrieval
    return (
        [("picture → caption", r.image_to_text), ("caption → picture", r.text_to_image)]
        if r
        else []
    )


def _words(name: str) -> str:
    return name.replace("_", "-")


def _value(attribute: str, value: str) -> str:
    """A value that can stand alone: "neon", but "count 2"."""
    return f"{_words(attribute)} {value}" if value.isdigit() else value


def _percent(score: Score) -> str:
    return f"{score.accuracy:.1%} ± {100 * score.error:.1f}"


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.3f} ± {ratio.error:.3f}"


def _img(image: np.ndarray, alt: str) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img loading=lazy alt="{escape(alt, quote=True)}" src="data:image/png;base64,{data}">'


def _facts(facts: dict[str, str]) -> str:
    return (
        "<dl>"
        + "".join(f"<div><dt>{escape(k)}<dd>{escape(v)}</div>" for k, v in facts.items())
        + "</dl>"
    )


def _tiles(report: Report) -> str:
    tiles: list[tuple[str, str, str]] = []
    for split in report.splits:
        whole = _whole(split.drawn)
        tiles.append(
            (
                f"{whole.accuracy:.1%}",
                f"{_words(split.split)}: everything right",
                f"{_whole(split.real).accuracy:.1%} on real pictures, n = {whole.n:,}",
            )
        )
    if report.reconstruction:
        (first, psnr), *rest = _psnr(report.reconstruction)
        also = (
            f"{rest[0][1].db:.1f} dB {rest[0][0]}" if rest else f"n = {report.reconstruction.n:,}"
        )
        tiles.append((f"{psnr.db:.1f} dB", f"autoencoder, {first}", also))
    if retrieved := _retrieved(report):
        (first, score), (second, other) = retrieved
        tiles.append(
            (f"{score.accuracy:.1%}", f"CLIP {first}, of 256", f"{other.accuracy:.1%} {second}")
        )
    cells = "".join(
        f"<div><b>{a}</b><span>{escape(b)}</span><small>{escape(c)}</small></div>"
        for a, b, c in tiles
    )
    return f"<section class=tiles>{cells}</section>"


def _score_table(report: Report, split: Faithfulness) -> str:
    across = split is report.held_out and report.seen
    rows = []
    for name in split.attributes:
        drawn, real = split.drawn.scores()[name], split.real.scores()[name]
        low, high = max(0.0, drawn.accuracy - drawn.error), min(1.0, drawn.accuracy + drawn.error)
        bar = (
            f'<div class=bar><i style="width:{drawn.accuracy:.2%}"></i>'
            f'<u style="left:{low:.2%};width:{high - low:.2%}"></u>'
            f'<s style="left:{real.accuracy:.2%}"></s></div>'
        )
        cells = [
            f"<th scope=row>{escape(_words(name))}",
            bar,
            f"<b>{drawn.accuracy:.1%}</b> ± {100 * drawn.error:.1f}",
            f"{drawn.n:,}",
            f"{real.accuracy:.1%}",
        ]
        if split.reconstructed:
            cells.append(f"{split.reconstructed.scores()[name].accuracy:.1%}")
        cells.append(_ratio(split.ratio(name)))
        if across:
            ratio = report.held_out_ratio(name)
            cells.append(_ratio(ratio) if ratio else "–")
        rows.append("<tr>" + "<td>".join(cells))
    heads = [
        "attribute",
        "",
        "drawn",
        "n",
        "real",
        *(["through the VAE"] if split.reconstructed else []),
        "of the ceiling",
        *(["of seen"] if across else []),
    ]
    head = "".join(f"<th scope=col>{h}" if h else "<td>" for h in heads)
    caption = f"{_words(split.split).capitalize()} combinations"
    table = f"<table><caption>{caption}</caption><tr>{head}{''.join(rows)}</table>"
    return f"<div class=scroll>{table}</div>"


def _sheet(split: Faithfulness) -> str:
    figures = []
    for scene, read, drawn, real in split.shown:
        wanted = scene.sample.attributes
        marks = ""
        for name in (a for a in wanted if a in scene.sample.stated):
            kind, sign = ("yes", "✓") if read[name] == wanted[name] else ("no", "✗")
            title = escape(f"{name}: the judge reads {read[name]}", quote=True)
            value = escape(_value(name, wanted[name]))
            marks += f'<span class={kind} title="{title}">{sign} {value}</span> '
        caption = escape(scene.sample.caption)
        figures.append(
            f"<figure><div class=pair>{_img(drawn, scene.sample.caption)}"
            f"{_img(real, 'a real picture')}</div><figcaption>{caption}"
            f"<p class=marks>{marks}</p></figcaption></figure>"
        )
    return (
        f"<h3>{_words(split.split).capitalize()} combinations, unselected</h3><p>Left: the model's"
        " picture. Right: a real picture of the same caption.</p>"
        f"<div class=sheet>{''.join(figures)}</div>"
    )


def _mistakes(split: Faithfulness) -> str:
    rows = []
    for name in split.attributes:
        wrong = (
            ", ".join(
                f"{escape(a)} → {escape(b)}{f' ×{k}' if k > 1 else ''}"
                for a, b, k in split.drawn.confusions(name, 6)
            )
            or "none"
        )
        worst = (
            ", ".join(
                f"{escape(v)} {s.accuracy:.0%}"
                for v, s in list(split.drawn.by_value(name).items())[:5]
                if s.right < s.n
            )
            or "–"
        )
        rows.append(f"<tr><th scope=row>{escape(_words(name))}<td>{wrong}<td>{worst}")
    return (
        f"<details><summary>Mistakes, {_words(split.split)} combinations</summary>"
        "<div class=scroll><table class=words><tr><th scope=col>attribute"
        "<th scope=col>stated → read<th scope=col>hardest values"
        f"{''.join(rows)}</table></div></details>"
    )


def _curves(curves: dict[str, list[tuple[float, float]]]) -> str:
    from matplotlib.figure import Figure  # only a report with curves needs it

    figure = Figure(figsize=(4 * len(curves), 2.8), layout="constrained")
    for axes, (name, points) in zip(
        np.atleast_1d(figure.subplots(1, len(curves))), curves.items(), strict=True
    ):
        axes.plot(*zip(*points, strict=True), color="#5b6cff")
        axes.set(title=name, xlabel="pictures seen")
        axes.grid(alpha=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144)
    names: Iterable[str] = curves
    return _img(np.asarray(Image.open(file).convert("RGB")), f"curves of {', '.join(names)}")


_STYLE = """
:root{color-scheme:light dark;--ink:#1c1d2b;--soft:#666a80;--paper:#fbfaf7;--card:#fff;
  --line:#e4e2dc;--fill:#6c7bff;--yes:#1d7a48;--no:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#ecebf5;--soft:#a3a5bb;--paper:#14151f;
  --card:#1d1f2d;--line:#33364a;--fill:#7d8aff;--yes:#6fd39c;--no:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:auto;padding:2rem 1.2rem 5rem}
h1{margin:0 0 .4rem;font-size:2rem;letter-spacing:-.02em}
h2{margin:3rem 0 .3rem}
h3{margin:2.2rem 0 0}
p{max-width:70ch;color:var(--soft);margin:.3rem 0 1rem}
p b{color:var(--ink)}
dl{display:flex;flex-wrap:wrap;gap:.3rem 1.6rem;margin:0 0 1.6rem}
dt{font-size:.8rem;color:var(--soft)}
dd{margin:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:1rem}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:14px;
  padding:1rem 1.2rem;display:grid}
.tiles b{font-size:2rem;letter-spacing:-.02em;line-height:1.2}
.tiles small{color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:1.2rem 0}
caption{text-align:left;font-weight:600;padding:.4rem 0}
th,td{padding:.42rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
tr:first-child>*{color:var(--soft);font-weight:500;font-size:.85rem}
th:first-child,.words *{text-align:left}
.words td{white-space:normal}
th[scope=row]{font-weight:500}
td:nth-child(2){width:32%}
.words td:nth-child(2){width:auto}
.bar{position:relative;height:14px;min-width:140px;background:var(--line);border-radius:7px}
.bar *{position:absolute;top:0;height:100%}
.bar i{left:0;background:var(--fill);border-radius:7px}
.bar u{background:var(--ink);opacity:.28}
.bar s{width:2px;margin-left:-2px;background:var(--ink);top:-4px;height:22px}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(256px,1fr));gap:1.1rem}
figure{margin:0}
.pair{display:flex;gap:3px}
.pair img{width:50%;border-radius:8px;display:block;image-rendering:auto}
figcaption{font-size:.88rem;line-height:1.35;padding:.4rem .1rem}
.marks{font-size:.8rem;margin:.25rem 0 0}
.yes{color:var(--yes)}
.no{color:var(--no);font-weight:600}
.marks span{white-space:nowrap}
details{margin:1rem 0}
summary{cursor:pointer;font-weight:600}
main>img{max-width:100%;border-radius:12px}
"""
