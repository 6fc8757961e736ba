"""Picture files without what is beside the picture: comments, previews, odd tags.

A reader that parses all of a file's metadata fails on a fault in any of it. What is
left here is what pixels, colours and orientation are made from.
"""

import re
import struct
from collections.abc import Iterator

# Tags of TIFF that say how its pixels are stored, orientation (274) and ICC (34675).
TIFF_TAGS = {*range(254, 260), 262, 266, *range(273, 280), 282, 283, 284, 290, 291}
TIFF_TAGS |= {292, 293, 296, 297, 301, *range(317, 326), 330, 332, 338, 339}
TIFF_TAGS |= {*range(512, 522), 529, 530, 531, 532, 347, 34675} - {282, 283, 296}
PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # none within coded data
_PNG = b"\x89PNG\r\n\x1a\n"


def without_metadata(data: bytes, with_colours: bool) -> bytes:
    """Return a JPEG, PNG or TIFF without its metadata; other files as they are.

    Args:
        with_colours: whether colour profile and orientation stay.
    """
    if data.startswith(b"\xff\xd8"):
        return _bare_jpeg(data, with_colours)
    if data.startswith(_PNG):
        return _bare_png(data, with_colours)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _bare_tiff(data, with_colours)
    return data


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of a JPEG's segments, up to its end of image.

    The start is that of the two bytes of the marker; coded data is in no segment.
    """
    place = 2
    while found := _MARKER.search(data, place):
        marker, start = found[1][0], found.start(1) - 1
        if marker == 0xD9 or len(data) < start + 4:
            yield marker, start, start + 2
            return
        place = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        yield marker, start, place


def _bare_jpeg(data: bytes, with_colours: bool) -> bytes:
    kept = [(0xE0, b"JFIF\0", 16), (0xEE, b"Adobe", 14)]  # they tell YCbCr from RGB
    if with_colours:
        kept += [(0xE1, b"Exif\0\0", 0), (0xE2, b"ICC_PROFILE\0", 0)]
    parts, last = [], 0
    for marker, start, end in jpeg_segments(data):
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            continue
        if not any(
            marker == m and data.startswith(name, start + 4) and end - start >= size
            for m, name, size in kept
        ):
            parts.append(data[last:start])
            last = end
    return b"".join([*parts, data[last:]])


def _bare_png(data: bytes, with_colours: bool) -> bytes:
    kept = PNG_CHUNKS | ({b"iCCP", b"eXIf"} if with_colours else set())
    parts, place = [_PNG], len(_PNG)
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        if data[place + 4 : place + 8] in kept:
            parts.append(data[place:end])
        place = end
    return b"".join(parts)


def _bare_tiff(data: bytes, with_colours: bool) -> bytes:
    """Drop tags from the first directory; the place of everything else stays."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        (place,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, place)
        tags = [data[i : i + 12] for i in range(place + 2, place + 2 + 12 * count, 12)]
        rest = data[place + 2 + 12 * count :]
        number = struct.Struct(f"{order}H")
        kept = TIFF_TAGS - (set() if with_colours else {274, 34675})
        tags = [tag for tag in tags if number.unpack_from(tag)[0] in kept]
        head = data[:place] + number.pack(len(tags)) + b"".join(tags) + rest[:4]
    except struct.error:
        return data
    gap = bytes(len(data) - len(head) - len(rest[4:]))
    return head + gap + rest[4:]


def is_cut_jpeg(data: bytes) -> bool:
    """Tell whether a JPEG ends before each component has all its scans.

    A baseline JPEG has one scan or one a component; a progressive one adds bit by bit,
    and lacks some where it was cut and ended.
    """
    left: dict[int, dict[int, int]] = {}  # component -> coefficient -> bits to come
    for marker, start, end in jpeg_segments(data):
        body = data[start + 4 : end]
        if marker in (0xC0, 0xC1, 0xC2) and len(body) >= 6:
            left = {
                c: dict.fromkeys(range(64), 1) for c in body[6 : 6 + 3 * body[5] : 3]
            }
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] :][:3]
            for component in body[1 : 1 + 2 * body[0] : 2]:
                if component in left:
                    for k in range(first, min(last, 63) + 1):
                        left[component][k] = bits & 15
    return any(any(bits.values()) for bits in left.values())


def with_noise_at_its_end(data: bytes) -> bytes:
    """Return a JPEG with meaningless bytes before its end of image.

    A whole picture needs none of them; one that was cut is drawn from them.
    """
    *_, (_, start, _) = jpeg_segments(data)
    noise = bytes((i * 151 + i // 7 * 53) % 251 for i in range(4096))
    # After restart markers too: what is cut there waits for the next of the eight.
    restarts = b"".join(bytes([0xFF, 0xD0 + i]) + noise for i in range(8))
    return data[:start] + noise + restarts + data[start:]
