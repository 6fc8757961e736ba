"""Raster pictures: orientations, modes, profiles, metadata, cuts, bombs, impostors."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.hardening.draws import Batch, draw
from tests.hardening.frame import Case, Fault, Refused, handled, kept, refused

KIND = "pictures"
HOW = "files of six formats and of others, drawn as stage 01 draws its rows"
RANDOM, BATCH = 70_000, 2_500
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# Top left, top right, bottom left, bottom right.
COLOURS = np.uint8([[230, 30, 30], [30, 200, 60], [40, 60, 220], [240, 220, 40]])
GREYS = np.rint(COLOURS @ [0.299, 0.587, 0.114]).astype(np.uint8)[:, None]
UPRIGHT = COLOURS.reshape(2, 2, 3).repeat(48, 0).repeat(32, 1)  # 64 x 96
# What a camera stores, by the EXIF orientation that turns it upright.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p, -1),
}
# Columns of XYZ (D50) of red, green and blue, and the exponent of the curve.
SPACES = {
    "Adobe RGB": ([0.60974, 0.31111, 0.01947, 0.20528, 0.62567, 0.06087, 0.14919,
                   0.06322, 0.74457], 2.2),
    "ProPhoto": ([0.79767, 0.28804, 0, 0.13519, 0.71188, 0, 0.03135, 0.00009,
                  0.82491], 1.8),
    "Display P3": ([0.51512, 0.24120, -0.00105, 0.29198, 0.69225, 0.04189, 0.15710,
                    0.06657, 0.78407], 2.2),
    "Rec. 2020": ([0.67348, 0.27904, -0.00194, 0.16567, 0.67535, 0.02998, 0.12505,
                   0.04561, 0.79686], 2.4),
    "green for red": ([0.38515, 0.71687, 0.09708, 0.43607, 0.22249, 0.01392, 0.14307,
                       0.06061, 0.71410], 2.2),
}  # fmt: skip
SRGB = [0.43607, 0.22249, 0.01392, 0.38515, 0.71687, 0.09708, 0.14307, 0.06061, 0.71410]


def file_of(picture: Image.Image | np.ndarray, kind: str = "PNG", **how: Any) -> bytes:
    """Return the file of a picture; JPEG and WebP nearly without loss."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(np.ascontiguousarray(picture))
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 100} | how))
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG."""
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def exif(gps: bool = False, *entries: tuple[int, int, int, bytes]) -> bytes:
    """Return EXIF with orientation 6 and entries (tag, type, count, bytes)."""
    turn = (0x112, 3, 1, struct.pack("<HH", 6, 0))
    more = list(entries)
    first = [turn, (0x8825, 4, 1, struct.pack("<I", 38))] if gps else [turn, *more]

    def folder(rows: list[tuple[int, int, int, bytes]], start: int) -> bytes:
        head, data = struct.pack("<H", len(rows)), b""
        place = start + 6 + 12 * len(rows)
        for tag, kind, count, value in rows:
            cell = value.ljust(4, b"\0")
            if len(value) > 4:
                cell, data = struct.pack("<I", place + len(data)), data + value
            head += struct.pack("<HHI", tag, kind, count) + cell
        return head + struct.pack("<I", 0) + data

    tiff = b"II*\0" + struct.pack("<I", 8) + folder(first, 8)
    return b"Exif\0\0" + tiff + (folder(more, 38) if gps else b"")


def profile(columns: list[float], gamma: float, space: bytes = b"RGB ") -> bytes:
    """Return an ICC profile of three primaries and one curve."""

    def xyz(values: list[float]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    text = b"text\0\0\0\0none\0\0\0\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(80)
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    tags = {
        b"desc": name.ljust(92, b"\0"),
        b"cprt": text,
        b"wtpt": xyz([0.9642, 1, 0.8249]),
    }
    for place, letter in enumerate((b"r", b"g", b"b")):
        tags[letter + b"XYZ"] = xyz(columns[3 * place : 3 * place + 3])
        tags[letter + b"TRC"] = curve
    table, data = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        place = 132 + 12 * len(tags) + len(data)
        table += tag + struct.pack(">II", place, len(value))
        data += value
    size = struct.pack(">I", 128 + len(table) + len(data))
    head = size + bytes(4) + struct.pack(">I", 0x02100000) + b"mntr" + space + b"XYZ "
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0")
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + data


def coded(pixels: np.ndarray, columns: list[float], gamma: float) -> np.ndarray:
    """Return sRGB pixels as another space writes them, in 8 bits."""
    share = pixels / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = (
        linear @ np.reshape(SRGB, (3, 3)) @ np.linalg.inv(np.reshape(columns, (3, 3)))
    )
    return np.rint(255 * seen.clip(0, 1) ** (1 / gamma)).astype(np.uint8)


def upright(tolerance: int = 8, colours: np.ndarray = COLOURS) -> Callable[[Any], bool]:
    """Expect the four colours in their corners, of a whole picture 2 wide, 3 high."""

    def four_colours(found: Any) -> bool:
        if isinstance(found, Refused):
            return False
        if found.shape != (24, 16, 4):
            raise Fault("wrong outcome", f"shape {found.shape}, expected (24, 16, 4)")
        corners = found[[4, 4, 19, 19], [4, 11, 4, 11], :3].astype(int)
        most = np.abs(corners - colours.astype(int)).max()
        if most > tolerance:
            raise Fault("wrong outcome", f"colours {corners.tolist()}, {most} off")
        return True

    return four_colours


def shaped(height: int, width: int) -> Callable[[Any], bool]:
    """Expect a shape."""

    def is_shape(found: Any) -> bool:
        return not isinstance(found, Refused) and found.shape == (height, width, 4)

    is_shape.__name__ = f"{height} x {width}"
    return is_shape


def cases() -> Iterator[Case]:
    """Yield all named cases; harmless ones in batches, bombs alone."""
    batch = Batch(16, keep_shape=True)
    for name, data, expect in _harmless():
        yield Case(KIND, name, batch.add(picture=data), expect)
        if len(batch.rows) == 60:
            batch = Batch(16, keep_shape=True)
    for name, make in _bombs().items():
        act = lambda made: draw([{"picture": made}])[0]  # noqa: E731
        yield Case(KIND, f"bomb: {name}", act, handled, make=make)


def _harmless() -> Iterator[tuple[str, bytes, Any]]:
    grey = np.uint8(GREYS.reshape(2, 2).repeat(48, 0).repeat(32, 1))
    for turn, kind in ((t, k) for t in STORED for k in ("JPEG", "PNG", "WEBP", "TIFF")):
        tag = Image.Exif()
        tag[0x112] = turn
        for mode, pixels, right in (("RGB", UPRIGHT, COLOURS), ("L", grey, GREYS)):
            data = file_of(STORED[turn](pixels), kind, exif=tag)
            yield f"orientation: {turn} {kind} {mode}", data, upright(8, right)
    yield from _modes()
    for name, (columns, gamma) in SPACES.items():
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            how = {"icc_profile": profile(columns, gamma)}
            how |= {"subsampling": 0} if kind == "JPEG" else {}
            how |= {"lossless": True} if kind == "WEBP" else {}
            data = file_of(coded(UPRIGHT, columns, gamma), kind, **how)
            # JPEG changes a level, which in ProPhoto's dark green is 13 of sRGB's.
            expect = upright(16 if kind == "JPEG" else 7)
            yield f"profile: {name} {kind}", data, expect
    adobe = profile(*SPACES["Adobe RGB"])
    broken = {
        "empty": b"", "text": b"profile", "cut": adobe[:200], "head": adobe[:128],
        "zeros": bytes(500), "of CMYK": profile(*SPACES["Adobe RGB"], b"CMYK"),
        "of grey": profile(*SPACES["Adobe RGB"], b"GRAY"),
        "wild offsets": adobe[:132] + b"\xff" * (len(adobe) - 132),
    }  # fmt: skip
    for name, icc in broken.items():
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            data = file_of(UPRIGHT, kind, icc_profile=icc)
            yield f"broken profile: {name} {kind}", data, upright()
    types = {
        "text": (2, 2, b"x\0"), "long text": (2, 9, b"northern\0"),
        "byte": (1, 1, b"\7"), "short": (3, 1, b"\7\0"), "long": (4, 1, b"\7\0\0\0"),
        "below zero": (10, 1, struct.pack("<ii", -3, 1)),
        "over zero": (5, 1, struct.pack("<II", 1, 0)),
        "not a number": (12, 1, struct.pack("<d", float("nan"))),
        "undefined": (7, 5, b"\0\1\2\3\4"), "no such type": (99, 1, b"\0\0\0\0"),
        "far away": (5, 99999, b"\xff\xff\xff\x7f"),
    }  # fmt: skip
    tags = {"GPS version": 0, "latitude": 2, "altitude": 6, "GPS time": 7}
    tags |= {"make": 0x10F, "resolution": 0x11A, "unit": 0x128, "date": 0x132}
    tags |= {"artist": 0x13B, "copyright": 0x8298, "XP title": 0x9C9B, "note": 0x927C}
    stored = STORED[6](UPRIGHT)
    for tag, number in tags.items():
        for name, entry in types.items():
            data = file_of(stored, "JPEG", exif=exif(number < 10, (number, *entry)))
            yield f"EXIF: {tag} as {name}", data, upright()
    yield from _beside()
    for w, h in ((1, 1), (1, 9), (9, 1), (16, 65), (65, 16), (2000, 1), (1, 2000)):
        ratio = w / h
        width, height = 16 * min(max(1, ratio), 4), 16 * min(max(1, 1 / ratio), 4)
        for kind in FORMATS:
            data = file_of(Image.new("RGB", (w, h), "red"), kind)
            yield f"shape: {w} x {h} {kind}", data, shaped(round(height), round(width))
    yield from _refused()
    for kind in FORMATS:
        whole = file_of(UPRIGHT, kind)
        for tenth in range(1, 10):
            cut = whole[: len(whole) * tenth // 10]
            yield f"cut: {kind} at {tenth}/10", cut, _refused_or(whole)
    for kind in ("baseline", "progressive"):
        whole = file_of(UPRIGHT, "JPEG", progressive=kind == "progressive")
        start = whole.index(b"\xff\xda") + 14
        for tenth in range(1, 10):
            cut = whole[: start + (len(whole) - start) * tenth // 12] + b"\xff\xd9"
            yield f"cut and ended: {kind} JPEG at {tenth}/12", cut, refused


def _modes() -> Iterator[tuple[str, bytes, Any]]:
    rgb = Image.fromarray(UPRIGHT)
    grey = np.repeat(GREYS, 3, 1)
    half = np.rint(COLOURS * (128 / 255) + 127).astype(np.uint8)
    half_grey = np.rint(grey * (128 / 255) + 127).astype(np.uint8)
    seen = rgb.copy()
    seen.putalpha(128)
    grey_seen = rgb.convert("L").convert("LA")
    grey_seen.putalpha(128)
    clear = rgb.copy()
    clear.putalpha(0)
    white = np.full((4, 3), 255, np.uint8)
    black_white = np.where(GREYS > 99, 255, 0).repeat(3, 1)
    palette = rgb.quantize(8)
    pictures = {
        "L": (rgb.convert("L"), grey), "RGB": (rgb, COLOURS), "P": (palette, COLOURS),
        "1": (rgb.convert("L").point(lambda v: 255 * (v > 99), "1"), black_white),
        "RGBA": (seen, half), "clear RGBA": (clear, white),
        "LA": (grey_seen, half_grey),
        "CMYK": (rgb.convert("CMYK"), COLOURS),
    }  # fmt: skip
    takes = {
        "PNG": ["L", "RGB", "P", "1", "RGBA", "clear RGBA", "LA"],
        "JPEG": ["L", "RGB", "CMYK"], "GIF": ["L", "P", "1"],
        "BMP": ["L", "RGB", "P", "1"],
        "WEBP": ["RGB", "RGBA", "clear RGBA"],
        "TIFF": ["L", "RGB", "P", "1", "RGBA", "LA", "CMYK"],
    }  # fmt: skip
    for kind, names in takes.items():
        for name in names:
            picture, right = pictures[name]
            yield f"mode: {name} {kind}", file_of(picture, kind), upright(10, right)
    for depth in (1, 2, 4, 8):
        data = file_of(palette.quantize(2**depth if depth < 8 else 200), bits=depth)
        expect = upright(10) if depth > 1 else shaped(24, 16)
        yield f"palette: {depth} bits", data, expect
    yield (
        "palette: transparent",
        file_of(palette, transparency=bytes(8)),
        upright(10, white),
    )


def _beside() -> Iterator[tuple[str, bytes, Any]]:
    """Yield good pictures with odd things beside them."""
    jpeg, png = file_of(UPRIGHT, "JPEG"), file_of(UPRIGHT)
    for number in (*range(16), 0x1E):
        for name, data in (
            ("zeros", bytes(50)),
            ("text", b"Exif\0\0MM"),
            ("one", b"x"),
        ):
            if number == 14 and name == "one":
                continue
            segment = struct.pack(">BBH", 0xFF, 0xE0 + number, len(data) + 2) + data
            place = f"APP{number}" if number < 16 else "a comment"
            title = f"beside: JPEG, {name} in {place}"
            yield title, jpeg[:2] + segment + jpeg[2:], upright()
    chunks = {
        "tEXt": b"a\0b", "zTXt": b"a\0\0" + zlib.compress(b"x"),
        "iTXt": b"a\0\0\0\0\0b",
        "tIME": b"\0" * 7, "pHYs": b"\xff" * 8 + b"\1", "bKGD": bytes(6),
        "eXIf": b"junk",
        "sBIT": b"\x08\x08\x08", "abCd": b"?", "zTXt broken": b"a\0\0junk",
        "iTXt broken": b"a", "iCCP broken": b"a\0\0junk", "tEXt twice": b"a\0b",
        "gAMA": struct.pack(">I", 45455), "sRGB": b"\0", "eXIf empty": b"",
    }  # fmt: skip
    for name, data in chunks.items():
        extra = chunk(name[:4].encode(), data) * (1 + name.endswith("twice"))
        yield f"beside: PNG, {name}", png[:33] + extra + png[33:], upright()
    tail = {"zeros": bytes(99), "a zip": b"PK\3\4", "html": b"<html>", "itself": jpeg}
    for kind in FORMATS:
        for name, data in tail.items():
            whole = file_of(UPRIGHT, kind) + data
            right = upright(10 if kind == "GIF" else 8)
            yield f"beside: {kind} with {name} behind", whole, right
    small = Image.fromarray(UPRIGHT).resize((32, 48))
    for num in (1, 2, 3):
        how = {"save_all": True, "append_images": [small] * num}
        name = f"beside: camera's JPEG with {num} previews"
        yield name, file_of(UPRIGHT, "MPO", **how), upright()


def _refused() -> Iterator[tuple[str, bytes, Any]]:
    picture = Image.fromarray(UPRIGHT)
    for kind in """BLP DDS DIB EPS ICNS ICO IM JPEG2000 MSP PALM PCX PDF PPM QOI SGI
    SPIDER TGA XBM""".split():
        mode = {"MSP": "1", "XBM": "1", "BLP": "P", "SPIDER": "F", "PALM": "P"}
        square = picture.resize((32, 32)).convert(mode.get(kind, "RGB"))
        buffer = io.BytesIO()
        square.save(buffer, kind)
        yield f"other format: {kind}", buffer.getvalue(), refused
    frames = [picture.transpose(Image.Transpose.ROTATE_180)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        data = file_of(picture, kind, save_all=True, append_images=frames)
        yield f"several: {kind}", data, refused
    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x12\x34" * 12) * 4)
    deep = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    yield "deep: PNG of 16 bits, RGB", b"\x89PNG\r\n\x1a\n" + deep, refused
    wide = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16))
    for kind in ("PNG", "TIFF"):
        yield f"deep: {kind} of 16 bits, grey", file_of(wide, kind), refused
    for mode in ("I", "F"):
        yield f"deep: TIFF {mode}", file_of(wide.convert(mode), "TIFF"), refused
    texts = {
        "nothing": b"", "one byte": b"\xff", "zeros": bytes(999), "text": b"a cat",
        "html": b"<!doctype html><html>404</html>", "json": b'{"a": 1}',
        "svg": b"<svg/>",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage",
        "PDF": b"%PDF-1.4", "zip": b"PK\3\4" + bytes(30),
        "gzip": b"\x1f\x8b\x08" + bytes(9),
        "elf": b"\x7fELF" + bytes(60), "mp4": b"\0\0\0\x18ftypmp42" + bytes(20),
        "avif": b"\0\0\0\x1cftypavif" + bytes(20), "script": b"#!/bin/sh\nexit",
        "utf-16": "a cat".encode("utf-16"), "pickle": b"\x80\x04K\x01.",
        "psd": b"8BPS\0\1",
    }  # fmt: skip
    for name, data in texts.items():
        yield f"no picture: {name}", data, refused
    for kind in FORMATS:
        head = file_of(UPRIGHT, kind)[:12]
        yield f"no picture: only a {kind} head", head + bytes(500), refused
    png = file_of(UPRIGHT)
    for name in (b"IHDR", b"IDAT", b"IEND"):
        place = png.index(name)
        bad = png[:place] + name.lower() + png[place + 4 :]
        yield f"no picture: PNG without {name.decode()}", bad, _refused_or(png)


def _bombs() -> dict[str, Callable[[], bytes]]:
    def png(width: int, height: int, data: bytes = b"", *more: bytes) -> bytes:
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        body = (
            chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", zlib.compress(data))
        )
        return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")

    def scans(num: int) -> bytes:
        data = file_of(np.zeros((2000, 2000, 3), np.uint8), "JPEG", progressive=True)
        first = data.rindex(b"\xff\xda")
        return data[:first] + data[first:-2] * num + data[-2:]

    def folders(num: int) -> bytes:
        data = bytearray(file_of(np.zeros((8, 8, 3), np.uint8), "TIFF"))
        start = struct.unpack("<I", data[4:8])[0]
        size = 2 + 12 * struct.unpack("<H", data[start : start + 2])[0]
        folder = bytes(data[start : start + size])
        data[start + size : start + size + 4] = struct.pack("<I", len(data))
        for n in range(num):
            place = len(data) + size + 4
            data += folder + struct.pack("<I", place if n < num - 1 else 0)
        return bytes(data)

    def circle() -> bytes:
        data = bytearray(file_of(np.zeros((8, 8, 3), np.uint8), "TIFF"))
        start = struct.unpack("<I", data[4:8])[0]
        end = start + 2 + 12 * struct.unpack("<H", data[start : start + 2])[0]
        data[end : end + 4] = struct.pack("<I", start)
        return bytes(data)

    def gif(width: int, height: int) -> bytes:
        data = bytearray(file_of(np.zeros((8, 8), np.uint8), "GIF"))
        data[6:10] = struct.pack("<HH", width, height)
        return bytes(data)

    zeros = zlib.compress(bytes(200 << 20))
    return {
        "PNG of 65,535 x 65,535": lambda: png(65535, 65535),
        "PNG of 2,147,483,647 x 1": lambda: png(2**31 - 1, 1),
        "PNG of 0 x 0": lambda: png(0, 0),
        "PNG of 63 million pixels": lambda: png(7900, 7900, bytes(7900 * 23701)),
        "PNG of 65 million pixels": lambda: png(8100, 8100, bytes(8100 * 24301)),
        "PNG text of 200 MiB": lambda: png(
            8, 8, bytes(200), chunk(b"zTXt", b"a\0\0" + zeros)
        ),
        "PNG profile of 200 MiB": lambda: png(
            8, 8, bytes(200), chunk(b"iCCP", b"a\0\0" + zeros)
        ),
        "PNG of 100,000 chunks": lambda: png(
            8, 8, bytes(200), chunk(b"tEXt", b"a\0b") * 100_000
        ),
        "PNG data of 200 MiB for 8 x 8": lambda: png(8, 8, bytes(200 << 20)),
        "JPEG of 500 scans": lambda: scans(500),
        "JPEG of 5,000 scans": lambda: scans(5_000),
        "TIFF of 1,000 directories": lambda: folders(1_000),
        "TIFF of 100,000 directories": lambda: folders(100_000),
        "TIFF whose directories go round": circle,
        "GIF of 65,535 x 65,535": lambda: gif(65535, 65535),
        "BMP of 30,000 x 30,000": lambda: (
            file_of(np.zeros((8, 8, 3), np.uint8), "BMP")[:18]
            + struct.pack("<II", 30000, 30000)
            + bytes(300)
        ),
        "GIF of 2,000 frames": lambda: file_of(
            Image.new("P", (8, 8)),
            "GIF",
            save_all=True,
            append_images=[Image.new("P", (8, 8), n % 250) for n in range(2000)],
        ),
        "200 MiB of zeros": lambda: bytes(200 << 20),
        "JPEG with 200 MiB behind": lambda: file_of(UPRIGHT, "JPEG") + bytes(200 << 20),
    }


def _refused_or(whole: bytes) -> Callable[[Any], bool]:
    """Expect a refusal, or the pixels of the whole file."""

    def refused_or_whole(found: Any) -> bool:
        if isinstance(found, Refused):
            return refused(found)
        same = np.array_equal(found, draw([{"picture": whole}], 16, True)[0])
        if not same or np.abs(found[20, 12, :3].astype(int) - COLOURS[3]).max() > 10:
            raise Fault("half-read file", "drawn, and unlike the whole one")
        return True

    return refused_or_whole


SEEDS = [file_of(UPRIGHT[::8, ::8], kind) for kind in FORMATS]
SEEDS += [file_of(UPRIGHT[::8, ::8], "JPEG", progressive=True, exif=exif())]
SEEDS += [file_of(UPRIGHT[::8, ::8], icc_profile=profile(*SPACES["ProPhoto"]))]
_whole: list[Any] = []


def attack(rng: np.random.Generator, num: int) -> None:
    """Cut, flip, insert and repeat bytes of small pictures."""
    if not _whole:
        _whole.extend(draw([{"picture": data} for data in SEEDS], 8))
    rows, cut = [], []
    for _ in range(num):
        which = int(rng.integers(len(SEEDS)))
        data = bytearray(SEEDS[which])
        is_cut = rng.random() < 0.4
        if is_cut:
            del data[rng.integers(len(data)) :]
        for _ in range(0 if is_cut else rng.integers(1, 6)):
            place, how = rng.integers(len(data)), rng.integers(4)
            if how == 0:
                data[place] = rng.integers(256)
            elif how == 1:
                data[place] ^= 1 << rng.integers(8)
            elif how == 2:
                data[place:place] = rng.bytes(rng.integers(1, 9))
            else:
                data[place:place] = data[place : place + rng.integers(1, 99)]
        cut.append((is_cut, which))
        rows.append({"picture": bytes(data)})
    for (is_cut, which), row, found in zip(cut, rows, draw(rows, 8), strict=True):
        told = row["picture"].hex()[:60]
        if isinstance(found, Refused):
            if not refused(found):
                raise Fault("wrong outcome", f"reason {found!r} of {told}")
        elif found.shape != (8, 8, 4):
            raise Fault("wrong outcome", f"shape {found.shape} of {told}")
        elif (
            is_cut and kept(_whole[which]) and not np.array_equal(found, _whole[which])
        ):
            raise Fault("half-read file", f"{len(row['picture'])} bytes of {told}")
