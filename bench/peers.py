"""Other proxies that check nothing, where this machine has them: nginx and Caddy, each on the core of the proxies."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from house import PROXY_CORE, UPSTREAM, started, wait_for

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream backend {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
CADDY = """
{{
  admin off
  auto_https off
  log {{
    level ERROR
  }}
}}
http://127.0.0.1:{port} {{
  reverse_proxy 127.0.0.1:{upstream}
}}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """`options` start it with the file that `settings` becomes."""

    name: str
    program: str
    port: int
    settings: str
    options: tuple[str, ...]


PEERS = (
    Peer("nginx", "nginx", 9330, NGINX, ("-p", "{folder}", "-c", "{file}")),
    Peer("Caddy", "caddy", 9331, CADDY, ("run", "--adapter", "caddyfile", "--config", "{file}")),
)


@contextmanager
def peers() -> Iterator[list[Peer]]:
    """Those that are here, serving."""
    with ExitStack() as stack:
        found = [peer for peer in PEERS if shutil.which(peer.program)]
        for peer in found:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farebox-bench-")))
            # nginx gives its workers to another user, who has to get in.
            folder.chmod(0o755)
            file = folder / "settings"
            file.write_text(peer.settings.format(folder=folder, port=peer.port, upstream=UPSTREAM))
            options = [option.format(folder=folder, file=file) for option in peer.options]
            stack.enter_context(started(PROXY_CORE, peer.program, *options, environ={**os.environ, "GOMAXPROCS": "1"}))
            wait_for(f"http://127.0.0.1:{peer.port}/open")
        yield found
