"""The real app, started as a visitor's terminal would, and a real browser to look at it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvicorn
from starlette.applications import Starlette

from lnres.ui import server

ROOT = Path(__file__).parents[1]
READY = "() => window.lnres?.stats().painted > 0 && lnres.state().step >= 0"
OFFLINE = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # what asks another host fails, and is seen
)


@dataclass
class App:
    """An app that answers at ``url``; ``started`` is when its command was given."""

    url: str
    process: psutil.Process
    log: Path
    started: float

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        return [
            child
            for child in self.process.children()
            if any("spawn_main" in word for word in child.cmdline())
        ]


def until(condition, timeout: float = 30.0):
    """What a condition returns as soon as it is true; ``TimeoutError`` if it never is."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout} seconds")
        time.sleep(0.02)
    return value


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as reply:
        return reply.status == 200
    return False


@contextmanager
def running(log: Path) -> Iterator[App]:
    """``streamlit run app.py`` on a free port, ended with its workers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    started = time.time()
    with log.open("wb") as sink:
        child = subprocess.Popen(
            [*command, "--server.address", "127.0.0.1"],
            cwd=ROOT,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        app = App(f"http://127.0.0.1:{port}", psutil.Process(child.pid), log, started)
        until(lambda: _answers(app.url) or child.poll() is not None, 60)
        if child.poll() is not None:
            raise OSError(f"the app has ended: {log.read_text()}")
        yield app
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(15)
        with suppress(ProcessLookupError):  # as it should be: nothing is left
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@contextmanager
def serving() -> Iterator[str]:
    """The host and port of a server in this process that has the app's routes, and nothing of Streamlit."""
    web = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=server.routes()), "127.0.0.1", 0, ws="websockets-sansio", log_level="error"
        )
    )
    thread = threading.Thread(target=web.run)
    thread.start()
    try:
        yield f"127.0.0.1:{until(lambda: web.started and web.servers[0].sockets[0].getsockname()[1])}"
    finally:
        web.should_exit = True
        thread.join()


def browser(playwright):
    """The system's Chromium, which reaches this machine only."""
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[OFFLINE])
