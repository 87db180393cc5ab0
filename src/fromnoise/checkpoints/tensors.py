"""Tensor files: safetensors, the header first and the tensors later; no pickles, which run code.

Tensors are copied from the file, never mapped to it. A mapped file follows its disk: a program that
writes into it changes the weights of a run in progress (other pictures under the old hash), and one
that cuts it short ends the run (SIGBUS). The digest is that of the very bytes that were read."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fromnoise.checkpoints.configs import HEADER_BYTES, open_file, parse_json
from fromnoise.errors import BadCheckpoint

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
See = Callable[[bytes | memoryview], object] | None
Keys = Collection[str] | None


class Stored(NamedTuple):
    """A tensor that still lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # of its bytes, counted from the end of the header
    end: int


class TensorFile:
    """A safetensors file whose header is read and checked: `stored` has type and shape of each
    tensor by its key, `metadata` is the header's. Raises NotFound, and BadCheckpoint for damage."""

    def __init__(self, path: Path):
        self.path, self.allocate = path, lambda size: torch.empty(size, dtype=torch.uint8)
        with open_file(path) as file:
            head = file.read(8)
            length = int.from_bytes(head, "little")
            self.head = head + file.read(min(length, HEADER_BYTES))
        try:
            if len(self.head) != 8 + length:
                raise BadCheckpoint("")
            header = parse_json(self.head[8:], "")
            with safe_open(path, "pt"):  # the library proves that types, shapes and places agree
                pass
            self.metadata: dict[str, str] = header.pop("__metadata__", {})
            self.stored: Mapping[str, Stored] = {
                key: Stored(DTYPES[e["dtype"]], tuple(e["shape"]), *e["data_offsets"])
                for key, e in header.items()
            }
        except (BadCheckpoint, SafetensorError, OSError, KeyError, TypeError) as error:
            from fromnoise.checkpoints.headers import refuse_header

            refuse_header(path, DTYPES, error)

    def _refuse(self, reason: str) -> NoReturn:
        remedy = "it is cut short, damaged or of another kind; fetch it again"
        raise BadCheckpoint(f"{self.path} cannot be read: {reason}", remedy)

    def read(self, see: See = None, keys: Keys = None) -> dict[str, Tensor]:
        """Every tensor, or those of `keys`, in memory of its own. `see` is called with the bytes
        that are read, in their order. Raises BadCheckpoint where the file has changed since."""
        return dict(self.stream(see, keys))

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]:
        """As `read`, one tensor at a time."""
        see = see or (lambda data: None)
        with open_file(self.path) as file:
            if file.read(len(self.head)) != self.head:
                self._refuse("it changed while it was read")
            see(self.head)
            for key, entry in sorted(self.stored.items(), key=lambda item: item[1][2:]):
                if keys is not None and key not in keys:
                    continue
                file.seek(len(self.head) + entry.start)
                block = self.allocate(entry.end - entry.start)
                memory = memoryview(block.numpy())  # type: ignore[arg-type]  # numpy has the buffer
                if file.readinto(memory) < len(memory):
                    self._refuse("it became shorter while it was read")
                see(memory)
                yield key, block.view(entry.dtype).view(entry.shape)


class Unfilled(TorchFunctionMode):
    """Inside `with Unfilled():` networks are built on the meta device, and not initialised."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            func = torch.empty
        return func(*args, **kwargs)

    def __enter__(self) -> Self:
        self.device = torch.device("meta")
        self.device.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.device.__exit__(*error)


def check_fit(network: nn.Module, tensors: Mapping[str, Stored | Tensor], file: Path) -> None:
    """Raises BadCheckpoint, which names keys, unless keys, shapes and types are the network's."""
    wanted = network.state_dict()
    if wanted.keys() == tensors.keys() and all(
        w.shape == tensors[k].shape and w.is_floating_point() == tensors[k].dtype.is_floating_point
        for k, w in wanted.items()
    ):
        return
    from fromnoise.checkpoints.refusals import refuse_misfits

    refuse_misfits(wanted, tensors, file)


def fill(network: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Gives a network of the meta device its tensors, which `check_fit`, each cast to fp32."""
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    cast = {name: tensor.to(types[name]) for name, tensor in tensors}
    network.load_state_dict(cast, strict=True, assign=True)
    network.eval()
