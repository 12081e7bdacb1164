#!/usr/bin/env python3
"""Makes tests/golden/data/images/ and image_goldens.h: small image files of every kind that dft reads, and the pixels that
Pillow sees in them. What Pillow cannot write (interlaced and 16-bit PNG, tiled and 16-bit TIFF, odd bitmaps) is written here.

    python3 make_images.py        needs numpy and Pillow; the files committed were made with Pillow 13

The pixels lie in expected.gz one after another; the header has, for each check, the file, what is asked of dft_decode, and the
greatest and the mean difference that is allowed (0: exact)."""
import gzip
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "data", "images")
checks, blob, offsets = [], bytearray(), {}


def photo(height, width):
    """Smooth colours with an edge, so that orientation and shifts show."""
    y, x = np.mgrid[0:height, 0:width]
    u, v = x / width, y / height
    rgb = np.stack([40 + 200 * u, 220 - 180 * v, 128 + 100 * np.sin(5 * u + 3 * v)], -1)
    rgb[: height // 3, : width // 4] = (250, 30, 60)
    rgb[y > x * 1.3 + height * 0.6] = (20, 90, 200)
    return rgb.round().astype(np.uint8)


def expect(name, rgb, mode="STRETCH", size=(1000, 1000), most=0, mean=0.0):
    rgb = np.ascontiguousarray(rgb, np.uint8)
    key = rgb.tobytes()
    if key not in offsets:
        offsets[key] = len(blob)
        blob.extend(key)
    checks.append((name, mode, size, rgb.shape[:2], offsets[key], most, mean))


def pillow(name):
    """What Pillow makes of a file: upright, RGB."""
    with Image.open(os.path.join(OUT, name)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def save(name, image, rgb=None, most=0, mean=0.0, **options):
    image.save(os.path.join(OUT, name), **options)
    expect(name, pillow(name) if rgb is None else rgb, most=most, mean=mean)


def write(name, data, rgb):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)
    expect(name, rgb)


# ---- PNG ----

ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, colour_type, interlaced=False):
    """samples[h][w][bands], u8 or u16."""
    height, width = samples.shape[:2]
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    raw = b""
    for y, x, down, right in passes:
        part = samples[y::down, x::right]
        if part.size:
            raw += b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in part)
    head = struct.pack(">IIBBBBB", width, height, samples.dtype.itemsize * 8, colour_type, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


# ---- TIFF ----


def tiff(samples, tile=None, big_endian=False, photometric=2):
    """Uncompressed, one strip or tiles of tile x tile."""
    order = ">" if big_endian else "<"
    height, width, bands = samples.shape
    data = samples.astype(samples.dtype.newbyteorder(order))
    parts = [data.tobytes()]
    if tile:
        padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, bands), data.dtype)
        padded[:height, :width] = data
        parts = [padded[y:y + tile, x:x + tile].tobytes()
                 for y in range(0, padded.shape[0], tile) for x in range(0, padded.shape[1], tile)]
    body, at, where = b"", 8, []
    for part in parts:
        where.append(at + len(body))
        body += part
    body += b"\0" * (len(body) % 2)
    tags, extra, extra_at = [], b"", 8 + len(body)

    def tag(number, kind, values):
        nonlocal extra
        packed = struct.pack(order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            tags.append(struct.pack(order + "HHII", number, kind, len(values), extra_at + len(extra)))
            extra += packed + b"\0" * (len(packed) % 2)
        else:
            tags.append(struct.pack(order + "HHI", number, kind, len(values)) + packed.ljust(4, b"\0"))

    tag(256, 4, [width])
    tag(257, 4, [height])
    tag(258, 3, [samples.dtype.itemsize * 8] * bands)
    tag(259, 3, [1])
    tag(262, 3, [photometric])
    if not tile:
        tag(273, 4, where)
    tag(277, 3, [bands])
    if tile:
        tag(322, 4, [tile])
        tag(323, 4, [tile])
        tag(324, 4, where)
        tag(325, 4, [len(p) for p in parts])
    else:
        tag(278, 4, [height])
        tag(279, 4, [len(parts[0])])
    tags.sort(key=lambda t: struct.unpack(order + "H", t[:2]))
    start = extra_at + len(extra)
    mark = b"MM\0*" if big_endian else b"II*\0"
    return mark + struct.pack(order + "I", start) + body + extra + struct.pack(order + "H", len(tags)) + b"".join(tags) + b"\0" * 4


# ---- BMP ----


def bmp(rgb, bits, masks=False, top_down=False, core=False):
    height, width = rgb.shape[:2]
    palette = b""
    if bits == 4:
        levels = np.arange(16) * 17
        palette = b"".join(bytes([v, 255 - v, v // 2, 0]) for v in levels)
        index = rgb[..., 0] // 17
        index = np.pad(index, ((0, 0), (0, index.shape[1] % 2)))
        rows = index[:, 0::2] << 4 | index[:, 1::2]
    elif bits == 32:
        rows = np.concatenate([rgb[..., ::-1], np.full((height, width, 1), 77, np.uint8)], -1).reshape(height, -1)
    else:
        rows = rgb[..., ::-1].reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).astype(np.uint8)
    pixels = (rows if top_down else rows[::-1]).tobytes()
    if core:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", 40, width, -height if top_down else height, 1, bits, 3 if masks else 0,
                           len(pixels), 2835, 2835, 0, 0)
    if masks:
        head += struct.pack("<III", 0xff0000, 0xff00, 0xff)
    offset = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + head + palette + pixels


# ---- all of them ----


def make_jpeg(image):
    # Decoders of the same family (libjpeg-turbo): equal but for rounding in upsampling and colour conversion.
    for name, options in {"444": {"subsampling": 0}, "422": {"subsampling": 1}, "420": {"subsampling": 2},
                          "progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 1}}.items():
        save(f"{name}.jpg", image, most=2, mean=0.1, quality=90, **options)
    save("grey.jpg", image.convert("L"), most=2, mean=0.1, quality=90)
    save("cmyk.jpg", image.convert("CMYK"), most=2, mean=0.1, quality=90)
    for orientation in range(1, 10):  # 9 is none
        exif = Image.Exif()
        exif[0x112] = orientation
        save(f"turned{orientation}.jpg", image, most=2, mean=0.1, quality=90, exif=exif)
    big_endian = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    save("turned6_big_endian.jpg", image, most=2, mean=0.1, quality=90, exif=big_endian)
    save("wrong_name.png", image, most=2, mean=0.1, quality=90, format="JPEG")


def make_png(image, rgb):
    grey = np.asarray(image.convert("L"))
    alpha = (grey[..., None] // 2 + 60).astype(np.uint8)
    save("rgb.png", image)
    save("grey.png", image.convert("L"))
    save("bits1.png", image.convert("1"))
    save("palette.png", image.quantize(200))
    save("palette4.png", image.quantize(11), bits=4)
    clear = image.quantize(50)
    save("palette_clear.png", clear, transparency=7)
    write("rgba.png", png(np.concatenate([rgb, alpha], -1), 6), rgb)
    write("grey_alpha.png", png(np.concatenate([grey[..., None], alpha], -1), 4), np.repeat(grey[..., None], 3, -1))
    write("interlaced.png", png(rgb, 2, interlaced=True), rgb)
    deep = rgb.astype(np.uint16) * 256 + np.arange(rgb.size, dtype=np.uint16).reshape(rgb.shape) % 256
    write("rgb16.png", png(deep, 2), rgb)
    write("rgb16_interlaced.png", png(deep, 2, interlaced=True), rgb)
    write("rgba16.png", png(np.concatenate([deep, deep[..., :1]], -1), 6), rgb)
    write("grey16.png", png(deep[..., :1], 0), np.repeat(rgb[..., :1], 3, -1))
    exif = Image.Exif()
    exif[0x112] = 5
    save("turned5.png", image, exif=exif)


def make_webp_gif(image):
    save("lossy.webp", image, most=2, mean=0.1, quality=85)
    save("lossless.webp", image, lossless=True)
    clear = image.convert("RGBA")
    clear.putalpha(image.convert("L"))
    save("alpha.webp", clear, rgb=np.asarray(image), lossless=True, exact=True)
    other = ImageOps.invert(image)
    save("animated.webp", image, lossless=True, save_all=True, append_images=[other])
    exif = Image.Exif()
    exif[0x112] = 8
    save("turned8.webp", image, lossless=True, exif=exif)
    flat = image.quantize(64)
    save("plain.gif", flat)
    save("interlaced.gif", flat, interlace=1)
    save("animated.gif", flat, save_all=True, append_images=[other.quantize(64)])
    index = np.asarray(flat) == 9
    black = np.asarray(flat.convert("RGB")).copy()
    black[index] = 0
    save("clear.gif", flat, rgb=black, transparency=9)


def make_tiff(image, rgb):
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        save(f"{compression}.tif", image, compression=compression)
    save("strips.tif", image, compression="tiff_lzw", strip_size=31 * 3 * 5)
    save("grey.tif", image.convert("L"), compression="tiff_lzw")
    save("bits1.tif", image.convert("1"), compression="group4")
    save("palette.tif", image.quantize(100))
    save("cmyk.tif", image.convert("CMYK"), compression="tiff_lzw")
    save("jpeg.tif", image, most=2, mean=0.1, compression="jpeg", quality=90)
    save("pages.tif", image, compression="tiff_lzw", save_all=True, append_images=[ImageOps.invert(image)])
    save("turned3.tif", image, compression="tiff_lzw", tiffinfo={274: 3})
    write("tiles.tif", tiff(rgb, tile=16), rgb)
    write("big_endian.tif", tiff(rgb, big_endian=True), rgb)
    deep = rgb.astype(np.uint16) * 256 + np.arange(rgb.size, dtype=np.uint16).reshape(rgb.shape) % 256
    write("rgb16.tif", tiff(deep), rgb)
    write("rgb16_big_endian.tif", tiff(deep, big_endian=True, tile=16), rgb)
    write("grey16.tif", tiff(deep[..., :1], photometric=1), np.repeat(rgb[..., :1], 3, -1))
    write("white_is_zero.tif", tiff(255 - rgb[..., :1], photometric=0), np.repeat(rgb[..., :1], 3, -1))


def make_bmp(image, rgb):
    save("plain.bmp", image)
    save("grey.bmp", image.convert("L"))
    save("bits1.bmp", image.convert("1"))
    save("palette.bmp", image.quantize(90))
    write("bits32.bmp", bmp(rgb, 32), rgb)
    write("masks.bmp", bmp(rgb, 32, masks=True), rgb)
    write("top_down.bmp", bmp(rgb, 24, top_down=True), rgb)
    write("core.bmp", bmp(rgb, 24, core=True), rgb)
    write("bits4.bmp", bmp(rgb, 4), np.stack([rgb[..., 0] // 17 * 17 // 2, 255 - rgb[..., 0] // 17 * 17, rgb[..., 0] // 17 * 17], -1))
    for name in ("bits32.bmp", "masks.bmp", "top_down.bmp", "core.bmp", "bits4.bmp"):
        assert (pillow(name) == np.frombuffer(blob, np.uint8)[checks_of(name)].reshape(rgb.shape)).all(), name


def checks_of(name):
    at, (h, w) = next((c[4], c[3]) for c in checks if c[0] == name)
    return slice(at, at + h * w * 3)


def boxes(image, rows, columns):
    """Means over boxes, rounded half up. Pillow's reduce rounds some halves down."""
    a = np.asarray(image).astype(np.int64)
    means = [[(2 * box.sum((0, 1)) + n) // (2 * n)
              for x in range(0, a.shape[1], columns)
              for box in [a[y:y + rows, x:x + columns]] for n in [box.shape[0] * box.shape[1]]]
             for y in range(0, a.shape[0], rows)]
    means = np.array(means)
    assert np.abs(means - np.asarray(image.reduce((columns, rows))).astype(np.int64)).max() <= 1
    return Image.fromarray(means.astype(np.uint8))


def make_reduced():
    """Reduction as Pillow does it: JPEG's draft, then boxes."""
    big = Image.fromarray(photo(131, 187))
    big.save(os.path.join(OUT, "large.png"))
    for mode, size in (("STRETCH", (20, 90)), ("STRETCH", (65, 93)), ("CROP", (20, 90)), ("CROP", (10, 10)), ("PAD", (20, 90)),
                       ("PAD", (40, 10))):
        down, right = max(131 // size[0], 1), max(187 // size[1], 1)
        if mode != "STRETCH":
            down = right = (min if mode == "CROP" else max)(down, right)
        expect("large.png", np.asarray(boxes(big, down, right)), mode, size)
    turned = Image.Exif()
    turned[0x112] = 6
    big.save(os.path.join(OUT, "large.jpg"), quality=85, exif=turned)
    with Image.open(os.path.join(OUT, "large.jpg")) as image:
        for mode, size, scale in (("STRETCH", (90, 20), 2), ("STRETCH", (90, 65), 2), ("STRETCH", (60, 30), 2),
                                  ("STRETCH", (10, 12), 8), ("CROP", (30, 50), 2), ("PAD", (40, 40), 4)):
            part = Image.open(os.path.join(OUT, "large.jpg"))
            part.draft("RGB", (187 // scale, 131 // scale))
            assert part.size == (-(-187 // scale), -(-131 // scale)), part.size
            rows, columns = part.size[1] // size[1], part.size[0] // size[0]  # the file lies on its side
            rows, columns = max(rows, 1), max(columns, 1)
            if mode != "STRETCH":
                rows = columns = (min if mode == "CROP" else max)(rows, columns)
            small = boxes(part, rows, columns).transpose(Image.Transpose.ROTATE_270)
            expect("large.jpg", np.asarray(small), mode, size, most=2, mean=0.1)


def main():
    os.makedirs(OUT, exist_ok=True)
    rgb = photo(23, 31)
    image = Image.fromarray(rgb)
    make_jpeg(image)
    make_png(image, rgb)
    make_webp_gif(image)
    make_tiff(image, rgb)
    make_bmp(image, rgb)
    make_reduced()
    with open(os.path.join(OUT, "expected.gz"), "wb") as f:
        f.write(gzip.compress(bytes(blob), 9, mtime=0))
    with open(os.path.join(HERE, "image_goldens.h"), "w") as f:
        f.write("/* Made by make_images.py: what Pillow sees in data/images/. */\n"
                '#include "dft/config.h"\n\n'
                "typedef struct image_check {\n  const char *file;\n  dft_resize mode;\n"
                "  int out_height, out_width, height, width, offset, most;\n  double mean;\n} image_check;\n\n"
                "/* clang-format off */\nstatic const image_check image_checks[] = {\n")
        for name, mode, size, shape, at, most, mean in checks:
            f.write(f'    {{"{name}", DFT_RESIZE_{mode}, {size[0]}, {size[1]}, {shape[0]}, {shape[1]}, {at}, {most}, {mean}}},\n')
        f.write("};\n/* clang-format on */\n")


main()
