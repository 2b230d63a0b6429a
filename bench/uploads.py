"""A large upload whose form names the model: how fast it passes, and how much memory it takes.

    python bench/uploads.py [--mib 500] [--rounds 3] [--json] [--write]

The same form goes through a metered route, which reads its fields and watches its files stream by, and through an open
one, which does not look at it, in turns. `--write` writes the table to docs/performance.md.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Iterator
from statistics import median

from figures import Figure, add_options, at_most, conditions, report
from house import FAREBOX, folder_of_settings, house, paid
from streams import Peak

WAYS = {"not looked at": "/streams/bytes", "fields read, metered": "/streams/form"}

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


def measured(options: argparse.Namespace) -> Iterator[Figure]:
    """Each way in turn, so that a busy moment of the machine meets all of them."""
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    growths: dict[str, list[float]] = {name: [] for name in WAYS}
    with folder_of_settings() as folder, house(folder) as running:
        for path in WAYS.values():
            upload(path, 8)
        for _ in range(options.rounds):
            for name, path in WAYS.items():
                with Peak(running.farebox) as peak:
                    speeds[name].append(upload(path, options.mib))
                growths[name].append(peak.growth_mib)
    for name in WAYS:
        yield Figure(f"form, {name}", median(speeds[name]), "MiB/s")
        yield at_most(f"form, {name}, memory grows by", max(growths[name]), "MiB", 16)
    unread, read = (median(speeds[name]) for name in WAYS)
    yield Figure("form, fields read, to one that is not looked at", read / unread, "x")


def main() -> None:
    parser = argparse.ArgumentParser(description="Large uploads whose form names the model.")
    add_options(parser, seconds=False)
    parser.add_argument("--mib", type=int, default=500, help="size of the file in the form")
    options = parser.parse_args()
    report(measured(options), options, "uploads.py", conditions(options, f"forms of {options.mib} MiB"))


if __name__ == "__main__":
    main()
