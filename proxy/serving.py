"""`farebox serve`: one process that answers requests, with the scheduler and further workers as its children.

A child that dies is started again, more slowly each time; a crash of the scheduler never touches a request. The
children watch their parent and end with it, also when it is killed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.log import set_up_log
from config.settings import LoadedSettings, load_settings
from proxy.app import Farebox, farebox, listen
from proxy.watching import reload

log = logging.getLogger(__name__)

STEADY_S = 30
"""A child that ran this long is considered well again, and its next restart does not wait."""

MAX_PAUSE_S = 30

SWITCH_S = 0.0005
"""How long Python lets one thread go on while another waits. SQLite's writer gives way at each statement; with the
usual 5 ms between its turns, the requests of a busy process would wait ten times as long for their commit.
"""

GC_THRESHOLD = 10_000
"""Objects between two looks for garbage in cycles. A request leaves none; the usual 700 are made by some dozens."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says. Further workers have `inherited` the descriptor of a listening socket from the
    process `parent_pid`.
    """

    config: Path
    workers: int = 1
    jobs: bool = True
    inherited: int | None = None
    parent_pid: int | None = None


async def serve(options: ServeOptions, announce: Callable[[Farebox], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT. Raises InvalidDocument, CannotStart, SchemaOutdated or StoreUnavailable."""
    settings = load_settings(options.config, os.environ)
    set_up_log(settings.values.log)
    await serve_settings(settings, options, announce)


async def serve_settings(settings: LoadedSettings, options: ServeOptions, announce: Callable[[Farebox], None]) -> None:
    """`serve` with settings that are loaded already."""
    sys.setswitchinterval(SWITCH_S)
    if options.inherited is not None:
        public, admin = socket.socket(fileno=options.inherited), None
        public.setblocking(False)
    else:
        public, admin = listen(settings.values.listen), listen(settings.values.admin.listen)
    allow_descriptors()
    stop = asyncio.Event()
    # Until there is something to reload, asking for it must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    async with farebox(settings, public, admin) as running:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        reloads: set[asyncio.Task[object]] = set()

        def reload_soon() -> None:
            reloads.add(asyncio.create_task(reload(running.services, by="signal")))

        loop.add_signal_handler(signal.SIGHUP, reload_soon)
        children = [asyncio.create_task(_keep_running(child)) for child in _children(options, public)]
        settle_memory()
        announce(running)
        parent = asyncio.create_task(_parent_gone(options.parent_pid, stop)) if options.parent_pid is not None else None
        await stop.wait()
        log.info("stopping: new requests are refused, running ones may finish")
        for child in children:
            child.cancel()
        await asyncio.gather(*children, return_exceptions=True)
        if parent is not None:
            parent.cancel()


def allow_descriptors() -> None:
    """As many open files as the system lets this process have: each exchange takes two, and the usual 1024 are few.

    The usual limit is that low for the sake of programs that wait with `select`, which know no higher descriptors.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where this fails the usual limit remains, and so does everything else.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def settle_memory() -> None:
    """Once everything is loaded: modules and settings stay for ever, so the garbage collector need not look at them.

    A full collection of them takes as long as a hundred requests, and every request waits for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


@dataclass(frozen=True, slots=True)
class _Child:
    """A child process: its command, and the sockets it inherits."""

    command: Sequence[str]
    sockets: Sequence[int] = ()


def _children(options: ServeOptions, public: socket.socket) -> list[_Child]:
    """The child processes of the main one.

    They are told who that is: a child that comes up after its parent's death could not find out. Only workers get the
    socket, since whoever has it keeps its port from the next start.
    """
    if options.inherited is not None:
        return []
    farebox_command = [sys.executable, "-m", "proxy.cli"]
    common = ["--config", str(options.config), "--parent-pid", str(os.getpid())]
    listener = public.fileno()
    worker = _Child([*farebox_command, "serve", *common, "--no-jobs", "--inherited", str(listener)], [listener])
    scheduler = _Child([*farebox_command, "jobs", *common])
    return [worker] * (options.workers - 1) + ([scheduler] if options.jobs else [])


async def _keep_running(child_process: _Child) -> None:
    """Run a child, and start it again when it ends; end it when cancelled."""
    pause_s = 1.0
    while True:
        started = asyncio.get_running_loop().time()
        child = await asyncio.create_subprocess_exec(
            *child_process.command, pass_fds=child_process.sockets, stdin=asyncio.subprocess.DEVNULL
        )
        try:
            status = await child.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                child.terminate()
            await child.wait()
            raise
        if asyncio.get_running_loop().time() - started > STEADY_S:
            pause_s = 1.0
        name = child_process.command[3]
        log.error("%s ended with status %d; starting it again in %.0f s", name, status, pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, MAX_PAUSE_S)


async def _parent_gone(parent_pid: int, stop: asyncio.Event) -> None:
    """A worker whose parent was killed must not go on alone on its port."""
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - the system tells nobody; asking is the only way
        await asyncio.sleep(1)
    stop.set()
