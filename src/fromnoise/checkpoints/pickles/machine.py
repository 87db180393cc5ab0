"""A pickle → values, by a machine that can only make plain values.

A pickle is a program for a small stack machine. Python's own machine imports the globals that the
program names and calls them: that is how a file runs code. This one is written anew, in place of
Python's `Unpickler` with another `find_class`, for three reasons:

- It has no way out. A global becomes a `Global`, which holds a name and nothing else. A call gives
  an `Inert`, unless the name is in a table of functions of ours that check their arguments. No
  opcode reaches `__reduce__`, `__setstate__`, `__new__` or an attribute of any object: BUILD,
  NEWOBJ, INST, OBJ and the extension registry only store what they are given.
- It is bounded: so many opcodes, so many bytes. The number of a memo entry is a key of a dict, not
  the length of a table. Lengths are compared with what is left before anything is cut out.
- It hashes nothing that is deep: Python's machine crashes where a tuple nested a million deep is
  the key of a dict, and never ends where it is a tuple of twice the same, 60 times.
  Here a key is a short text, a number, a truth value or None; anything else is a key of its own.

Nothing in it recurses. All opcodes up to protocol 5 are known (PEP 307, 3154, 574).
"""

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from fromnoise.checkpoints.pickles.values import Global, Inert
from fromnoise.errors import BadCheckpoint

OPCODES = 400_000  # 30 a tensor: Stable Diffusion 1.5 with its average and optimizer has 100,000
ESCAPE = re.compile(rb"\\\\(x[0-9a-fA-F]{2}|[\\\\'\"ntr])")  # in a text of Python 2
SIGNS = {sign: sign for sign in (b"\\", b"'", b'"')} | {b"n": b"\n", b"t": b"\t", b"r": b"\r"}
GLOBALS = 5_000  # real files name a hundred
LONGEST = 4096  # characters of a key, a number as text, or the name of a global


class Machine:
    """Runs pickles that lie one behind the other in `data`.

    calls: global → the function of ours that takes the arguments of its call. known: other globals
    that are no surprise. find_storage: what a persistent id stands for."""

    def __init__(
        self,
        data: bytes,
        calls: Mapping[str, Callable[..., Any]],
        known: Mapping[str, Any],
        find_storage: Callable[[Any], Any],
    ):
        self.data, self.place = data, 0
        self.calls, self.known, self.find_storage = calls, known, find_storage
        self.globals: dict[str, Global] = {}
        self.left = OPCODES
        self.strangers: dict[str, None] = {}  # globals that nothing is made of, in their order
        self.stack: list[Any] = []
        self.stacks: list[list[Any]] = []  # those under a mark
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the next pickle. Raises BadCheckpoint, which names the place."""
        self.stack, self.stacks, self.memo = [], [], {}
        data, operations = self.data, OPERATIONS
        start = self.place
        try:
            while True:
                start = self.place
                code = data[start]
                self.place = start + 1
                self.left -= 1
                if self.left < 0:
                    self.refuse(f"it has more than {OPCODES:,} steps")
                if code == STOP:
                    return self.stack.pop()
                operations[code](self)
        except BadCheckpoint as error:
            reason = error.message
        except IndexError:
            reason = "it ends too early, or takes what is not there"
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            reason = f"{type(error).__name__} {error!s:.100}"
        raise BadCheckpoint(f"step at byte {start:,}: {reason}", "fetch the file again")

    def refuse(self, reason: str) -> NoReturn:
        raise BadCheckpoint(reason)

    def spend(self, count: int) -> None:
        """Counts work that one step does for many values."""
        self.left -= count

    # what opcodes are made of

    def take(self, count: int) -> bytes:
        """The next bytes."""
        place = self.place
        if not 0 <= count <= len(self.data) - place:
            self.refuse(f"a value of {count:,} bytes is cut off")
        self.place = place + count
        return self.data[place : self.place]

    def take_size(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def take_line(self, limit: int = LONGEST) -> bytes:
        end = self.data.find(b"\n", self.place, self.place + limit)
        if end < 0:
            self.refuse("a line has no end, or is too long")
        line = self.data[self.place : end]
        self.place = end + 1
        return line

    def pop_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        values, self.stack = self.stack, self.stacks.pop()
        return values

    def call(self, function: Any, arguments: Any) -> Any:
        """What a call of a global gives: of ours, or inert."""
        if isinstance(function, Global) and isinstance(arguments, tuple):
            ours = self.calls.get(function.name)
            if ours is not None:
                return ours(self, *arguments)
        return Inert(function, arguments)

    def find_global(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            self.refuse("a global whose name is no text")
        if len(module) + len(name) > LONGEST:
            self.refuse(f"a global whose name has {len(module) + len(name):,} characters")
        full = f"{module}.{name}"
        if full not in self.globals:
            if len(self.globals) == GLOBALS:
                self.refuse(f"it names more than {GLOBALS:,} globals")
            self.globals[full] = Global(full)
            if full not in self.calls and full not in self.known:
                self.strangers[full] = None
        return self.globals[full]

    def add(self, target: Any, key: Any, value: Any) -> None:
        """target[key] = value."""
        kind = type(key)
        if kind is str or kind is bytes:
            if len(key) > LONGEST:
                self.refuse(f"a key of {len(key):,} characters")
        elif kind is int:
            if abs(key) >= 2**60:  # hashes of larger ones can be made to collide
                key = Inert(None)
        elif key is not None and kind is not bool and kind is not float and kind is not Global:
            key = Inert(None)
        if type(target) is dict:
            target[key] = value
        elif type(target) is Inert:
            if target.items is None:
                target.items = {}
            target.items[key] = value
        else:
            self.refuse(f"a {type(target).__name__} takes no keys")

    def extend(self, target: Any, values: list[Any]) -> None:
        if type(target) is list:
            target.extend(values)
        elif type(target) is not Inert:
            self.refuse(f"a {type(target).__name__} takes no values")


def decode(data: bytes) -> str | bytes:
    """A text of Python 2, where it is one."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


