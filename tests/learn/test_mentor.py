"""The mentor: what it finds, what it cites, what it does not know, and what an endpoint may say."""

import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mentor_questions import load, matches, measure, part_of, rows
from typer.testing import CliRunner

from fromnoise.cli.main import app
from fromnoise.errors import BadInput, UnknownName
from fromnoise.learn.course import EXPLORABLES
from fromnoise.learn.exercises import EXERCISES
from fromnoise.learn.mentor.answer import ABSTAINS, ask, find_exercise, split
from fromnoise.learn.mentor.corpus import DOCS, load_asked, load_spans
from fromnoise.learn.mentor.endpoint import ask_endpoint, keep_supported, supports
from fromnoise.learn.mentor.index import Index, load_index
from fromnoise.learn.mentor.premises import find_premise, load_premises
from fromnoise.learn.mentor.spelling import is_one_slip
from fromnoise.learn.mentor.words import stem, terms_of
from fromnoise.learn.quiz import load_questions

ROOT = Path(__file__).parents[2]
SPANS = load_spans()
IDS = {span.id for span in SPANS}


KNOWN = ("answerable", "answerable-more", "answerable-fresh", "answerable-last")
KNOWN += ("answerable-third", "answerable-fourth", "answerable-fifth")


def test_there_are_enough_questions():
    assert len(rows("answerable")) >= 150
    assert len(rows("unanswerable")) >= 90
    assert len(rows("false")) >= 30
    assert len(load("answerable", "held")) >= 50
    assert len(part_of("answerable", "aside")) >= 100


def test_every_gold_is_a_place_that_exists():
    golds = {g for part in KNOWN for golds, _ in rows(part) for g in golds}
    assert not [gold for gold in golds if not any(matches(gold, name) for name in IDS)]
    premises = {premise.id for premise in load_premises()}
    assert {golds[0] for part in ("false", "false-last") for golds, _ in rows(part)} <= premises


# "aside" is what nobody tuned on: 113 questions, 60 without an answer here, 27 false premises.
# "seen" is all that was tuned on, of which a part was written to be hard ("near").
@pytest.mark.parametrize(
    ("half", "bars"),
    [
        ("tuned", {"recall@5": 0.95, "gold cited": 0.9, "abstention": 0.9, "corrected": 0.9}),
        ("seen", {"recall@5": 0.95, "gold cited": 0.9, "abstention": 0.9, "corrected": 0.9}),
        ("aside", {"recall@5": 0.95, "gold cited": 0.9, "abstention": 0.9, "corrected": 0.9}),
    ],
)
def test_the_figures_reach_their_bars(half, bars):
    figures = measure(half)
    assert figures["false abstention"] <= 0.08
    assert not {name: figures[name] for name, bar in bars.items() if figures[name] < bar}


def test_an_answer_takes_less_than_a_fifth_of_a_second():
    load_index()
    times = []
    for part in ("answerable", "unanswerable", "false"):
        for _, question in rows(part):
            began = time.process_time()
            ask(question)
            times.append(time.process_time() - began)
    assert sorted(times)[int(0.95 * len(times))] <= 0.2


def anchors_of(path):
    found = set()
    for row in (ROOT / path).read_text().splitlines():
        if row.startswith("#"):
            title = row.lstrip("# ")
            slug = "".join(c for c in title.lower() if c.isalnum() or c in "_- ").replace(" ", "-")
            found.add(title.split("{#")[1].rstrip("}") if "{#" in title else slug)
    return found


def test_every_citation_can_be_opened():
    lines, anchors = {}, {}
    for span in SPANS:
        if span.path not in lines:
            lines[span.path] = (ROOT / span.path).read_text().splitlines()
            anchors[span.path] = anchors_of(span.path)
        assert 1 <= span.line <= len(lines[span.path]), span
        if span.anchor:
            assert span.anchor in anchors[span.path], span
        here = " ".join(lines[span.path][max(0, span.line - 8) : span.line + 12])
        first = words_of(" ".join(span.text.split()[:4])) if span.kind != "quiz" else set()
        if span.kind != "course" or "{{" not in here:
            assert first <= words_of(here), span


def words_of(text):
    return set(re.findall(r"[A-Za-z]{3,}", text))


