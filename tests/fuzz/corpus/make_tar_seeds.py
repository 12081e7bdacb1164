#!/usr/bin/env python3
"""Makes the seeds of fuzz_tar and fuzz_manifest: run it here. Python's tarfile wrote the tar files."""
import io
import tarfile

BMP = bytes.fromhex("424d3a0000000000000036000000280000000100000001000000010018000000000000000000000000000000000000000000000000000a141e00")


def write(name, members, kind):
    with tarfile.open("tar/" + name, "w", format=kind) as tar:
        for member, data in members:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def main():
    sample = [("a/1.bmp", BMP), ("a/1.cls", b"3\n"), ("README", b"x" * 600), ("a/2.jpg", b""), ("a/2.json", b'{"label": 4}')]
    long_name = "d" * 120 + "/" + "n" * 120
    long_sample = [(long_name + ".bmp", BMP), (long_name + ".cls", b"1")]
    write("ustar.tar", sample, tarfile.USTAR_FORMAT)
    write("gnu_long.tar", long_sample, tarfile.GNU_FORMAT)
    write("pax_long.tar", long_sample, tarfile.PAX_FORMAT)
    whole = open("tar/ustar.tar", "rb").read()
    for name in ("ustar", "gnu_long", "pax_long"):  # without the padding to a record of 10 KiB
        data = open("tar/%s.tar" % name, "rb").read().rstrip(b"\0")
        open("tar/%s.tar" % name, "wb").write(data + bytes(-len(data) % 512 + 1024))
    open("tar/truncated.tar", "wb").write(whole[:800])
    open("tar/packed.tar", "wb").write(b"\x1f\x8b\x08" + bytes(700))
    huge = bytearray(whole[:512])
    huge[124:136] = b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7
    huge[148:156] = b" " * 8
    huge[148:156] = b"%06o\0 " % sum(huge)
    open("tar/huge.tar", "wb").write(bytes(huge) + bytes(1024))
    texts = {"cls": b"\0" + b" 17\n", "json": b"\1" + b'{"x": [1.5, {"y": null}], "label": 17}', "cls_key": b"\1" + b'{"cls": 0}',
             "range": b"\2" + b"s-{000..012}.tar", "words": b"\2" + b"{s,t}-{a,b}*[0-9]?.tar", "glob": b"\2" + b"*.tar",
             "names": b"\3" + b"ant\nbee hive\r\ncat"}
    for name, data in texts.items():
        open("manifest/" + name, "wb").write(data)


main()
