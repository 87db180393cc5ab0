"""Files of tensors that mean harm, by class: pickles that would run code or take all memory, zip
archives that lie, GGUF with giant numbers.

`list_files(canary)` gives (class, what, write, words): `write(path)` makes the file; the error, or
the note of a file that can be read all the same, must have the words."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile_files import BROKEN, entry, header

Case = tuple[str, str, Callable[[Path], object], tuple[str, ...]]
STOP = b"."


# --- pickles, opcode by opcode ---


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def name(full: str) -> bytes:
    module, _, last = full.rpartition(".")
    return b"c" + f"{module}\n{last}\n".encode()


def tup(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def value(thing) -> bytes:
    """Opcodes of a plain value; bytes are opcodes already."""
    if isinstance(thing, bytes):
        return thing
    if isinstance(thing, bool) or thing is None:
        return {None: b"N", True: b"\x88", False: b"\x89"}[thing]
    if isinstance(thing, int):
        return number(thing)
    if isinstance(thing, str):
        return text(thing)
    if isinstance(thing, tuple):
        return tup(*map(value, thing))
    if isinstance(thing, list):
        return b"](" + b"".join(map(value, thing)) + b"e"
    return b"}(" + b"".join(value(k) + value(v) for k, v in thing.items()) + b"u"


def storage(key="0", count=4, kind="torch.FloatStorage", word="storage", *more) -> bytes:
    return value((word, name(kind), key, "cpu", count, *more)) + b"Q"


def tensor(
    held: bytes | None = None, offset=0, size=(2, 2), stride=(2, 1), call="_rebuild_tensor_v2"
):
    arguments = (held or storage(), offset, size, stride, False, value({}))
    return name(f"torch._utils.{call}") + value(arguments) + b"R"


def state(more: bytes = b"", key: str = "bomb") -> bytes:
    """A state with one good tensor, and something beside it."""
    return b"\x80\x02" + value({"w": tensor(), **({key: more} if more else {})}) + STOP


def archive(pickled: bytes, members=None, top="archive/", **options) -> bytes:
    """A zip archive as torch writes it."""
    made = {f"{top}data.pkl": pickled, f"{top}data/0": bytes(16), f"{top}version": b"3\n"}
    return zip_of(made | (members or {}), **options)


def zip_of(members: dict[str, bytes], method=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name_, data in members.items():
            made.writestr(zipfile.ZipInfo(name_), data, method)
    return file.getvalue()


MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def old(
    pickled: bytes, keys=("0",), counts=(4,), facts=None, version=1001, data=bytes(16)
) -> bytes:
    """The format before torch 1.6."""
    facts = facts or {"protocol_version": 1001, "little_endian": True}
    rows = [MAGIC, value(version) + STOP, value(facts) + STOP, pickled, value(list(keys)) + STOP]
    for count in counts:
        rows += [struct.pack("<q", count), data]
    return b"".join(rows)


def escapes(canary: Path) -> Iterator[tuple[str, bytes]]:
    """(global, arguments) of every call that is known to leave a pickle."""
    shell, code = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    for module in ("os", "posix", "nt"):
        yield f"{module}.system", value((shell,))
        yield f"{module}.popen", value((shell,))
    for last in ("Popen", "call", "run", "check_output", "getoutput"):
        yield f"subprocess.{last}", value((["touch", str(canary)],))
    for module in ("builtins", "__builtin__"):
        for last in ("eval", "exec"):
            yield f"{module}.{last}", value((code,))
        yield f"{module}.open", value((str(canary), "w"))
        yield f"{module}.__import__", value(("os",))
        yield f"{module}.getattr", value((name("os.path"), "os"))
        yield f"{module}.compile", value((code, "x", "exec"))
    yield "builtins.map", value((name("builtins.eval"), [code]))
    yield "builtins.apply", value((name("os.system"), (shell,)))
    yield "builtins.globals", value(())
    yield "builtins.breakpoint", value(())
    for full, arguments in {
        "io.open": (str(canary), "w"),
        "io.FileIO": (str(canary), "w"),
        "_io.FileIO": (str(canary), "w"),
        "pathlib.Path.touch": (str(canary),),
        "os.execv": ("/bin/sh", ["sh", "-c", shell]),
        "os.posix_spawn": ("/bin/sh", ["sh", "-c", shell], {}),
        "pty.spawn": (["touch", str(canary)],),
        "runpy.run_path": (str(canary),),
        "runpy._run_code": (code, {}),
        "importlib.import_module": ("antigravity",),
        "importlib.machinery.SourceFileLoader": ("x", str(canary)),
        "pkgutil.resolve_name": ("os:system",),
        "code.InteractiveInterpreter": (),
        "codeop.compile_command": (code,),
        "timeit.timeit": (code,),
        "cProfile.run": (code,),
        "profile.run": (code,),
        "pdb.run": (code,),
        "bdb.Bdb.run": (code,),
        "trace.Trace.run": (code,),
        "doctest.debug_script": (code,),
        "asyncio.create_subprocess_shell": (shell,),
        "multiprocessing.util.spawnv_passfds": (b"]", b"]", b"]"),
        "concurrent.futures.process._process_worker": (),
        "socket.create_connection": (("127.0.0.1", 9),),
        "shutil.copyfile": ("/etc/hostname", str(canary)),
        "shutil.rmtree": (str(canary),),
        "tempfile.mkstemp": (),
        "webbrowser.open": ("http://127.0.0.1:9",),
        "urllib.request.urlopen": ("http://127.0.0.1:9",),
        "http.client.HTTPSConnection": ("127.0.0.1",),
        "requests.get": ("http://127.0.0.1:9",),
        "ctypes.CDLL": ("libc.so.6",),
        "operator.attrgetter": ("system",),
        "operator.methodcaller": ("system", shell),
        "functools.reduce": (name("builtins.eval"), [code]),
        "types.FunctionType": (code, {}),
        "types.CodeType": (),
        "pickle.loads": (b"C\x01.",),
        "_pickle.loads": (b"C\x01.",),
        "marshal.loads": (b"C\x01.",),
        "dill.loads": (b"C\x01.",),
        "cloudpickle.loads": (b"C\x01.",),
        "joblib.load": (str(canary),),
        "logging.config.dictConfig": ({"()": "os.system"},),
        "sys.setprofile": (name("builtins.eval"),),
        "sys.exit": (0,),
        "signal.raise_signal": (9,),
        "os.abort": (),
        "os.kill": (0, 9),
        "gc.get_objects": (),
        "inspect.getsource": (name("os.path"),),
        "copyreg._reconstructor": (name("os._wrap_close"), name("builtins.object"), None),
        "copyreg.__newobj__": (name("subprocess.Popen"), [shell]),
        "copyreg.add_extension": ("os", "system", 1),
        "collections.OrderedDict.__init_subclass__.__globals__": (),
        "torch.hub.load": ("evil/repo", "model"),
        "torch.load": (str(canary),),
        "torch.serialization.load": (str(canary),),
        "torch.jit.load": (str(canary),),
        "torch.storage._load_from_bytes": (b"C\x01.",),
        "torch.utils.cpp_extension.load_inline": ("x", code),
        "torch.utils._config_module.ConfigModule.load_config": (b"C\x01.",),
        "torch._dynamo.guards.GuardBuilder.get": (code,),
        "torch._inductor.codecache.compile_file": (code,),
        "torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression": (code, []),
        "torch.testing._internal.common_utils.run_tests": (),
        "torch.distributed.rpc.internal._run_function": (name("os.system"),),
        "torch._utils._rebuild_tensor_v2.__globals__": (),
        "torch._utils._import_dotted_name": ("os.system",),
        "numpy.testing._private.utils.runstring": (code, {}),
        "numpy.load": (str(canary),),
        "numpy.f2py.crackfortran.getlincoef": (code, []),
        "numpy.core._exec_command.exec_command": (shell,),
        "lib2to3.pgen2.grammar.Grammar.loads": (b"C\x01.",),
        "pip._internal.main": (["install", "evil"],),
        "setuptools.sandbox.run_setup": (str(canary),),
        "distutils.spawn.spawn": (["touch", str(canary)],),
        "idlelib.run.Executive.runcode": (code,),
        "test.support.script_helper.assert_python_ok": ("-c", code),
        "huggingface_hub.hf_hub_download": ("evil", "file"),
        "transformers.dynamic_module_utils.get_class_in_module": ("x", str(canary)),
    }.items():
        yield full, value(arguments)


def call_by(full: str, arguments: bytes) -> dict[str, bytes]:
    """The ways in which a pickle makes a call."""
    module, _, last = full.rpartition(".")
    stacked = text(module) + text(last) + b"\x93"
    recalled = text(last) + b"q\x05" + b"0" + text(module) + b"h\x05" + b"\x93"
    inner = arguments[1:-1] if arguments[:1] == b"(" else b""
    return {
        "REDUCE": name(full) + arguments + b"R",
        "STACK_GLOBAL": stacked + arguments + b"R",
        "a name from the memo": recalled + arguments + b"R",
        "INST": b"(" + inner + f"i{module}\n{last}\n".encode(),
        "OBJ": b"(" + name(full) + inner + b"o",
        "NEWOBJ": name(full) + arguments + b"\x81",
        "NEWOBJ_EX": name(full) + arguments + b"}" + b"\x92",
        "a call in a call": name("torch._utils._rebuild_parameter")
        + tup(name(full) + arguments + b"R", b"\x89", b"}")
        + b"R",
        "through _rebuild_from_type": name("torch._tensor._rebuild_from_type_v2")
        + tup(name(full), name("torch.Tensor"), arguments, b"}")
        + b"R",
        "a default factory": name("collections.defaultdict") + tup(name(full)) + b"R",
        "a backward hook": name("torch._utils._rebuild_tensor_v2")
        + tup(
            storage(),
            b"K\x00",
            value((2, 2)),
            value((2, 1)),
            b"\x89",
            name(full) + arguments + b"R",
        )
        + b"R",
        "a storage class": value(("storage", name(full), "0", "cpu", 4)) + b"Q",
        "a state": name("collections.OrderedDict") + b")R" + name(full) + arguments + b"R" + b"b",
        "__setstate__": name("torch.nn.parameter.Parameter")
        + b")\x81"
        + value({"__setstate__": name(full), "__class__": name(full)})
        + b"b",
        "slots of a state": name("torch.Tensor")
        + b")\x81"
        + value((None, {"__reduce__": name(full), "__del__": name(full)}))
        + b"b",
        "a key": b"}" + name(full) + arguments + b"R" + b"K\x01s",
    }


def pickles_that_run(canary: Path) -> Iterator[Case]:
    ways = [*call_by("os.system", b")")]
    for turn, (full, arguments) in enumerate(escapes(canary)):
        calls = call_by(full, arguments)
        for way in (
            ways
            if full in ("os.system", "builtins.eval")
            else {ways[0], ways[1 + turn % (len(ways) - 1)]}
        ):
            pickled = state(calls[way])
            yield "escapes", f"{full} by {way}", save(archive(pickled)), (full,)
            if way == ways[0]:
                yield "escapes, old format", full, save(old(pickled)), (full,)
    shell = value((f"touch {canary}",))
    for kind, code in {
        "EXT1": b"\x82\x01",
        "EXT2": b"\x83\x01\x00",
        "EXT4": b"\x84\x01\0\0\0",
    }.items():
        yield "escapes", kind, save(archive(state(code + shell + b"R"))), ("copyreg.extension 1",)
    source = value(("module", name("os.system"), "x.py", "import os")) + b"Q"
    yield "escapes, old format", "a source of code", save(old(state(source))), ("os.system",)
    evil = name("os.system") + shell + b"R"
    for what, pickled in {
        "the root": b"\x80\x02" + evil + STOP,
        "before the root": b"\x80\x02" + evil + b"0" + state()[2:],
        "protocol 0": b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.",
        "protocol 255": b"\x80\xff" + evil + STOP,
        "two protocols": b"\x80\x02\x80\x04" + evil + STOP,
        "no protocol": evil + STOP,
        "framed": b"\x80\x04\x95" + struct.pack("<Q", len(evil) + 1) + evil + STOP,
    }.items():
        yield "escapes", what, save(archive(pickled)), ()
        yield "pickles alone", what, save(pickled), ()
    inside = archive(state(evil))
    yield "escapes", "behind a STOP", save(archive(state() + evil + STOP)), ()
    yield (
        "escapes",
        "a pickle named data.pkl.bak",
        save(archive(state(), {"archive/x.pkl": evil})),
        (),
    )
    yield (
        "escapes",
        "in the place of a storage",
        save(archive(state(), {"archive/data/0": evil.ljust(16, b"\0")[:16]})),
        (),
    )
    yield "escapes", "a zip in a zip", save(zip_of({"archive/data.pkl": inside})), ()
    yield (
        "escapes",
        "as .data/serialization_id",
        save(archive(state(), {"archive/.data/x": evil})),
        (),
    )


def pickles_that_swell() -> Iterator[tuple[str, bytes]]:
    nested, twice = 300_000, 60
    yield "a memo entry of 2^31", b"Nr" + struct.pack("<I", 2**31)
    yield "a memo entry of 2^32 - 1", b"Nr" + struct.pack("<I", 2**32 - 1)
    yield "a memo entry of 4,000 digits", b"Np" + b"9" * 4000 + b"\n"
    yield "a memo entry below 0", b"Np-5\n"
    yield "a memo entry that is not there", b"h\x77"
    yield "tuples nested as a key", b"}" + b")" + b"\x85" * nested + b"K\x01s"
    yield "twice the same, 60 times, as a key", b"})" + b"2\x86" * twice + b"K\x01s"
    yield "twice the same, 60 times", b")" + b"2\x86" * twice
    yield "lists in lists", b"]" * nested + b"a" * (nested - 1)
    yield "dicts in dicts", b"}" + b"K\x01}" * 100_000 + b"s" * 100_000
    yield "a list in itself", b"]q\x01h\x01a"
    yield "a dict in itself", b"}q\x01K\x01h\x01s"
    deep = b"}q\x01"
    for level in range(30):  # each level holds the one below twice
        deep += b"}q" + bytes([level + 2]) + b"(X\x01\0\0\0a" + b"h" + bytes([level + 1])
        deep += b"X\x01\0\0\0bh" + bytes([level + 1]) + b"u"
    yield "2^30 paths", deep
    yield (
        "a tensor on 2^30 paths",
        deep.replace(b"}q\x01", b"}q\x01" + text("t") + tensor() + b"s", 1),
    )
    yield "lists", b"]" * 2_000_000
    yield "dicts", b"}" * 2_000_000
    yield "sets", b"\x8f" * 2_000_000
    yield "marks", b"(" * 2_000_000
    yield "copies", b"N" + b"2" * 2_000_000
    yield "memo entries", b"N" + b"\x94" * 2_000_000
    yield "globals", b"".join(b"cm\nn%d\n" % i for i in range(400_000))
    yield "objects", b"cm\nn\n" + b"q\x01" + b"h\x01)R" * 600_000
    yield "steps without end", b"N0" * 7_000_000
    pairs = b"](" + value((1, 2)) * 30_000 + b"eq\x010" + name("collections.OrderedDict")
    yield (
        "a dict of a list, again and again",
        pairs + b"q\x020" + b"h\x02h\x01\x85R0" * 30_000 + b"N",
    )
    yield (
        "bytes encoded again and again",
        (
            text("x" * 8_000_000)
            + b"q\x010c_codecs\nencode\nq\x020"
            + text("latin1")
            + b"q\x030"
            + b"("
            + b"h\x02h\x01h\x03\x86R" * 50_000
            + b"l"
        ),
    )
    keys = b"".join(number(i * (2**61 - 1)) + b"N" for i in range(1, 40_000))
    yield "numbers whose hashes are equal", b"}(" + keys + b"u"
    long = "k" * 2_000_000
    two = text(long) + b"q\x02" + b"Ns" + text(long) + b"q\x030"
    yield "long keys that are equal", b"}q\x01" + two + b"h\x03Nsh\x02Ns" * 50_000
    yield (
        "long names that are equal",
        (text(long) + b"q\x01" + text(long) + b"q\x02" + b"h\x01h\x02\x93h\x02h\x01\x93" * 50_000),
    )
    yield "a number of 2 MB", b"\x8b" + struct.pack("<I", 2_000_000) + b"\x77" * 2_000_000
    yield (
        "a number of 2 MB as a key",
        (b"}\x8b" + struct.pack("<I", 2_000_000) + b"\x77" * 2_000_000 + b"Ns"),
    )
    yield "a number of 5,000 digits", b"L" + b"9" * 5_000 + b"L\n"
    yield "digits without end", b"I" + b"9" * 4_000_000
    yield "a text without end", b"S'" + b"x" * 4_000_000
    yield "a text of escapes", b"S'" + b"\\x41" * 1_000_000 + b"'\n"
    yield "a text of 2^31 bytes", b"X" + struct.pack("<I", 2**31) + b"abc"
    yield "bytes of 2^62", b"\x8e" + struct.pack("<Q", 2**62) + b"abc"
    yield "a negative length", b"T" + struct.pack("<i", -5) + b"abc"
    yield "an array of bytes of 2^40", b"\x96" + struct.pack("<Q", 2**40)
    yield "a frame of 2^60", b"\x95" + struct.pack("<Q", 2**60) + b"N"
    yield "a text that is not UTF-8", b"X\x02\0\0\0\xff\xfe"
    yield "buffers outside", b"\x97"
    yield "an opcode that is none", b"\xf0"
    yield "nothing on the stack", b"R"
    yield "no mark", b"t"
    yield "a key without a value", b"}(Nu"
    yield "a persistent id as text", b"Pos.system\n"
    yield "a persistent id of nothing", b"NQ"
    yield "a persistent id of lists", b"]Q"
    yield (
        "a rebuild in a rebuild",
        (
            b"N"
            + b"".join(name("torch._tensor._rebuild_from_type_v2") + b"q\x010" for _ in range(1))
            + b"h\x01" * 50_000
            + b")"
            + b"\x87" * 20_000
        ),
    )


def tensors_that_lie() -> Iterator[tuple[str, bytes]]:
    huge = 2**40
    yield "a size beyond the storage", tensor(size=(2, 3), stride=(3, 1))
    yield "an offset beyond the storage", tensor(offset=1)
    yield "an offset of 2^70", tensor(offset=2**70)
    yield "an offset below 0", tensor(offset=-1)
    yield "a stride below 0", tensor(stride=(-2, 1))
    yield "a stride of 2^62", tensor(stride=(2**62, 1))
    yield "a size of 2^62", tensor(size=(2**62, 2), stride=(0, 0))
    yield "a size below 0", tensor(size=(-2, 2))
    yield "sizes that overflow", tensor(size=(huge,) * 4, stride=(0,) * 4)
    yield "100,000 sizes", tensor(size=(1,) * 100_000, stride=(1,) * 100_000)
    yield "fewer strides than sizes", tensor(stride=(1,))
    yield "sizes that are no numbers", tensor(size=("2", 2))
    yield "sizes that are flags", tensor(size=(True, True))
    yield "a size that is a number", tensor(size=4)
    yield "one value, 2^40 times", tensor(size=(huge,), stride=(0,))
    yield "no storage", tensor(held=b"N")
    yield "a tensor as storage", tensor(held=tensor())
    yield "too few arguments", name("torch._utils._rebuild_tensor_v2") + b")R"
    yield (
        "100,000 arguments",
        name("torch._utils._rebuild_tensor_v2") + value((1,) * 100_000) + b"R",
    )
    yield "a storage of 2^60", tensor(held=storage(count=2**60))
    yield "a storage of -1", tensor(held=storage(count=-1))
    yield "a storage of a text", tensor(held=storage(count="4"))
    yield "a storage larger than its member", tensor(held=storage(count=5))
    yield "a storage smaller than its member", tensor(held=storage(count=3), size=(1,), stride=(1,))
    yield "a storage that is not there", tensor(held=storage(key="7"))
    yield "a storage by a way out", tensor(held=storage(key="../../etc/passwd"))
    yield "a storage by a long name", tensor(held=storage(key="x" * 100_000))
    yield "a storage of code", tensor(held=storage(kind="os.system"))
    yield "a storage of no known type", tensor(held=storage(kind="torch.QInt8Storage"))
    yield "another word", tensor(held=storage(word="module"))
    yield (
        "a view out of its storage",
        tensor(held=storage("0", 4, "torch.FloatStorage", "storage", ("v", 2, 9))),
    )
    yield (
        "a view from below 0",
        tensor(held=storage("0", 4, "torch.FloatStorage", "storage", ("v", -2, 2))),
    )
    yield "two types of one storage", value([tensor(), tensor(storage(kind="torch.HalfStorage"))])
    yield "two sizes of one storage", value([tensor(), tensor(storage(count=8))])
    untyped = storage(kind="torch.storage.UntypedStorage", count=16)
    rebuild = name("torch._utils._rebuild_tensor_v3")
    for what, kind in {"no": b"N", "a text as": value("F32"), "code as": name("os.system")}.items():
        yield f"{what} type", rebuild + value((untyped, 0, (2,), (1,), False, None, kind)) + b"R"
    odd = storage(kind="torch.storage.UntypedStorage", count=15)
    yield (
        "a type that does not divide",
        rebuild + value((odd, 0, (2,), (1,), False, None, name("torch.float32"))) + b"R",
    )
    order = value((3, "<", None, None, None, -1, -1, 0))
    dtype = name("numpy.dtype") + value(("f4", 0, 1)) + b"R" + order + b"b"
    empty = value((name("numpy.ndarray"), (0,), "b"))
    made = name("numpy.core.multiarray._reconstruct") + empty + b"R"
    for what, array in {
        "an array larger than its bytes": (1, (9, 9), dtype, False, b"C\x10" + bytes(16)),
        "an array of 2^40": (1, (huge,), dtype, False, b"C\x10" + bytes(16)),
        "an array of negative size": (1, (-2, -2), dtype, False, b"C\x10" + bytes(16)),
        "an array of 100,000 sizes": (1, (1,) * 100_000, dtype, False, b"C\x04" + bytes(4)),
    }.items():
        yield what, made + value(array) + b"b"
    encode = name("_codecs.encode")
    yield "bytes in utf-16", encode + value(("x", "utf-16")) + b"R"
    yield "bytes by a codec of code", encode + value(("x", "unicode_escape")) + b"R"


def more_tensors() -> Iterator[tuple[str, bytes]]:
    """What is refused by its sum, or read with nothing made of it."""
    many = {f"t{i}": tensor(size=(2**20,), stride=(0,)) for i in range(200)}
    yield "200 tensors of 4 MB in 16 bytes", value(many)
    yield "the same key twice", value({"a.b": tensor(), "a": {"b": tensor()}})
    yield (
        "60,000 tensors",
        b"}"
        + tensor()
        + b"q\x010("
        + b"".join(text(f"t{i}") + b"h\x01" for i in range(60_000))
        + b"u",
    )
    yield "a key of 1 MB", value({"x" * 1_000_000: tensor()})
    yield "a key of 2,000", value({"x" * 2000: tensor()})
    deep = tensor()
    for _ in range(50):
        deep = value({"a": deep})
    yield "a tensor 50 deep", deep
    long = tensor()
    for _ in range(20):
        long = value({"a" * 400: long})
    yield "a key that grows", long
    yield "no tensors", value({"a": 1})
    yield "a tensor alone", tensor()
    yield "nothing", b"N"


def zips_that_lie() -> Iterator[tuple[str, bytes]]:
    good, evil = archive(state()), b"evil"
    names = ["../x", "archive/../../x", "/etc/passwd", "C:/x", "archive/data/../../../x", ".."]
    for bad in [*names, "C:\\x", "archive/..\\..\\x", "\\\\host\\x"]:
        yield f"traversal: {bad}", archive(state(), {bad: evil})
    link = zipfile.ZipInfo("archive/data/1")
    link.external_attr = 0o120777 << 16
    file = io.BytesIO(good)
    with zipfile.ZipFile(file, "a") as made:
        made.writestr(link, "/etc/passwd")
    yield "a link", file.getvalue()
    file = io.BytesIO(good)
    with zipfile.ZipFile(file, "a") as made:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.writestr(zipfile.ZipInfo("archive/data/0"), bytes(16))
    yield "a name twice", file.getvalue()
    members = {"archive/data.pkl": state(), "archive/data/0": bytes(64 << 20)}
    yield "a bomb of 1:1000", zip_of(members, zipfile.ZIP_DEFLATED)
    yield "a pickle that is compressed", zip_of({"archive/data.pkl": state()}, zipfile.ZIP_DEFLATED)
    yield "bzip2", zip_of({"archive/data.pkl": state()}, zipfile.ZIP_BZIP2)
    yield "lzma", zip_of({"archive/data.pkl": state()}, zipfile.ZIP_LZMA)
    yield "no data.pkl", zip_of({"archive/data/0": bytes(16)})
    yield "two of data.pkl", zip_of({"a/data.pkl": state(), "b/data.pkl": state()})
    yield "data.pkl far below", zip_of({"a/b/c/data.pkl": state()})
    yield "a program of TorchScript", archive(state(), {"archive/code/__torch__.py": evil})
    yield "arrays of NumPy", zip_of({"a.npy": b"\x93NUMPY"})
    yield "a document", zip_of({"[Content_Types].xml": b"<x/>"})
    yield "30,000 members", zip_of({f"archive/data/{i}": b"" for i in range(30_000)})
    yield "numbers that are big-endian", archive(state(), {"archive/byteorder": b"big"})
    yield "a pickle of 20 MB", archive(b"N0" * 10_000_000 + state())
    yield "nothing in it", zip_of({})
    yield "bytes behind", good + b"junk"
    yield "bytes before", b"junk" + good
    yield "cut off", good[: len(good) // 2]
    yield "its first half twice", good[:100] + good
    yield "only its end", good[-22:]
    yield "only its beginning", b"PK\3\4" + bytes(100)
    start, end = good.rindex(b"PK\1\2"), good.rindex(b"PK\5\6")
    first = good.index(b"PK\1\2")

    def patch(place: int, data: bytes) -> bytes:
        return good[:place] + data + good[place + len(data) :]

    yield "more members than there are", patch(end + 8, struct.pack("<HH", 99, 99))
    yield "fewer members than there are", patch(end + 8, struct.pack("<HH", 1, 1))
    yield "parts on other disks", patch(end + 4, struct.pack("<HH", 1, 1))
    yield "a list of 4 GB", patch(end + 12, struct.pack("<I", 2**32 - 2))
    yield "a list elsewhere", patch(end + 16, struct.pack("<I", 5))
    yield "a comment with an end in it", good[:-2] + struct.pack("<H", 22) + good[-22:]
    yield "a comment that lies", patch(end + 20, struct.pack("<H", 500))
    yield "a size of 4 GB", patch(start + 20, struct.pack("<II", 2**32 - 2, 2**32 - 2))
    yield "two sizes", patch(start + 20, struct.pack("<II", 1, 2))
    yield "64 bits that are not there", patch(start + 20, struct.pack("<II", 2**32 - 1, 2**32 - 1))
    yield "a member at 4 GB", patch(start + 42, struct.pack("<I", 2**32 - 2))
    yield "members that overlap", patch(start + 42, good[first + 42 : first + 46])
    yield "a member inside another", patch(start + 42, struct.pack("<I", 10))
    yield "another name before its bytes", patch(good.index(b"archive/data.pkl"), b"Archive")
    yield "an encrypted member", patch(first + 8, struct.pack("<H", 1))
    yield "a name of 65,535", patch(first + 28, struct.pack("<H", 65_535))
    yield "an extra field of 65,535", patch(first + 30, struct.pack("<H", 65_535))
    wide = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2**60, 2**60, 2**60, 2**60)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, end, 1)
    yield "2^60 members", good[:end] + wide + locator + good[end:]
    yield (
        "a list of 64 bits that is nowhere",
        (good[:end] + b"PK\6\7" + struct.pack("<IQI", 0, 2**62, 1) + good[end:]),
    )
    packed = zlib.compress(bytes(1 << 20))
    yield "a member with a method of its own", patch(first + 10, struct.pack("<H", 99)) + packed[:0]


def old_files_that_lie() -> Iterator[tuple[str, bytes]]:
    good = old(state())
    for cut in (5, 15, 30, 60, 120, len(good) - 40, len(good) - 20, len(good) - 1):
        yield f"cut at {cut - len(good)} from its end", good[:cut]
    yield "more values than there are", old(state(), counts=(2**60,))
    yield "fewer values", old(state(), counts=(1,))
    yield "values below 0", old(state(), counts=(-4,))
    yield "a key that no tensor has", old(state(), keys=("0", "1"), counts=(4, 4))
    yield "a key twice", old(state(), keys=("0", "0"), counts=(4, 4))
    yield "no keys", old(state(), keys=(), counts=())
    yield "keys that are none", old(state(), keys=([], {}))
    yield "another version", old(state(), version=1002)
    yield "a version of text", old(state(), version="1001")
    yield "big-endian", old(state(), facts={"little_endian": False})
    yield "a magic number alone", MAGIC
    yield "a magic number and zeros", MAGIC + bytes(1000)


# --- GGUF ---


def gguf_text(data: str | bytes) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("<Q", len(data)) + data


def gguf_fact(key: str, kind: int, data: bytes) -> bytes:
    return gguf_text(key) + struct.pack("<I", kind) + data


def gguf_tensor(key="w", dims=(4,), kind=0, offset=0, count=None) -> bytes:
    count = len(dims) if count is None else count
    sizes = struct.pack(f"<{len(dims)}Q", *dims)
    return gguf_text(key) + struct.pack("<I", count) + sizes + struct.pack("<IQ", kind, offset)


def gguf(tensors=(), facts=(), counts=None, version=3, data=bytes(32), magic=b"GGUF") -> bytes:
    sizes = counts or (len(tensors), len(facts))
    head = magic + struct.pack("<IQQ", version, *sizes) + b"".join(facts) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


def ggufs_that_lie() -> Iterator[tuple[str, bytes]]:
    good = [gguf_tensor(dims=(8,))]
    for version in (0, 1, 4, 99, 3 << 24, 2**32 - 1):
        yield f"version {version}", gguf(good, version=version)
    yield "2^63 tensors", gguf(good, counts=(2**63, 0))
    yield "2^64 - 1 facts", gguf(good, counts=(1, 2**64 - 1))
    yield "50,000 tensors that are not there", gguf(good, counts=(50_000, 0))
    yield "more tensors than there are", gguf(good, counts=(3, 0))
    yield "10,000 facts that are not there", gguf(good, counts=(1, 10_000))
    yield "cut after 10 bytes", gguf(good)[:10]
    yield "cut in a tensor", gguf(good)[:40]
    yield "cut in the values", gguf(good)[:-1]
    yield "4 kB behind", gguf(good) + bytes(4096)
    yield "a name of 2^60", gguf([struct.pack("<Q", 2**60) + b"x"])
    yield "a name of 1 MB", gguf([gguf_tensor("x" * 1_000_000, (8,))])
    yield "a name that is not UTF-8", gguf([gguf_tensor("w", (9,)).replace(b"w", b"\xff")])
    yield "2^32 - 1 dimensions", gguf([gguf_tensor(dims=(8,), count=2**32 - 1)])
    yield "9 dimensions", gguf([gguf_tensor(dims=(1,) * 9)])
    yield "a size of 2^64 - 1", gguf([gguf_tensor(dims=(2**64 - 1,))])
    yield "sizes that overflow", gguf([gguf_tensor(dims=(2**40,) * 4)])
    yield "16 GB announced", gguf([gguf_tensor(dims=(2**32,))])
    yield "a type that is none", gguf([gguf_tensor(dims=(8,), kind=77)])
    yield "a type of 2^32 - 1", gguf([gguf_tensor(dims=(8,), kind=2**32 - 1)])
    yield "a row that is no block", gguf([gguf_tensor(dims=(33,), kind=2)])
    yield "a half of a K block", gguf([gguf_tensor(dims=(128,), kind=12)])
    yield "an offset of 2^63", gguf([gguf_tensor(dims=(8,), offset=2**63)])
    yield "an offset of 2^64 - 32", gguf([gguf_tensor(dims=(8,), offset=2**64 - 32)])
    yield "an offset that is not aligned", gguf([gguf_tensor(dims=(4,), offset=8)])
    yield "a hole", gguf([gguf_tensor(dims=(8,), offset=64)], data=bytes(96))
    yield "an overlap", gguf([gguf_tensor(dims=(8,)), gguf_tensor("v", (8,))], data=bytes(64))
    yield (
        "a name twice",
        gguf([gguf_tensor(dims=(8,)), gguf_tensor(dims=(8,), offset=32)], data=bytes(64)),
    )
    for alignment in (0, 1 << 31, 33, 2**32 - 1):
        fact = gguf_fact("general.alignment", 4, struct.pack("<I", alignment))
        yield f"an alignment of {alignment}", gguf(good, [fact])
    yield "an alignment of text", gguf(good, [gguf_fact("general.alignment", 8, gguf_text("x"))])
    yield "a fact twice", gguf(good, [gguf_fact("a", 0, b"x")] * 2)
    yield "a fact of no type", gguf(good, [gguf_fact("a", 13, b"x")])
    yield "a text of 2^62", gguf(good, [gguf_fact("a", 8, struct.pack("<Q", 2**62))])
    for kind, count in ((0, 2**62), (4, 2**61), (8, 2**60), (9, 5), (12, 2**63), (99, 1)):
        data = struct.pack("<IQ", kind, count) + bytes(64)
        yield f"a list of {count} of type {kind}", gguf(good, [gguf_fact("a", 9, data)])
    yield (
        "a list in a list in a list",
        gguf(good, [gguf_fact("a", 9, struct.pack("<IQ", 9, 1) * 100_000)]),
    )
    texts = struct.pack("<IQ", 8, 400_000) + struct.pack("<Q", 0) * 400_000
    yield "a list of texts without end", gguf(good, [gguf_fact("a", 9, texts)] * 5)
    for shape in ((-2, -4), (3, 3), (2**62, 2), (0,)):
        data = struct.pack("<IQ", 11, len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
        fact = gguf_fact("comfy.gguf.orig_shape.w", 9, data)
        yield f"the shape {shape} in place of (8,)", gguf(good, [fact])
    yield "the magic alone", b"GGUF"
    yield "the magic and zeros", b"GGUF" + bytes(1000)


# --- all of them ---


def headers_that_lie() -> Iterator[tuple[str, bytes]]:
    fine = ("complex", "size zero", "name of 1 MB", "other tensors", "a pickle")
    yield from ((what, data) for what, data in BROKEN.items() if what not in fine)
    for dtype in ("F32", "F16", "I64", "BOOL"):
        yield f"one byte too few of {dtype}", header({"a": entry(dtype, (4,), (0, 3))}, bytes(3))
        yield f"2^40 of {dtype}", header({"a": entry(dtype, (2**40,), (0, 4))}, bytes(4))
    for first, last in ((0, 2**62), (2**62, 2**62 + 4), (4, 8), (0, 2**63), (0, 10**30)):
        yield f"from {first} to {last}", header({"a": entry(offsets=(first, last))}, bytes(4))
    for places in ([0], [0, 4, 8], [], "04", {"0": 4}, [0, "4"], [0, 4.0], [False, 4], None):
        yield (
            f"places {places}",
            header({"a": {"dtype": "F32", "shape": [1], "data_offsets": places}}, bytes(4)),
        )
    yield (
        "inside another",
        header({"a": entry(shape=(4,), offsets=(0, 16)), "b": entry(offsets=(4, 8))}, bytes(16)),
    )
    yield "the same place", header({"a": entry(), "b": entry()}, bytes(4))
    yield "an end before the start", header({"a": entry(offsets=(8, 4))}, bytes(8))
    yield "9 dimensions", header({"a": entry(shape=(1,) * 9)}, bytes(4))
    yield "a shape in a shape", header({"a": entry(shape=([1],))}, bytes(4))
    yield (
        "metadata in metadata",
        header({"__metadata__": {"a": {"b": "c"}}, "a": entry()}, bytes(4)),
    )
    yield "80,000 tensors in one place", header({f"t{i}": entry() for i in range(80_000)}, bytes(4))


def save(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def sparse(start: bytes, size: int) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)

    return write


PLACES = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a circle of links": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a device of noise": lambda path: path.symlink_to("/dev/urandom"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
}
SIGNS = {
    "zeros": b"",
    "a zip": b"PK\3\4",
    "a pickle": MAGIC,
    "GGUF": b"GGUF\3\0\0\0",
    "safetensors": struct.pack("<Q", 2**32) + b"{",
}
OTHERS = {
    "7z": b"7z\xbc\xaf'\x1c" + bytes(500),
    "RAR": b"Rar!\x1a\x07" + bytes(500),
    "gzip": b"\x1f\x8b" + bytes(500),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(500),
    "tar": bytes(257) + b"ustar" + bytes(500),
    "a page": b"<!DOCTYPE html><html>",
    "a page by another": b"\r\n  <html>",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1",
    "a picture": b"\x89PNG\r\n",
    "an array": b"\x93NUMPY\x01\0",
    "a program": b"\x7fELF" + bytes(99),
    "a script": b"#!/bin/sh\ntouch canary\n",
    "a text": b"import os",
    "empty": b"",
    "one byte": b"P",
    "HDF5": b"\x89HDF\r\n\x1a\n",
}


def list_files(canary: Path) -> Iterator[Case]:
    yield from pickles_that_run(canary)
    for what, data in pickles_that_swell():
        yield "pickle bombs", what, save(archive(state(data))), ()
    for what, data in tensors_that_lie():
        yield "tensors of pickles", what, save(archive(state(data))), ()
    for what, data in more_tensors():
        yield "tensors of pickles", what, save(archive(b"\x80\x02" + data + STOP)), ()
    for kind, files in {
        "zips": zips_that_lie(),
        "old pickles": old_files_that_lie(),
        "GGUF": ggufs_that_lie(),
        "safetensors": headers_that_lie(),
        "other kinds": iter(OTHERS.items()),
    }.items():
        for what, data in files:
            yield kind, what, save(data), ()
    for what, make in PLACES.items():
        yield "places", what, make, ()
    for what, start in SIGNS.items():
        yield "places", f"8 GB of {what}", sparse(start, 2**33), ()