def test_sentences_are_those_of_the_places_they_cite():
    by_id = {}
    for span in SPANS:
        by_id.setdefault(span.id, []).append(span.text)
    for _, question in load("answerable", "tuned")[:40]:
        answer = ask(question)
        if answer.abstained:
            continue
        assert len(answer.sentences) == len(answer.citations) <= 3
        for name, sentence in zip(answer.spans, answer.sentences, strict=True):
            if not answer.premise:
                assert any(sentence in text for text in by_id[name])


def test_the_index_depends_on_nothing_but_the_texts():
    questions = ["What is sigma?", "how do samplers work", "merge two images", "loss"]
    code = (
        "import sys; from fromnoise.learn.mentor.answer import ask\n"
        "for question in sys.argv[1:]: print(ask(question).as_dict())"
    )
    said = subprocess.run(
        [sys.executable, "-S", "-c", code, *questions],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
        timeout=120,
        encoding="utf-8",
    ).stdout
    assert said.splitlines() == [str(ask(question).as_dict()) for question in questions]


def test_words():
    for alike in (("scaling", "scaled", "scales"), ("image", "pictures"), ("sampler", "samplers")):
        assert len({stem(word) for word in alike}) == 1
    assert stem("autoencoder") == stem("vae")
    assert "x0fromeps" in terms_of("x0_from_eps")
    assert {"noise", "schedul"} & {*terms_of("NoiseSchedule"), "noise"}
    assert terms_of("ᾱ") == terms_of("alpha_bar") == terms_of("alpha bars")
    assert terms_of("Euler a") == terms_of("euler_a") == terms_of("Euler ancestral")
    assert terms_of("a cat AND a dog") != terms_of("a cat and a dog")
    assert split("By Ho et al. 2020, eq. 4. It is so. Then (and only then) x.") == [
        "By Ho et al. 2020, eq. 4.",
        "It is so.",
        "Then (and only then) x.",
    ]


def test_what_readers_ask_leads_to_places_that_exist():
    assert {name for name, _ in load_asked()} <= IDS
    for name, question in load_asked()[::40]:
        assert name in [hit.span.id for hit in load_index().search(question)[:5]], question


def test_every_document_is_known_and_comes_with_the_wheel():
    listed = (ROOT / "pyproject.toml").read_text()
    documents = {file.stem for file in (ROOT / "docs").glob("*.md")} - {"map", "endpoints"}  # lists
    assert set(DOCS) == documents
    assert not [name for name in DOCS if f'"docs/{name}.md" =' not in listed]


def test_slips_of_spelling_are_mended():
    mended = load_index().correct_spelling("how does the guidence and nosie schdule work in Flux")
    assert mended == "how does the guidance and noise schedule work in Flux"
    for strange in ("train a horse", "bake a pizza", "What is Sanpler?", "samples", ""):
        assert load_index().correct_spelling(strange) == strange
    assert is_one_slip("samplre", "sampler")
    assert is_one_slip("stepps", "steps")
    assert not is_one_slip("horse", "house")
    assert not is_one_slip("sampler", "sampler")
    assert not is_one_slip("sample", "samplers")


def test_an_empty_index_and_odd_questions_find_nothing():
    assert Index.build(()).search("anything") == []
    for question in ("", "?", "the of and", "☃" * 10, "a" * 100_000, "\0", "(((", "{{sigma}}"):
        answer = ask(question)
        assert answer.abstained or answer.citations
    assert ask("What is the capital of France?").text == ABSTAINS


def test_premises_rest_on_their_places():
    for premise in load_premises():
        assert set(premise.sources) <= IDS, premise.id
        text = " ".join(s.text for s in SPANS if s.id in premise.sources)
        words = set(terms_of(premise.says))
        assert len(words & set(terms_of(text))) >= 0.6 * len(words), premise.id
    tags = {option.tag for q in load_questions().values() for option in q.options}
    assert {"vae_is_upscaler", "cfg_mixes", "stored_pictures"} <= tags


@pytest.mark.parametrize(
    "question",
    [
        "How do I enlarge a finished picture?",
        "What is the difference between a step and a timestep?",
        "How do I blend two pictures?",
        "What is the temperature?",
        "How do I write a negative prompt?",
        "What does the decoder do?",
    ],
)
def test_harmless_questions_are_not_corrected(question):
    assert find_premise(question) is None


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_come_before_the_solution(name):
    solution = max(ask_lines(name), key=len)
    for wording in (f"give me the solution of {name}", f"how do I write {name}?"):
        answer = ask(wording)
        assert "hint" in answer.text.lower()
        assert answer.citations[0].path.endswith(f"tasks/{name}.py")
        assert solution not in answer.text
    assert ask(f"solution of {name}", hint=1).text != ask(f"solution of {name}", hint=2).text
    assert "--solution" in ask(f"solution of {name}", hint=9).text


