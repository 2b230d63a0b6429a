"""A large upload whose form names the model: how fast it passes, and how much memory it takes.

Usage: python bench/uploads.py [MEBIBYTES]

The same form goes through a metered route, which reads its fields and watches its files stream by, and through an open
one, which does not look at it.
"""

from __future__ import annotations

import socket
import sys
import time

from house import FAREBOX, folder_of_settings, house, paid
from streams import Peak

HEAD = (
    b'--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o-mini\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
)
TAIL = b"\r\n--xyz--\r\n"


def upload(path: str, mib: int) -> float:
    """Mebibytes in a second."""
    piece = bytes(range(256)) * 1024
    headers = {"Host": "a", "Connection": "close", **paid(), "Content-Type": "multipart/form-data; boundary=xyz"}
    size = len(HEAD) + mib * 2**20 + len(TAIL)
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection(("127.0.0.1", FAREBOX)) as connection:
        started = time.perf_counter()
        connection.sendall("\r\n".join([*lines, f"Content-Length: {size}", "", ""]).encode() + HEAD)
        for _ in range(mib * 2**20 // len(piece)):
            connection.sendall(piece)
        connection.sendall(TAIL)
        answer = b""
        while found := connection.recv(2**16):
            answer += found
    assert answer.endswith(b"%d" % size), answer
    return mib / (time.perf_counter() - started)


def main(mib: int) -> None:
    with folder_of_settings() as folder, house(folder) as running:
        print(f"{'a form of ' + str(mib) + ' MiB':30} {'MiB/s':>8} {'growth in MiB':>15}")
        for name, path in (("not looked at", "/streams/bytes"), ("fields read, metered", "/streams/form")):
            upload(path, 8)
            with Peak(running.farebox) as peak:
                speed = upload(path, mib)
            print(f"{name:30} {speed:8.0f} {peak.growth_mib:15.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
