"""Broken headers and keys without end: every reader, family detection and the key rules must answer
with an error of ours, or with a value.

    python benchmarks/fuzz_headers.py --minutes 30 --seed 0

Good and hostile files of each kind are mutated: bits, bytes, numbers, pieces cut out, doubled and
exchanged; pickles also inside of their archive. Keys and shapes of models of true size are dropped,
renamed and resized. The first answer that is anything else (another exception, more than 5 seconds,
more than 2 GB) ends it with exit code 1; the file that did it is kept, and its seed is printed."""

import argparse
import faulthandler
import io
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import hostile_tensors as hostile
import peers

from fromnoise.checkpoints.families import tell_family
from fromnoise.checkpoints.headers import peek
from fromnoise.checkpoints.inspection import inspect_file
from fromnoise.checkpoints.sources import open_tensors
from fromnoise.errors import BadCheckpoint, NotFound

SECONDS, BYTES = 5, 2 << 30  # of one case
GOOD = 2  # files of each kind that can be read
LARGEST = 1 << 16  # bytes of a seed: larger ones are slow to no purpose
NUMBERS = [0, 1, 2, 7, 8, 31, 32, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
NUMBERS += [2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [b"__metadata__", b"F16", b"F8_E4M3", b"data_offsets", b"scaled_fp8", b".weight_scale"]
WORDS += [b"general.alignment", b"comfy.gguf.orig_shape.", b"PK\1\2", b"PK\3\4", b"PK\5\6"]
WORDS += [bytes([code]) for code in b"()]}.NIJKMGTUXBCVSRbiocdlstuaeghjpqr0129\x80\x81\x82\x85\x86"]
WORDS += [bytes([code]) for code in b"\x87\x88\x8a\x8b\x8c\x8d\x8e\x8f\x90\x92\x93\x94\x95\x96PQ"]


def gather_files() -> dict[str, list[bytes]]:
    """Good and hostile files by kind, the GOOD good ones first."""
    tensors = {"a.weight": torch.ones(2, 3), "b": torch.ones(4).half(), "c": torch.tensor(5)}
    scaled = {"a.weight": torch.ones(4, 2).to(torch.float8_e4m3fn), "a.scale_weight": torch.ones(1)}
    scaled |= {"scaled_fp8": torch.zeros(0)}
    found = {"safetensors": [save(tensors, {"format": "pt"}), save(scaled)]}
    found["safetensors"] += [data for _, data in hostile.headers_that_lie()]
    nested = {"state_dict": tensors, "epoch": 3, "callbacks": {"x": [1, {"y": (2, 3.5)}]}}
    for name, value in {"archives": nested, "old pickles": nested}.items():
        file = io.BytesIO()
        torch.save(value, file, _use_new_zipfile_serialization=name == "archives")
        network = io.BytesIO()
        layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
        torch.save(layers, network, _use_new_zipfile_serialization=name == "archives")
        found[name] = [file.getvalue(), network.getvalue()]
    found["archives"] += [data for _, data in hostile.zips_that_lie()]
    found["old pickles"] += [data for _, data in hostile.old_files_that_lie()]
    calls = hostile.call_by("os.system", hostile.value(("true",))).values()
    pickles = [hostile.state(), hostile.state(hostile.value({"a": [1, (25, "x")]}))]
    pickles += [hostile.state(call) for call in calls]
    for lies in (hostile.pickles_that_swell(), hostile.tensors_that_lie(), hostile.more_tensors()):
        pickles += [hostile.state(data) for _, data in lies]
    found["pickles"] = [*pickles, pickle.dumps(nested["callbacks"], 4)]
    blocks = hostile.gguf_tensor(dims=(32,), kind=2)
    good = hostile.gguf(
        [blocks], [hostile.gguf_fact("a", 8, hostile.gguf_text("b"))], data=bytes(18)
    )
    second = hostile.gguf([blocks, hostile.gguf_tensor("v", (4, 2), 1, 32)], data=bytes(48))
    found["GGUF"] = [good, second, *(data for _, data in hostile.ggufs_that_lie())]
    return {
        kind: [data for data in files if 0 < len(data) <= LARGEST] for kind, files in found.items()
    }


def mutate(data: bytes, files: list[bytes], draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 3, 5, 8])):
        place = draw.randrange(len(changed) + 1)
        end = min(len(changed), place + draw.choice([1, 2, 4, 8, 16, 64]))
        way = draw.randrange(8)
        if way == 0 and place < len(changed):
            changed[place] ^= 1 << draw.randrange(8)
        elif way == 1 and place < len(changed):
            changed[place] = draw.randrange(256)
        elif way == 2:
            size = draw.choice([1, 2, 4, 8])
            number = draw.choice(NUMBERS) % 256**size
            changed[place : place + size] = number.to_bytes(size, "little")
        elif way == 3:
            del changed[place:end]
        elif way == 4:
            changed[place:place] = changed[place:end] * draw.choice([1, 2, 10, 100])
        elif way == 5:
            changed[place:place] = draw.choice(WORDS)
        elif way == 6:
            changed[place:end] = str(draw.choice(NUMBERS)).encode()
        else:
            other = draw.choice(files)
            first = draw.randrange(len(other) + 1)
            changed[place:end] = other[first : first + draw.choice([4, 16, 64, 256])]
    return bytes(changed[: 4 * LARGEST])


