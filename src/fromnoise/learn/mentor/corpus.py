"""What the mentor knows: paragraphs of the course, rows of the glossary, sections of the docs,
docstrings of the source (read by `ast`, nothing is imported) and explanations of the quiz."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from fromnoise.learn.course import FIELDS, load_chapters
from fromnoise.learn.quiz import FOLDER, load_questions
from fromnoise.learn.sources import PACKAGE, PREFIX

DOCS = ("glossary", "running", "prompts", "pictures", "guidance", "samplers", "inside", "training")
DOCS += (
    "troubles",
    "onnx",
    "checkpoints",
    "addons",
    "server",
    "studio",
    "schedulers",
    "log",
    "adding-a-sampler",
    "adding-a-format",
    "adding-a-source",
)
KINDS = ("text", "misconception", "takeaways")
DESCRIBES = ("_field", "Field", "typer.Option", "typer.Argument")  # what options are made with


@dataclass(frozen=True)
class Span:
    """A piece of text that can be cited: by its path and line, and an anchor where there is one."""

    id: str  # "course:forward", "glossary:ema", "docs/prompts.md#editing", "quiz:…", "path:name"
    path: str  # in the repository
    line: int
    anchor: str
    title: str
    text: str
    topic: str = ""  # the texts around it, for finding it
    words: str = ""  # what readers call it, see topics.toml

    @property
    def kind(self) -> str:
        """course, glossary, quiz, docs or code."""
        head = self.id.split(":")[0]
        if head in ("glossary", "quiz"):
            return head
        return "docs" if head.startswith("docs/") else "code" if "/" in head else "course"

    @property
    def place(self) -> str:
        """Where a reader can open it."""
        return f"{self.path}#{self.anchor}" if self.anchor else f"{self.path}:{self.line}"


@cache
def load_spans() -> tuple[Span, ...]:
    """All spans, in an order that depends on nothing but the texts."""
    words = tomllib.loads((Path(__file__).parent / "topics.toml").read_text(encoding="utf-8"))
    found = (*_course(), *_docs(), *_quiz(), *_docstrings())
    return tuple(replace(span, words=words["topics"].get(span.id, "")) for span in found)


@cache
def load_asked() -> tuple[tuple[str, str], ...]:
    """(id of a place, a question that it answers), in readers' words."""
    text = (Path(__file__).parent / "asked.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["asked"].items()
    return tuple((name, one) for name, said in rows for one in said.split("?") if one.strip())


def plain(text: str) -> str:
    """Markdown → words: no emphasis, links as their text, one line."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"(?<!\w)\*{1,2}([^*\n]+?)\*{1,2}(?!\w)", r"\1", text)
    return " ".join(text.split())


def _course() -> Iterator[Span]:
    for chapter in load_chapters():
        for section in chapter.sections:
            name = f"{chapter.number}#{section.anchor}"
            topic = plain(" ".join(b.text for b in section.blocks if b.kind in KINDS))
            for block in section.blocks:
                if block.kind == "explorable":
                    fields = block.fields()
                    title = f"{section.title} {fields['Title']} {fields['Predict']}"
                    where = (chapter.path, block.line + 1 + FIELDS.index("Compare"))
                    text = plain(f"{fields['Compare']} {fields['Explain']}")
                    yield Span(name, *where, section.anchor, title, text, topic)
                if block.kind not in KINDS:
                    continue
                rows = re.split(r"\n(?=- |\d+\. )", block.text)
                line = block.line + (block.kind != "text")
                for row in rows:
                    text = re.sub(r"^(- |\d+\. )", "", row.strip())
                    if text.startswith("|"):
                        yield from _table(chapter.path, line, section.anchor, name, text)
                    elif text:
                        title = f"{section.title} {block.name}"
                        where = (chapter.path, line, section.anchor)
                        yield Span(name, *where, title, plain(text), topic)
                    line += row.count("\n") + 1


def _table(path: str, line: int, anchor: str, name: str, text: str) -> Iterator[Span]:
    rows = [[plain(cell) for cell in row.split("|")[1:-1]] for row in text.split("\n")]
    for number, cells in enumerate(rows[2:], line + 2):
        said = "; ".join(f"{head}: {cell}" for head, cell in zip(rows[0], cells, strict=True))
        yield Span(name, path, number, anchor, cells[0], said + ".")


def docs_folder() -> Path:
    """The documents: in the repository, or where the wheel has them."""
    beside = PACKAGE.parents[1] / "docs"
    return beside if (beside / "glossary.md").is_file() else PACKAGE / "learn/docs"


def _docs() -> Iterator[Span]:
    for name in DOCS:
        file = docs_folder() / f"{name}.md"
        if not file.is_file():
            continue
        path = f"docs/{name}.md"
        title, anchor, header, block, fenced = name, "", "", [], False
        rows = [*file.read_text(encoding="utf-8").split("\n"), ""]
        for number, row in enumerate(rows, 1):
            if row.startswith("```"):
                fenced = not fenced
            heading = re.fullmatch(r"#+ (.+)", row)
            ends = not row.strip() or heading or row.startswith(("|", "- ", "```")) or fenced
            if block and ends:
                text = plain(" ".join(block))
                lead = re.match(r"\*\*(.+?)\*\*", block[0])  # an entry of the log begins so
                called = lead[1] if lead else title
                yield Span(f"{path}#{anchor}", path, number - len(block), anchor, called, text)
                block = []
            if heading and not fenced:
                title, header = heading[1], ""
                anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            elif row.startswith("|") and not fenced:
                cells = [plain(cell) for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
                if not header:
                    header = " ".join(cells)
                elif set("".join(cells)) - set("-: "):
                    yield _row(path, number, anchor, title, cells)
            elif row.startswith("- ") or (row.strip() and not ends):
                block.append(row.removeprefix("- "))
                header = ""


def _row(path: str, line: int, anchor: str, title: str, cells: list[str]) -> Span:
    if path.endswith("glossary.md"):
        key = re.split(r"[ ]", cells[0])[0]
        warning = f" Not to be confused with: {cells[2]}." if cells[2] else ""
        text = f"{cells[0]}: {cells[1]}.{warning}"
        return Span(f"glossary:{key}", path, line, "", cells[0], text)
    text = ": ".join([cells[0], ", ".join(cell for cell in cells[1:] if cell)])
    return Span(f"{path}#{anchor}", path, line, anchor, title, text + ".")


def _quiz() -> Iterator[Span]:
    lines = {}
    for file in sorted(FOLDER.glob("*.toml")):
        path = f"src/fromnoise/learn/quiz/questions/{file.name}"
        for number, row in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
            if match := re.fullmatch(r'id = "(.+)"', row):
                lines[match[1]] = path, number
    for question in load_questions().values():
        path, line = lines[question.id]
        right = question.right
        text = f"{right.text.rstrip('.')}. {right.why}"
        topic = " ".join(o.why for o in question.options)
        title = " ".join(question.wordings)
        yield Span(f"quiz:{question.id}", path, line, "", title, text, topic)


def _docstrings() -> Iterator[Span]:
    options: set[str] = set()  # commands share some: one place is enough
    for file in sorted(PACKAGE.rglob("*.py")):
        inside = file.relative_to(PACKAGE).as_posix()
        if inside.startswith(("learn/", "weights/")):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for span in _of_node(tree, PREFIX + inside, ""):
            if not span.title.startswith("option ") or span.text not in options:
                yield span
            options.add(span.text)


def _of_node(
    node: ast.Module | ast.ClassDef | ast.FunctionDef, path: str, name: str
) -> Iterator[Span]:
    said = ast.get_docstring(node)
    if said:
        line = node.body[0].lineno
        title = f"{Path(path).stem} {name}" if name else path.removeprefix(PREFIX)
        yield Span(f"{path}:{name}", path, line, "", title, plain(said))
    if isinstance(node, ast.FunctionDef):
        for argument in (*node.args.args, *node.args.kwonlyargs):
            yield from _option(argument.arg, argument.annotation, path, name)
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            for call in (child.value, child.annotation):
                yield from _option(child.target.id, call, path, name)
        public = getattr(child, "name", "_")[0] != "_"
        if public and isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from _of_node(child, path, f"{name}.{child.name}" if name else child.name)


def _option(field: str, node: ast.expr | None, path: str, name: str) -> Iterator[Span]:
    """A field of a request, or a parameter of a command, that says what it does: an option."""
    for call in ast.walk(node) if isinstance(node, ast.Call | ast.Subscript) else ():
        if isinstance(call, ast.Call) and ast.unparse(call.func) in DESCRIBES:
            words = [word.value for word in call.keywords if word.arg in ("description", "help")]
            for word in words or call.args[1:2]:
                if isinstance(word, ast.Constant) and len(str(word.value).split()) > 2:
                    title = f"option --{field.replace('_', '-')}"
                    title += f" of fromnoise {name}" if name.islower() else ""
                    said = f"{field}: {plain(str(word.value))}"
                    yield Span(f"{path}:{name}.{field}", path, word.lineno, "", title, said)
