"""TIFF files with more bands or more bits than Pillow keeps: it drops the low byte of 16-bit colour and the fifth band.

Only the description of the pixels is read here. libtiff, which is part of Pillow, decompresses: it is shown the same file as a
grey one, whose row holds the bytes of a row of the original.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, ORIENTATION, SAMPLES = 256, 257, 258, 259, 262, 273, 274, 277
ROWS, LENGTHS, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_LENGTHS = 278, 279, 284, 317, 322, 323, 324, 325
EXTRA, FORMAT = 338, 339
LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate, PackBits, Deflate again, LZMA, Zstandard
KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}


def is_tiff(content: bytes) -> bool:
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tags_of(content: bytes) -> ImageFileDirectory_v2:
    """The tags of the first page. Raises ValueError, struct.error or OSError where they cannot be read."""
    big = b"+" in content[2:4]
    tags = ImageFileDirectory_v2(content[: 16 if big else 8])
    stream = io.BytesIO(content)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def is_beyond_pillow(tags: ImageFileDirectory_v2) -> bool:
    """Whether Pillow would lose bits or bands of an image with these tags."""
    samples = int(tags.get(SAMPLES, 1))
    if tags.get(PHOTOMETRIC, 1) not in (0, 1, 2):
        return False
    colours = 3 if tags.get(PHOTOMETRIC, 1) == 2 else 1
    alpha = tuple(tags.get(EXTRA, ())) in ((1,), (2,))
    return max(tags.get(BITS, (1,))) > 8 or samples > colours + alpha


def read_tiff(content: bytes) -> np.ndarray:
    """(H, W, C) of the first page, in its own type. Raises ValueError, struct.error or OSError for what cannot be read."""
    tags = tags_of(content)
    width, height, samples = int(tags[WIDTH]), int(tags[HEIGHT]), int(tags.get(SAMPLES, 1))
    bits = set(tags.get(BITS, (1,)))
    kind = KINDS.get(int(next(iter(tags.get(FORMAT, (1,))))))
    if len(bits) != 1 or min(bits) not in (8, 16, 32, 64) or kind is None:
        raise ValueError(f"a TIFF of {samples} samples with {sorted(bits)} bits is not read")
    if tags.get(COMPRESSION, 1) not in LOSSLESS:
        raise ValueError(
            f"a TIFF of {samples} samples with {min(bits)} bits and compression {tags[COMPRESSION]} is not read"
        )
    order = "<" if content[:2] == b"II" else ">"
    dtype = np.dtype(f"{order}{kind}{min(bits) // 8}")
    tiled = TILE_WIDTH in tags
    piece = (
        (int(tags[TILE_HEIGHT]), int(tags[TILE_WIDTH])) if tiled else (min(int(tags.get(ROWS, height)), height), width)
    )
    offsets = tags[TILES if tiled else OFFSETS]
    lengths = tags[TILE_LENGTHS if tiled else LENGTHS]
    planar = int(tags.get(PLANAR, 1)) == 2
    depth = 1 if planar else samples  # samples that lie beside each other in a piece
    across, down = -(-width // piece[1]), -(-height // piece[0])
    padded_SHWC = np.zeros(
        (samples if planar else 1, down * piece[0], across * piece[1], depth), dtype.newbyteorder("=")
    )
    if len(offsets) < len(padded_SHWC) * down * across:
        raise ValueError("truncated TIFF: strips are missing")
    for index in range(len(padded_SHWC) * down * across):
        plane, place = divmod(index, down * across)
        top, left = place // across * piece[0], place % across * piece[1]
        rows = piece[0] if tiled else min(piece[0], height - top)
        raw = _unpacked(
            content, int(offsets[index]), int(lengths[index]), rows, piece[1] * depth * dtype.itemsize, tags, order
        )
        pixels = _unpredicted(raw, rows, piece[1], depth, dtype, int(tags.get(PREDICTOR, 1)))
        padded_SHWC[plane, top : top + rows, left : left + piece[1]] = pixels
    cropped_SHWC = padded_SHWC[:, :height, :width]
    image_HWC = cropped_SHWC[..., 0].transpose(1, 2, 0) if planar else cropped_SHWC[0]
    if tags.get(PHOTOMETRIC, 1) == 0 and kind == "u":
        image_HWC = np.iinfo(image_HWC.dtype).max - image_HWC
    return np.ascontiguousarray(turned(image_HWC, int(tags.get(ORIENTATION, 1))))


def turned(image_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """An image as EXIF's orientation (1 to 8) says that it is to be seen."""
    if orientation in (5, 6, 7, 8):
        image_HWC = image_HWC.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image_HWC = image_HWC[::-1]
    return image_HWC[:, ::-1] if orientation in (2, 3, 6, 7) else image_HWC


def _unpacked(
    content: bytes, offset: int, length: int, rows: int, row_bytes: int, tags: ImageFileDirectory_v2, order: str
) -> bytes:
    """The bytes of one strip or tile, decompressed."""
    packed = content[offset : offset + length]
    if len(packed) < length:
        raise ValueError("truncated TIFF")
    compression = int(tags.get(COMPRESSION, 1))
    if compression == 1:
        if length < rows * row_bytes:
            raise ValueError("truncated TIFF")
        return packed[: rows * row_bytes]
    entries = [
        (WIDTH, row_bytes), (HEIGHT, rows), (BITS, 8), (COMPRESSION, compression), (PHOTOMETRIC, 1), (OFFSETS, 8),
        (SAMPLES, 1), (ROWS, rows), (LENGTHS, length),
    ]  # fmt: skip
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + length)
    table = struct.pack(f"{order}H", len(entries))
    table += b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in entries)
    # The type is LONG for all: libtiff takes it for the short tags too.
    with Image.open(io.BytesIO(head + packed + table + bytes(4))) as image:
        return image.tobytes()


def _unpredicted(raw: bytes, rows: int, width: int, depth: int, dtype: np.dtype, predictor: int) -> np.ndarray:
    """(rows, width, depth) of a piece whose values may be stored as differences (2) or as split bytes of floats (3)."""
    if predictor == 3:
        bytes_RB = np.frombuffer(raw, np.uint8).reshape(rows, -1)
        steps = bytes_RB.reshape(rows, -1, depth).cumsum(1, dtype=np.uint8)
        planes = steps.reshape(rows, dtype.itemsize, width * depth)  # the most significant byte first
        return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">")).reshape(rows, width, depth)
    values = np.frombuffer(raw, dtype).reshape(rows, width, depth)
    if predictor == 2:
        unsigned = np.dtype(f"u{dtype.itemsize}")
        values = values.astype(dtype.newbyteorder("=")).view(unsigned).cumsum(1, dtype=unsigned)
        return values.view(dtype.newbyteorder("="))
    return values
