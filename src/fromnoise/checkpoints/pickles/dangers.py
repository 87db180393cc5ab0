"""Which globals in a pickle would do harm where another program opens the file."""

from collections.abc import Iterable

from fromnoise.errors import escape

# modules whose functions run programs, open files or connections, or reach such functions
MODULES = """
os posix nt posixpath ntpath subprocess _posixsubprocess sys builtins __builtin__ runpy importlib
imp pkgutil zipimport pty socket select ssl shutil ctypes _ctypes cffi code codeop webbrowser
commands popen2 operator _operator functools _functools types _types pickle _pickle marshal shelve
copyreg cloudpickle dill joblib timeit cProfile profile pdb bdb trace doctest unittest test asyncio
multiprocessing threading _thread signal atexit faulthandler mmap urllib requests httpx aiohttp
http ftplib smtplib telnetlib sqlite3 tempfile pathlib io _io zipfile tarfile pip setuptools
distutils venv ensurepip idlelib lib2to3 logging inspect gc site platform getpass readline
rlcompleter nturl2path pydoc apport
"""
PARTS = """
torch.hub torch.load torch.serialization torch.utils.cpp_extension torch.jit torch._dynamo
torch._inductor torch.package torch.distributed torch.testing torch.storage._load_from_bytes
torch.classes torch.ops torch.multiprocessing numpy.load numpy.testing numpy.f2py numpy.distutils
numpy.lib numpy.core._exec transformers. huggingface_hub.
"""
# of those modules, what ordinary checkpoints name
HARMLESS = """
builtins.slice builtins.range builtins.complex builtins.bytearray builtins.object pathlib.Path
pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath pathlib.PureWindowsPath
functools.partial types.SimpleNamespace logging.Logger torch.distributed.optim
"""
DANGEROUS, WITHIN = frozenset(MODULES.split()), tuple(PARTS.split())
EXCUSED = frozenset(HARMLESS.split())
MOST = 8  # names in one note


def is_dangerous(name: str) -> bool:
    return name not in EXCUSED and (name.split(".")[0] in DANGEROUS or name.startswith(WITHIN))


def describe_dangers(names: Iterable[str]) -> list[str]:
    """A note, where there is a reason for one."""
    found = [escape(name, 100) for name in names if is_dangerous(name)]
    if not found:
        return []
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return [
        f"it names {', '.join(found[:MOST])}{more}, which could run code where another program "
        "opens it; nothing of it was run here"
    ]
