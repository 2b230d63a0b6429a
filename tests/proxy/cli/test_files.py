"""Files that commands write: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cli.files import written


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    """Until then nobody takes a part for the whole."""
    path = tmp_path / "a"
    with written(path, replace=False) as partial:
        partial.write_text("all of it")
        assert not path.exists()
        assert partial.stat().st_mode & 0o077 == 0
    assert (_names(tmp_path), path.read_text()) == (["a"], "all of it")


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """And nothing else."""
    path = tmp_path / "a"
    path.write_text("before")
    with pytest.raises(TypeError), written(path, replace=True) as partial, partial.open("w") as file:
        file.writelines(["half of it", 5])  # type: ignore[list-item]
    assert (_names(tmp_path), path.read_text()) == (["a"], "before")


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Two commands at once: the later one is told."""
    path = tmp_path / "a"
    with pytest.raises(FileExistsError, match="there is a file"), written(path, replace=False):
        path.write_text("the other's")
    assert (_names(tmp_path), path.read_text()) == (["a"], "the other's")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Before anything is copied, and not by the name of a file that nobody has asked for."""
    with pytest.raises(FileNotFoundError, match="there is no folder"), written(tmp_path / "b/a", replace=True):
        pass
