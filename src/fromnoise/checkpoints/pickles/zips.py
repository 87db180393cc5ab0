"""The members of a zip archive that are stored as they are: where each lies in the file.

Nothing is unpacked, so no name leads anywhere and no member grows. All the same, an archive that
plays with names, links, places or sizes is refused."""

import os
import stat
import struct
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, NoReturn

from fromnoise.checkpoints.entries import DAMAGED
from fromnoise.errors import BadCheckpoint, escape

MEMBERS = 20_000  # Stable Diffusion has about 1,100 tensors, and as many in its average
DIRECTORY_BYTES = 8 << 20
END, END64, LOCATOR64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"


class Member(NamedTuple):
    start: int  # of its bytes in the file
    size: int


def read_members(path: Path, file: BufferedReader) -> dict[str, Member]:
    """Name → place. Raises BadCheckpoint for a damaged archive, a compressed or encrypted member,
    and for whatever only an attack has."""

    def refuse(reason: str, remedy: str = DAMAGED) -> NoReturn:
        raise BadCheckpoint(f"{path} is a zip archive that cannot be read: {reason}", remedy)

    size = os.fstat(file.fileno()).st_size
    count, length, start = find_directory(file, size, refuse)
    if count > MEMBERS or length > DIRECTORY_BYTES:
        refuse(f"it has {count:,} members, {MEMBERS:,} are most")
    file.seek(start)
    directory, place = file.read(length), 0
    found: list[tuple[int, str, int]] = []
    names = set[str]()
    for _ in range(count):
        head = directory[place : place + 46]
        if len(head) < 46 or head[:4] != b"PK\1\2":
            refuse("its list of members is cut off")
        flags, method = struct.unpack("<HH", head[8:12])
        packed, unpacked, n, x, c = struct.unpack("<IIHHH", head[20:34])
        attributes, offset = struct.unpack("<II", head[38:46])
        end = place + 46 + n + x + c
        raw = directory[place + 46 : place + 46 + n]
        extra = directory[place + 46 + n : place + 46 + n + x]
        if end > length:
            refuse("its list of members is cut off")
        place = end
        name = raw.decode("utf-8", "backslashreplace")
        packed, unpacked, offset = widen(extra, [unpacked, packed, offset], refuse)
        shown = escape(repr(name), 100)
        if fault := find_fault(name, flags, method, attributes >> 16):
            refuse(f"{shown} {fault}", "save the model again, with safetensors")
        if packed != unpacked:
            refuse(f"{shown} is stored, with two sizes")
        if name in names:
            refuse(f"{shown} stands in it twice")
        names.add(name)
        found.append((offset, name, packed))
    if place != length:
        refuse("bytes follow its list of members")
    return locate(file, sorted(found), start, refuse)


def find_directory(file: BufferedReader, size: int, refuse) -> tuple[int, int, int]:
    """(members, bytes, start) of the list of members, which is the end of the file."""
    tail = min(size, 22 + 65_535 + 20)
    file.seek(size - tail)
    data = file.read(tail)
    place = data.rfind(END)
    if place < 0 or len(data) - place < 22:
        refuse("its list of members is missing")
    disk, first, here, count, length, start, comment = struct.unpack(
        "<HHHHIIH", data[place + 4 : place + 22]
    )
    end = size - tail + place
    if place + 22 + comment != len(data):
        refuse("bytes follow its end")
    if place >= 20 and data[place - 20 : place - 16] == LOCATOR64:
        where = int.from_bytes(data[place - 12 : place - 4], "little")
        if where > size - 56:
            refuse("its list of members lies behind its end")
        file.seek(where)
        record = file.read(56)
        if record[:4] != END64:
            refuse("its list of members is missing")
        here, count, length, start = struct.unpack("<QQQQ", record[24:56])
        disk, first = struct.unpack("<II", record[16:24])
        end = where
    if disk or first or here != count:
        refuse("it is one of several parts")
    if start + length != end:
        refuse("its list of members does not lie where it says")
    return count, length, start


def widen(extra: bytes, values: list[int], refuse) -> tuple[int, int, int]:
    """(packed, unpacked, offset) of a member: those of `values` (unpacked, packed, offset) that are
    full of ones stand in the extra field, with 64 bits."""
    wide = [i for i, value in enumerate(values) if value == 0xFFFFFFFF]
    while wide and extra:
        kind, length = struct.unpack("<HH", extra[:4].ljust(4, b"\0"))
        if kind == 1:
            if length < 8 * len(wide) or len(extra) < 4 + length:
                break
            for i, index in enumerate(wide):
                values[index] = int.from_bytes(extra[4 + 8 * i : 12 + 8 * i], "little")
            return values[1], values[0], values[2]
        extra = extra[4 + length :]
    if wide:
        refuse("a member of more than 4 GB does not say its size")
    return values[1], values[0], values[2]


def find_fault(name: str, flags: int, method: int, mode: int) -> str | None:
    """What is wrong with a member."""
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
        return "has a name that leads out of the archive"
    if stat.S_ISLNK(mode):
        return "is a link"
    if flags & 0x2041:
        return "is encrypted"
    if method:
        return "is compressed, which torch never does"
    return None


def locate(file: BufferedReader, found: list[tuple[int, str, int]], end: int, refuse):
    """Where the bytes of each member begin. found: (offset, name, size), in the file's order."""
    members: dict[str, Member] = {}
    free = 0
    for offset, name, size in found:
        shown = escape(repr(name), 100)
        if offset < free:
            refuse(f"{shown} overlaps another member")
        if offset + 30 > end:
            refuse(f"{shown} lies behind the end")
        file.seek(offset)
        head = file.read(30)
        n, x = struct.unpack("<HH", head[26:30].ljust(4, b"\0"))
        if head[:4] != b"PK\3\4" or file.read(n) != name.encode("utf-8", "surrogateescape"):
            refuse(f"{shown} does not lie where it says")
        start = offset + 30 + n + x
        free = start + size
        if free > end:
            refuse(f"{shown} of {size:,} bytes is cut off")
        members[name] = Member(start, size)
    return members
