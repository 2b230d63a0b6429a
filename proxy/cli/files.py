"""Files that commands write: whole or not at all, and never over another one unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(path: Path, *, replace: bool) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place at the end; a failure leaves neither.

    Raises FileExistsError unless `replace`, also when the other file has come while this one was written.
    """
    _refuse(path, replace)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # Made here, so that nobody else may read it whatever is written, and to find out at once that it cannot be.
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield partial
        _refuse(path, replace)
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _refuse(path: Path, replace: bool) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}; make it, or name another one")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    if path.exists() and not replace:
        raise FileExistsError(f"there is a file {path} already; name another one, or add --force to replace it")


def _sync(path: Path) -> None:
    """What is told to be written is on the disk: also the name of it, which is in its folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