# --- one function an opcode ---


def push(make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    def operation(m: Machine) -> None:
        value = make(m)  # it may change the stack
        m.stack.append(value)

    return operation


def proto(m: Machine) -> None:
    if m.take(1)[0] > 5:
        m.refuse("it has a protocol of the future")


def frame(m: Machine) -> None:
    if m.take_size(8) > len(m.data) - m.place:
        m.refuse("a frame is cut off")


def mark(m: Machine) -> None:
    m.stacks.append(m.stack)
    m.stack = []


def pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def read_int(m: Machine) -> Any:
    line = m.take_line()
    return line == b"01" if line in (b"00", b"01") else int(line)


def read_string(m: Machine) -> Any:
    line = m.take_line(len(m.data)).strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
        m.refuse("a text without quotes")
    return decode(ESCAPE.sub(lambda found: SIGNS.get(found[1]) or unhex(found[1]), line[1:-1]))


def unhex(text: bytes) -> bytes:
    return bytes([int(text[1:], 16)])


def append(m: Machine) -> None:
    value = m.stack.pop()
    m.extend(m.stack[-1], [value])


def appends(m: Machine) -> None:
    values = m.pop_mark()
    m.extend(m.stack[-1], values)


def set_item(m: Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.add(m.stack[-1], key, value)


def set_items(m: Machine) -> None:
    values = m.pop_mark()
    target = m.stack[-1]
    for key, value in zip(values[::2], values[1::2], strict=True):
        m.add(target, key, value)


def make_dict(m: Machine) -> dict[Any, Any]:
    values, made = m.pop_mark(), dict[Any, Any]()
    for key, value in zip(values[::2], values[1::2], strict=True):
        m.add(made, key, value)
    return made


def take_tuple(count: int) -> Callable[[Machine], None]:
    def operation(m: Machine) -> None:
        if len(m.stack) < count:
            raise IndexError
        m.stack[-count:] = [tuple(m.stack[-count:])]

    return operation


def store(find: Callable[[Machine], int]) -> Callable[[Machine], None]:
    def operation(m: Machine) -> None:
        place = find(m)
        if not 0 <= place < 2**32:
            m.refuse("a memo entry below 0, or far too high")
        m.memo[place] = m.stack[-1]

    return operation


def recall(find: Callable[[Machine], int]) -> Callable[[Machine], None]:
    return push(lambda m: m.memo[find(m)])


def read_global(m: Machine) -> Global:
    module, name = m.take_line(), m.take_line()
    return m.find_global(module.decode(), name.decode())


def stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(m.find_global(module, name))


def extension(count: int) -> Callable[[Machine], None]:
    return push(lambda m: m.find_global("copyreg", f"extension {m.take_size(count)}"))


def reduce(m: Machine) -> None:
    arguments, function = m.stack.pop(), m.stack.pop()
    m.stack.append(m.call(function, arguments))


def new_object_ex(m: Machine) -> None:
    m.stack.pop()  # arguments by name
    reduce(m)


def instance(m: Machine) -> None:
    arguments = tuple(m.pop_mark())
    m.stack.append(m.call(read_global(m), arguments))


def make_object(m: Machine) -> None:
    function, *arguments = m.pop_mark()
    m.stack.append(m.call(function, tuple(arguments)))


def build(m: Machine) -> None:
    state = m.stack.pop()
    target = m.stack[-1]
    if isinstance(target, Inert):
        target.state = state


def persistent(m: Machine) -> None:
    m.stack.append(m.find_storage(m.stack.pop()))


def out_of_band(m: Machine) -> NoReturn:
    m.refuse("it needs buffers that lie outside of it")


STOP = ord(".")
OPERATIONS: list[Callable[[Machine], None]] = [
    lambda m: m.refuse(f"{m.data[m.place - 1]:#04x} is no opcode")
] * 256
OPERATIONS[STOP] = lambda m: None
for sign, operation in {
    b"\x80": proto,
    b"\x95": frame,
    b"(": mark,
    b"0": pop,
    b"1": lambda m: m.pop_mark() and None,
    b"2": push(lambda m: m.stack[-1]),
    # plain values
    b"N": push(lambda m: None),
    b"\x88": push(lambda m: True),
    b"\x89": push(lambda m: False),
    b"I": push(read_int),
    b"L": push(lambda m: int(m.take_line().rstrip(b"L"))),
    b"K": push(lambda m: m.take(1)[0]),
    b"M": push(lambda m: m.take_size(2)),
    b"J": push(lambda m: int.from_bytes(m.take(4), "little", signed=True)),
    b"\x8a": push(lambda m: int.from_bytes(m.take(m.take(1)[0]), "little", signed=True)),
    b"\x8b": push(lambda m: int.from_bytes(m.take(m.take_size(4)), "little", signed=True)),
    b"F": push(lambda m: float(m.take_line())),
    b"G": push(lambda m: struct.unpack(">d", m.take(8))[0]),
    b"S": push(read_string),
    b"T": push(lambda m: decode(m.take(m.take_size(4)))),
    b"U": push(lambda m: decode(m.take(m.take(1)[0]))),
    b"V": push(lambda m: m.take_line(len(m.data)).decode("raw-unicode-escape")),
    b"X": push(lambda m: m.take(m.take_size(4)).decode("utf-8", "surrogatepass")),
    b"\x8c": push(lambda m: m.take(m.take(1)[0]).decode("utf-8", "surrogatepass")),
    b"\x8d": push(lambda m: m.take(m.take_size(8)).decode("utf-8", "surrogatepass")),
    b"B": push(lambda m: m.take(m.take_size(4))),
    b"C": push(lambda m: m.take(m.take(1)[0])),
    b"\x8e": push(lambda m: m.take(m.take_size(8))),
    b"\x96": push(lambda m: m.take(m.take_size(8))),
    # lists, tuples, dicts; a set is a list here, because its values need not be hashed
    b"]": push(lambda m: []),
    b"\x8f": push(lambda m: []),
    b"a": append,
    b"e": appends,
    b"\x90": appends,
    b"l": push(lambda m: m.pop_mark()),
    b"\x91": push(lambda m: tuple(m.pop_mark())),
    b")": push(lambda m: ()),
    b"t": push(lambda m: tuple(m.pop_mark())),
    b"\x85": take_tuple(1),
    b"\x86": take_tuple(2),
    b"\x87": take_tuple(3),
    b"}": push(lambda m: {}),
    b"d": push(make_dict),
    b"s": set_item,
    b"u": set_items,
    # the memo
    b"p": store(lambda m: int(m.take_line())),
    b"q": store(lambda m: m.take(1)[0]),
    b"r": store(lambda m: m.take_size(4)),
    b"\x94": store(lambda m: len(m.memo)),
    b"g": recall(lambda m: int(m.take_line())),
    b"h": recall(lambda m: m.take(1)[0]),
    b"j": recall(lambda m: m.take_size(4)),
    # globals and what would be done with them
    b"c": push(read_global),
    b"\x93": stack_global,
    b"\x82": extension(1),
    b"\x83": extension(2),
    b"\x84": extension(4),
    b"R": reduce,
    b"\x81": reduce,
    b"\x92": new_object_ex,
    b"i": instance,
    b"o": make_object,
    b"b": build,
    b"P": push(lambda m: m.find_storage(m.take_line())),
    b"Q": persistent,
    b"\x97": out_of_band,
    b"\x98": out_of_band,
}.items():
    OPERATIONS[sign[0]] = operation