def ask_lines(name):
    from fromnoise.learn.exercises import load as load_exercise

    return load_exercise(name).solution.splitlines()


def test_exercises_are_not_seen_everywhere():
    assert find_exercise("what is cfg?") == ""
    assert find_exercise("I am stuck with the heun step exercise") == "heun_step"


@pytest.mark.parametrize("name", EXPLORABLES)
def test_it_knows_which_explorable_is_open(name):
    answer = ask("What does this show?", explorable=name, values={"sigma": 2.0})
    assert not answer.abstained
    assert "sigma = 2" in answer.text
    assert len(answer.citations) == 2
    assert ask("What is the capital of France?", explorable=name).abstained
    with pytest.raises(UnknownName):
        ask("What is this?", explorable="none")


def run(*args):
    return CliRunner().invoke(app, ["mentor", *args], catch_exceptions=False)


def test_the_command():
    data = json.loads(run("What is sigma?", "--json").output)
    assert set(data) == {"answer", "citations", "abstained"}
    assert not data["abstained"]
    for row in data["citations"]:
        assert (ROOT / row["path"]).is_file()
        assert row["line"] >= 1
    assert json.loads(run("Who wrote Hamlet?", "--json").output) == {
        "answer": ABSTAINS,
        "citations": [],
        "abstained": True,
    }
    assert "] docs/glossary.md:" in run("What is sigma?").output
    with pytest.raises(UnknownName):
        run("x", "--explorable", "none")


def test_nothing_is_sent_unless_an_endpoint_is_given(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    assert not ask("What is sigma?").abstained


@pytest.fixture
def endpoint():
    """A server that answers every request with `server.reply`, and keeps what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.seen = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.headers = dict(self.headers)
            body = self.server.reply
            if isinstance(body, str):
                body = json.dumps({"choices": [{"message": {"content": body}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


QUESTION = "What is classifier-free guidance?"


def test_only_supported_sentences_stay(endpoint):
    top = load_index().search(QUESTION)[0].span
    true = split(top.text)[0].rstrip(".")
    endpoint.reply = f"{true} [1]. It was invented in 1987 by Picasso [1]. Cats like fish. [9]"
    answer, note = ask_endpoint(QUESTION, endpoint.url, "m", "secret")
    assert answer.sentences == (f"{true} .",) or answer.text.startswith(true)
    assert len(answer.sentences) == 1
    assert answer.spans == (top.id,)
    assert note == ""
    assert QUESTION in endpoint.seen["messages"][1]["content"]
    assert endpoint.headers["Authorization"] == "Bearer secret"


def test_an_unsupported_reply_gives_the_own_answer_and_a_note(endpoint):
    for reply in ("NONE", "Guidance was found in 1999 on Mars [1].", "", "[1]", "[1][2][3]"):
        endpoint.reply = reply
        answer, note = ask_endpoint(QUESTION, endpoint.url, "m")
        assert answer == ask(QUESTION)
        assert note


def test_an_endpoint_is_not_asked_what_is_not_in_the_course(endpoint):
    endpoint.reply = "Paris [1]."
    answer, _ = ask_endpoint("What is the capital of France?", endpoint.url, "m")
    assert answer.abstained
    assert not hasattr(endpoint, "seen")


@pytest.mark.parametrize(
    "reply", [b"no json", b"{}", b'{"choices": []}', b"[" * 100_000, b"x" * 1_000_001]
)
def test_bad_endpoints_are_an_error(endpoint, reply):
    endpoint.reply = reply
    with pytest.raises(BadInput):
        ask_endpoint(QUESTION, endpoint.url, "m")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "none", "http://127.0.0.1:1/v1"])
def test_bad_addresses_are_an_error(url):
    with pytest.raises(BadInput):
        ask_endpoint(QUESTION, url, "m")


def test_support_means_numbers_names_words_and_no_turned_sense():
    span = load_index().search(QUESTION)[0].span
    sentence = split(span.text)[0]
    assert supports(span, sentence)
    assert not supports(span, sentence + " In 4711.")
    assert not supports(span, sentence.replace(" ", " Napoleon ", 1))
    assert not supports(span, "")
    assert keep_supported(f"{sentence} [7]", [span]) == []
