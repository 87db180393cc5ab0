"""What an exercise is, and how an answer to it is judged: on plain Python lists, by random cases.

The judge knows the usual wrong formulas. Where an answer is wrong it looks which of them gives the
very same numbers, and so can say what was misunderstood instead of "wrong". It calls whatever
function it is given: in a browser tab the reader's own, in a terminal a stand-in that asks the
limited process of `sandbox.py`.
"""

import inspect
import math
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

CASES = 16  # random cases of a check: enough that two formulas which differ are told apart
# Sums of at most 64 float64 terms in another order differ by less than 1e-13 of their size; this
# leaves room for log, exp and roots taken in another order, and none for another formula.
RELATIVE, ABSOLUTE = 1e-7, 1e-9


@dataclass(frozen=True)
class Misconception:
    """A usual mistake: its tag, the formula that somebody who makes it writes, and what to say."""

    tag: str
    hint: str
    formula: Callable  # has the exercise's arguments; may raise what the mistake raises


@dataclass(frozen=True)
class Exercise:
    """One function to write. `reference` is the solution, and its source is what readers see."""

    title: str
    chapter: str  # the id of the chapter that explains it
    task: str  # what to write, as Markdown
    formula: str  # KaTeX
    code: str  # where fromnoise itself does this, "path:function"
    reference: Callable
    cases: Callable[[random.Random], tuple]  # the arguments of one random case
    misconceptions: tuple[Misconception, ...]
    hints: tuple[str, ...]  # from a first push to nearly the solution

    @property
    def name(self) -> str:
        return self.reference.__name__

    @property
    def signature(self) -> str:
        return f"def {self.name}{inspect.signature(self.reference)}:"

    @property
    def starter(self) -> str:
        """The file a reader begins with."""
        says = inspect.getdoc(self.reference) or ""
        body = "\n".join(f"    {line}".rstrip() for line in says.splitlines())
        docstring = (
            f'    """{body.strip()}"""' if "\n" not in says else f'    """{body[4:]}\n    """'
        )
        return f"import math\n\n\n{self.signature}\n{docstring}\n    return ...  # your code\n"

    @property
    def solution(self) -> str:
        return f"import math\n\n\n{inspect.getsource(self.reference)}"


@dataclass(frozen=True)
class Verdict:
    """What a check found. `hint` says what to think about next; `tag` names the misconception."""

    passed: bool
    message: str
    tag: str = ""
    hint: str = ""


class Stopped(Exception):
    """The reader's code ended, or was ended, before it answered."""

    def __init__(self, tag: str, message: str):
        super().__init__(message)
        self.tag = tag


class CodeError(Exception):
    """The reader's code raised an error: its type's name, its words, and the line if known."""

    def __init__(self, kind: str, message: str, line: int | None = None):
        super().__init__(message)
        self.kind, self.line = kind, line


Outcome = tuple[str, object]  # ("value", an answer) or ("error", the name of the error's type)


def near(a: object, b: object) -> bool:
    """Whether two answers are the same numbers in the same lists."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(near, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return a is None and b is None


def outcome_of(function: Callable, args: tuple) -> Outcome:
    """What one call gives, on arguments of its own."""
    try:
        return "value", function(*deepcopy(args))
    except Stopped:
        raise
    except CodeError as error:
        return "error", error.kind
    except Exception as error:
        return "error", type(error).__name__


def same(a: Outcome, b: Outcome) -> bool:
    return a[0] == b[0] and (a[1] == b[1] if a[0] == "error" else near(a[1], b[1]))


def judge(exercise: Exercise, function: Callable, seed: int | None = None) -> Verdict:
    """Runs `function` on random cases and says what is right or which mistake explains it.

    seed: None draws other cases each time. Raises Stopped where the reader's code cannot go on.
    """
    chance = random.Random(seed)
    cases = [exercise.cases(chance) for _ in range(CASES)]
    right = [outcome_of(exercise.reference, args) for args in cases]
    answers = []
    for args in cases:
        try:
            answers.append(("value", function(*deepcopy(args))))
        except Stopped:
            raise
        except Exception as raised:
            known = isinstance(raised, CodeError)
            error = raised if known else CodeError(type(raised).__name__, str(raised))
            answers.append(("error", error.kind))
            if not any(_explains(m, cases, answers) for m in exercise.misconceptions):
                line = f" in line {error.line}" if error.line else ""
                message = f"{exercise.name} raised {error.kind}{line}: {error}"
                return Verdict(False, message, "error", f"It happens with {_show(args)}.")
    wrong = [i for i in range(CASES) if not same(answers[i], right[i])]
    if not wrong:
        return Verdict(True, f"{exercise.name}: right in all {CASES} random cases")
    for mistake in exercise.misconceptions:
        if _explains(mistake, cases, answers):
            message = f"{exercise.name}: wrong in {len(wrong)} of {CASES} random cases"
            return Verdict(False, message, mistake.tag, mistake.hint)
    return _unexplained(exercise, cases[wrong[0]], answers[wrong[0]][1], right[wrong[0]][1])


def _explains(mistake: Misconception, cases: list[tuple], answers: list[Outcome]) -> bool:
    """Whether a wrong formula gives every answer so far."""
    return all(
        same(outcome_of(mistake.formula, args), answer)
        for args, answer in zip(cases, answers, strict=False)
    )


def _unexplained(exercise: Exercise, args: tuple, got: object, wanted: object) -> Verdict:
    name = exercise.name
    if got is None:
        return Verdict(False, f"{name} returned nothing", "no_return", "Is there a `return`?")
    if _shape(got) != _shape(wanted):
        message = f"{name} returned {_shape(got)}, and {_shape(wanted)} is wanted"
        return Verdict(False, message, "shape", "Look at the lengths of what goes in and out.")
    message = f"{name}({_show(args)}) gave {_show((got,))}, and {_show((wanted,))} is right"
    return Verdict(False, message, "unknown", exercise.hints[0])


def _shape(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" + (f", each {_shape(value[0])}" if value else "")
    return "a number" if isinstance(value, int | float) else type(value).__name__


def _show(args: tuple) -> str:
    def text(value: object) -> str:
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(text, value))}]"
        if isinstance(value, float):
            return f"{value:.4g}"
        return "denoise" if callable(value) else str(value)

    return ", ".join(map(text, args))
