"""Backends behind TLS: nobody is talked to who cannot prove who he is. The authorities are the tests' own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from config.findings import InvalidDocument
from config.quantities import Address
from config.settings import load_settings
from config.upstreams import Upstream as UpstreamSettings
from proxy.app import farebox, listen
from proxy.upstream import trust
from proxy.upstream.client import Upstream, UpstreamBroken, UpstreamUnreachable
from tests.flows.raw import OK
from tests.proxy.upstream.backend import ask, outgoing


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return "ca.pem"


class Behind:
    """What a backend behind TLS has seen."""

    def __init__(self) -> None:
        self.url = ""
        self.answer = OK
        self.ragged = False
        self.names: list[str | None] = []
        self.protocols: list[str | None] = []
        self.requests: list[bytes] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head)
                writer.write(self.answer)
                await writer.drain()
                if b"Content-Length" not in self.answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        if self.ragged:
            # The connection ends below TLS, as anybody in between could end it.
            writer.transport.abort()
        writer.close()


@asynccontextmanager
async def behind(certificate: trustme.LeafCert) -> AsyncIterator[Behind]:
    result, context = Behind(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda _, name, __: result.names.append(name)
    server = await asyncio.start_server(result.connected, "127.0.0.1", 0, ssl=context)
    result.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    yield result
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)


def client(url: str, folder: Path, ca: str | None) -> Upstream:
    settings = UpstreamSettings.model_validate({"url": url, **({"ca": ca} if ca else {})})
    return Upstream("backend", settings, trust.context_of(settings, folder))


async def test_a_backend_with_a_good_certificate(authority: trustme.CA, ca: str, tmp_path: Path) -> None:
    """Small and large bodies pass, the connection is used again, the name is sent, and only HTTP/1.1 is agreed on."""
    async with behind(authority.issue_cert("localhost")) as server, client(server.url, tmp_path, ca) as upstream:
        assert await ask(upstream, outgoing("POST", body=b"abc")) == b"ok"
        large = b"x" * 2**21
        server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(large) + large
        assert await ask(upstream) == large
        server.answer = OK
        assert await ask(upstream) == b"ok"
        assert len(server.requests) == 3
        assert (server.names, server.protocols) == (["localhost"], ["http/1.1"])


async def test_a_large_answer_holds_the_backend_back(authority: trustme.CA, ca: str, tmp_path: Path) -> None:
    """Also behind TLS nothing is lost when reading stops and goes on."""
    body = b"0123456789abcdef" * 2**17
    async with behind(authority.issue_cert("localhost")) as server, client(server.url, tmp_path, ca) as upstream:
        server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        received = b""
        async with await upstream.send(outgoing()) as answer:
            while piece := await answer.read():
                received += piece
                if len(received) < 2**20:
                    await asyncio.sleep(0.005)
        assert received == body


@pytest.mark.parametrize("wrong", ["name", "authority", "system"])
async def test_a_certificate_that_cannot_be_trusted(authority: trustme.CA, ca: str, tmp_path: Path, wrong: str) -> None:
    """For another name, from another authority, or from none that the system knows: nothing is sent, and it is told."""
    certificate = authority.issue_cert("elsewhere" if wrong == "name" else "localhost")
    if wrong == "authority":
        trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    async with behind(certificate) as server:
        async with client(server.url, tmp_path, None if wrong == "system" else ca) as upstream:
            with pytest.raises(UpstreamUnreachable, match="certificate cannot be trusted") as caught:
                await ask(upstream)
        assert ("not valid for 'localhost'" in str(caught.value)) == (wrong == "name")
        assert server.requests == []


async def test_no_tls_behind_https(tmp_path: Path, ca: str) -> None:
    """A backend that speaks plain HTTP there is not talked to."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(100))
        writer.write(OK)
        writer.close()

    seen: list[bytes] = []
    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with client(f"https://localhost:{server.sockets[0].getsockname()[1]}", tmp_path, ca) as upstream:
        with pytest.raises(UpstreamUnreachable):
            await ask(upstream)
    server.close()
    await server.wait_closed()
    assert b"HTTP" not in seen[0]


async def test_an_answer_that_ends_below_tls_is_cut(authority: trustme.CA, ca: str, tmp_path: Path) -> None:
    """What lasts until the connection ends must end in TLS: anybody could end it below (RFC 9112 §9.8)."""
    async with behind(authority.issue_cert("localhost")) as server, client(server.url, tmp_path, ca) as upstream:
        server.answer = b"HTTP/1.1 200 OK\r\n\r\nto the end"
        assert await ask(upstream) == b"to the end"
        server.ragged = True
        with pytest.raises(UpstreamBroken):
            await ask(upstream)


SETTINGS = """
identity: {api_keys: true}
upstreams:
  one: {url: "https://localhost:1", ca: ca.pem}
  two: {url: "https://localhost:2", ca: missing.pem}
  three: {url: "https://localhost:3", ca: empty.pem}
routes:
  - {id: open, match: "* /**", upstream: one, access: open}
"""


async def test_authorities_that_cannot_be_read_are_findings(ca: str, tmp_path: Path) -> None:
    """In their place in the file, all at once, before anything serves."""
    (tmp_path / "empty.pem").write_text("nothing")
    (tmp_path / "farebox.yaml").write_text(SETTINGS)
    settings = load_settings(tmp_path / "farebox.yaml", {})
    found = list(trust.findings_of(settings))
    assert [(finding.line, finding.code) for finding in found] == [
        (5, "unusable-authorities"),
        (6, "unusable-authorities"),
    ]
    assert "No such file" in found[0].message
    assert "no certificate" in found[1].message
    listener = listen(Address("127.0.0.1", 0))
    with pytest.raises(InvalidDocument):
        async with farebox(settings, listener, None):
            pass
    listener.close()