def check_file(path: Path, data: bytes) -> bool:
    """Whether the file can be read. Raises what is no error of ours."""
    path.write_bytes(data)
    good = False
    for read in (peek, inspect_file, lambda path: open_tensors(path).read()):
        try:
            read(path)
            good = True
        except (BadCheckpoint, NotFound) as error:
            str(error).encode()
    return good


def mutate_shapes(shapes: dict, others: list[dict], draw: random.Random) -> dict:
    changed = dict(shapes)
    keys = [*changed]
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        key = draw.choice(keys)
        shape = changed.get(key, ())
        way = draw.randrange(8)
        if way == 0:
            changed.pop(key, None)
        elif way == 1:
            changed[key] = (*shape, draw.choice(NUMBERS))
        elif way == 2 and shape:
            place = draw.randrange(len(shape))
            changed[key] = (*shape[:place], draw.choice(NUMBERS), *shape[place + 1 :])
        elif way == 3:
            changed[key] = shape[draw.randrange(3) :]
        elif way == 4:
            parts = [p if not p.isdigit() else str(draw.choice(NUMBERS)) for p in key.split(".")]
            changed[".".join(parts)] = changed.pop(key, shape)
        elif way == 5:
            place = draw.randrange(len(key) + 1)
            text = draw.choice([".", "", "\x1b", "é", "\ud800", "9" * 50, "model.", "x" * 300])
            changed[key[:place] + text + key[place + draw.randrange(3) :]] = changed.pop(key, shape)
        elif way == 6:
            prefix = key.rpartition(".")[0]
            changed = {k: v for k, v in changed.items() if not k.startswith(prefix)} or changed
        else:
            other = draw.choice(others)
            for name in draw.sample([*other], min(len(other), draw.choice([1, 5, 50]))):
                changed[name] = other[name]
    return changed


def check_shapes(shapes: dict, draw: random.Random) -> bool:
    """Whether the family is a model without problems. Raises what is no error of ours."""
    numbers = [0.2, -0.2, float("nan"), float("inf"), 0.0]
    words = ("modelspec.prediction_type", draw.choice(["v", "x" * 5000, "\ud800", ""]))
    family = tell_family(shapes, dict([words]), lambda key: draw.sample(numbers, 3), "a: [" * 99)
    try:
        keymap = family.make_keymap()
        parts, extras = keymap.to_parts(shapes)
        if keymap.to_single(parts, extras, shapes) != shapes:
            raise AssertionError("to_single does not give back what to_parts was given")
    except BadCheckpoint as error:
        str(error).encode()
    return family.kind == "model" and not family.problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="of the processor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the case that it begins with")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    faulthandler.enable()  # a crash of a library says where it was
    files = gather_files()
    shapes = [dict(peers.true_shapes(name)) for name in peers.TRUE_SIZES]
    small = [dict(list(s.items())[::9]) for s in shapes]  # quick ones, with holes
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES,) * 2)

    def end(*_: object) -> None:
        raise TimeoutError(f"it takes more than {SECONDS} seconds")

    signal.signal(signal.SIGALRM, end)
    counts, good, slowest = Counter[str](), Counter[str](), 0.0
    number, start = options.first, time.process_time()
    kinds = [*files, "keys"]
    while time.process_time() - start < 60 * options.minutes:
        draw = random.Random(f"{options.seed} {number}")
        kind = kinds[number % len(kinds)]
        case: object = None
        begun = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(60)
        try:
            if kind == "keys":
                case = mutate_shapes(draw.choice(shapes + 4 * small), shapes, draw)
                right = check_shapes(case, draw)
            else:
                seeds = files[kind][:GOOD] if draw.random() < 0.7 else files[kind]
                case = mutate(draw.choice(seeds), files[kind], draw)
                if kind == "pickles":
                    old = draw.random() < 0.3
                    case = hostile.old(case) if old else hostile.archive(case)
                right = check_file(folder / "x", case)
            if time.process_time() - begun > SECONDS:
                raise TimeoutError(f"{time.process_time() - begun:.1f} seconds")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            kept = Path(tempfile.gettempdir()) / f"fuzz-{options.seed}-{number}"
            kept.write_bytes(case if isinstance(case, bytes) else repr(case).encode())
            traceback.print_exc()
            print(f"CRASH in {kind}, case {number} of seed {options.seed}: {kept}")
            shutil.rmtree(folder)
            raise SystemExit(1) from None
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.process_time() - begun)
        counts[kind] += 1
        good[kind] += right
        number += 1
        if number % 10_000 == 0:
            minutes = (time.process_time() - start) / 60
            print(f"{number:,} cases, {minutes:.1f} minutes, no crash", flush=True)
    shutil.rmtree(folder)
    print(
        f"{number - options.first:,} cases in {options.minutes} minutes of the processor, no crash"
    )
    print(f"the slowest took {slowest:.2f} s")
    for kind in kinds:
        print(f"{kind:12} {counts[kind]:>10,} cases, {good[kind]:>10,} of them read")


if __name__ == "__main__":
    main()
