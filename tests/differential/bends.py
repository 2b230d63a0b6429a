"""The ways to bend a request, by kind: what attacks on proxies are made of, and what careless clients send.

Sources: RFC 9112 §11.2, RFC 9110 §17, and the published attacks on the framing of HTTP/1.1. Importing this file fills
`drafts.KINDS`.
"""

from __future__ import annotations

from random import Random

from tests.differential.drafts import Draft, bends

CONTROLS = [bytes([byte]) for byte in (*range(0x20), 0x7F)]
ODD_BYTES = [
    b"\x80",
    b"\xa0",
    b"\xc0",
    b"\xff",
    b"\xc3\xa9",
    b"\xe2\x80\x8b",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xef\xbc\x8d",
]
NAMES = [b"X-A", b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"Content-Type", b"Cookie", b"Via"]


@bends("framing")
def two_framings(draft: Draft, random: Random) -> None:
    more = [b"Content-Length: %d" % random.choice([0, 1, 3, len(draft.body)]), b"Transfer-Encoding: chunked"]
    draft.framing.insert(random.randrange(len(draft.framing) + 1), random.choice(more))


@bends("framing")
def odd_length(draft: Draft, random: Random) -> None:
    size = b"%d" % len(draft.body)
    odd = [
        b"+" + size,
        b"-" + size,
        b"0x" + size,
        b"0" + size,
        size + b".0",
        size + b" ",
        b"\t" + size,
        size + b"," + size,
    ]
    odd += [b"", b" ", size + b"\x0b", b"1_0", b"9" * 25, size + b" " + size, size + b"e0", b"\xd9\xa3", b'"%b"' % size]
    draft.framing = [b"Content-Length: " + random.choice(odd)]


@bends("framing")
def odd_coding(draft: Draft, random: Random) -> None:
    odd = [
        b"xchunked",
        b"chunked, chunked",
        b"gzip, chunked",
        b"chunked, gzip",
        b"identity",
        b"chunked, identity",
        b"CHUNKED",
    ]
    odd += [
        b"chunked;q=1",
        b",chunked",
        b"chunked,",
        b"chunked\x0b",
        b"\x0bchunked",
        b'"chunked"',
        b"chunk",
        b"",
        b"chunked ",
    ]
    odd += [b"cow", b"chunked\x00", b"deflate", b"\tchunked"]
    draft.framing = [b"Transfer-Encoding: " + random.choice(odd)]


@bends("framing")
def odd_framing_name(draft: Draft, random: Random) -> None:
    if draft.framing:
        name, _, value = draft.framing[0].partition(b":")
        odd = [
            name.upper(),
            name.lower(),
            name.replace(b"-", b"_"),
            name + b" ",
            b" " + name,
            name + b"\t",
            b"X-" + name,
        ]
        odd += [
            name.replace(b"-", b"\xe2\x80\x90"),
            name + b"\x00",
            name.replace(b"e", b"\xd0\xb5"),
            name[:-1],
            name + b"\r",
        ]
        draft.framing[0] = random.choice(odd) + b":" + value


@bends("framing")
def another_size(draft: Draft, random: Random) -> None:
    draft.framing = [b"Content-Length: %d" % max(len(draft.body) + random.choice([-9, -1, 1, 9]), 0)]


@bends("chunks")
def odd_chunk_size(draft: Draft, random: Random) -> None:
    size = b"%x" % len(draft.smuggled)
    odd = [
        b"0x" + size,
        b"+" + size,
        b"-" + size,
        b" " + size,
        size + b" ",
        b"0" * 9 + size,
        size.upper(),
        size + b"\t",
    ]
    odd += [
        b"1" + b"0" * 15 + size,
        size + b";a=b",
        size + b" ;a",
        size + b";a\rb",
        size + b";a\nb",
        size + b';a="\r\n"',
        b"",
    ]
    odd += [
        size + b"\x00",
        size + b"," + size,
        b"_" + size,
        b"\xd9\xa3",
        b"f" * 17,
        size + b"\x0b",
        size + b"\r",
        size + b";\x00",
    ]
    draft.method, draft.framing = b"POST", [b"Transfer-Encoding: chunked"]
    draft.body = random.choice(odd) + b"\r\n" + draft.smuggled + b"\r\n0\r\n\r\n"


@bends("chunks")
def odd_chunk_end(draft: Draft, random: Random) -> None:
    size = b"%x\r\n" % len(draft.smuggled)
    odd = [
        size + draft.smuggled + b"0\r\n\r\n",
        size + draft.smuggled + b"\n0\r\n\r\n",
        size + draft.smuggled + b"\r0\r\n\r\n",
    ]
    odd += [
        size + draft.smuggled + b"\r\n0\r\n",
        size + draft.smuggled + b"\r\n0\n\n",
        size + draft.smuggled + b"\r\n0\r\n\r",
        size + draft.smuggled,
    ]
    odd += [
        size + draft.smuggled + b"xx0\r\n\r\n",
        size + draft.smuggled + b"\r\n00000\r\n\r\n",
        size + draft.smuggled + b"\r\n0\r\r\n\n",
    ]
    draft.method, draft.framing, draft.body = b"POST", [b"Transfer-Encoding: chunked"], random.choice(odd)


@bends("chunks")
def trailers(draft: Draft, random: Random) -> None:
    odd = [
        b"X-A: 1",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Host: evil",
        b"X-Farebox-User: root",
        b"X : 1",
    ]
    odd += [
        b" X: 1",
        b"X",
        b": 1",
        b"X: a\r\n b",
        b"X: \x00",
        b"Authorization: x",
        b"X: a\nGET /flat HTTP/1.1",
        b"X\xff: 1",
    ]
    lines = random.sample(odd, random.choice([1, 2]))
    draft.method, draft.framing = b"POST", [b"Transfer-Encoding: chunked"]
    draft.body = b"3\r\nabc\r\n0\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"


@bends("header names")
def odd_name(draft: Draft, random: Random) -> None:
    odd = random.choice([b" ", b"\t", b"\x00", b"\x0b", b"(", b"/", b'"', b"[", b"@", b"=", b"", *ODD_BYTES])
    name = random.choice(NAMES)
    at = random.randrange(len(name) + 1)
    draft.lines.insert(random.randrange(len(draft.lines) + 1), name[:at] + odd + name[at:] + b": 3")


@bends("header names")
def no_name(draft: Draft, random: Random) -> None:
    draft.lines.append(random.choice([b": x", b":", b"x", b" ", b"\t: x", b"X-A", b"::", b"X-A:: x", b"X-A;: x"]))


@bends("header names")
def spellings(draft: Draft, random: Random) -> None:
    names = [b"x_a", b"X.A", b"X-A", b"x-a", b"X~A", b"X'A", b"HTTP_X_A", b"X--A", b"-", b"_", b"!", b"X_Forwarded_For"]
    draft.lines += [name + b": %d" % at for at, name in enumerate(random.sample(names, 4))]


@bends("header values")
def control_in_value(draft: Draft, random: Random) -> None:
    odd = random.choice([*CONTROLS, *ODD_BYTES])
    draft.lines.append(random.choice([b"X-A: %b", b"X-A: a%bb", b"X-A: a%b", b"Content-Type: text/%bplain"]) % odd)


@bends("header values")
def odd_value(draft: Draft, random: Random) -> None:
    odd = [
        b"",
        b" " * 50,
        b"\t a \t",
        b"a" * 9000,
        b"a,b",
        b'"a',
        b"=?utf-8?q?a?=",
        b"\xc2\xa0a\xc2\xa0",
        b"a;b=c",
        b"\\",
    ]
    odd += [b"a  b", b"a\tb", b"%0d%0aX-B: 1", b"\\r\\n", b"caf\xc3\xa9", b"\xe5\x98\x8a\xe5\x98\x8dX-B: 1", b"X-B: 1"]
    draft.lines.append(random.choice([b"X-A: ", b"X-A:", b"X-A:\t", b"Cookie: "]) + random.choice(odd))


@bends("folding")
def folded(draft: Draft, random: Random) -> None:
    fold = random.choice([b"\r\n ", b"\r\n\t", b"\n ", b"\r ", b"\r\n\r\n ", b"\r\n  \r\n "])
    lines = [b"X-A: a%bb", b"X-A:%ba", b"Transfer-Encoding:%bchunked", b"Content-Length:%b3", b"Host: a%bb"]
    draft.lines.append(random.choice(lines) % fold)


@bends("folding")
def first_line_folded(draft: Draft, random: Random) -> None:
    draft.hosts[:1] = [random.choice([b" ", b"\t"]) + line for line in draft.hosts[:1]]


@bends("line ends")
def odd_ends(draft: Draft, random: Random) -> None:
    draft.end = random.choice([b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\x0b\r\n", b"\x85", b"\xe2\x80\xa8"])


@bends("line ends")
def one_odd_end(draft: Draft, random: Random) -> None:
    odd = random.choice([b"\n", b"\r", b"\r\r", b"\n\n", b"\n\r", b"\x0b", b"\x0c", b"\x1c", b"\xc2\x85"])
    draft.lines.append(
        b"X-A: a" + odd + random.choice([b"X-B: b", b"Content-Length: 5", b"Transfer-Encoding: chunked"])
    )


@bends("line ends")
def before_the_line(draft: Draft, random: Random) -> None:
    draft.before = random.choice(
        [b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\r", b"\x16\x03", b"\xef\xbb\xbf", b"X"]
    )


@bends("targets")
def odd_target(draft: Draft, random: Random) -> None:
    path = draft.prefix + draft.path
    odd = [
        b"http://app.example.com" + path,
        b"http://evil" + path,
        b"*",
        b"",
        path[1:],
        b"/" + path,
        path + b"#x",
        b"//evil" + path,
    ]
    odd += [
        path.replace(b"/", b"\\"),
        b"\\" + path,
        path.upper(),
        path + b"/",
        path + b"/..",
        path + b"/%2e%2e/y",
        path + b"%2fy",
    ]
    odd += [
        path + b"%00",
        path + b"%0d%0aX: y",
        path + b"%zz",
        path + b";x=y",
        path + b"/.",
        b"evil:443",
        b"@evil" + path,
    ]
    odd += [
        b"ftp://x" + path,
        b"?" + path,
        path + b"?a=b#c",
        path + b"??",
        path + b"?a=%zz&b=\\",
        path + b"[]{}|^",
        path + b'"<>`',
    ]
    draft.target = random.choice(odd)


@bends("targets")
def bytes_in_target(draft: Draft, random: Random) -> None:
    odd = random.choice([*CONTROLS, *ODD_BYTES, b" ", b"%20", b"%", b"\\", b"|"])
    target = draft.prefix + draft.path
    at = random.randrange(1, len(target) + 1)
    draft.target = target[:at] + odd + target[at:]


@bends("hosts")
def odd_hosts(draft: Draft, random: Random) -> None:
    odd = [
        b"",
        b" ",
        b"a/b",
        b"a@b",
        b"a b",
        b"a,b",
        b"a#b",
        b"a?b",
        b"[::1]",
        b"[",
        b"a:",
        b"a:b",
        b"a:99999",
        b"\xc3\xa9",
    ]
    odd += [
        b"a\tb",
        b"127.0.0.1:80",
        b"a\\b",
        b"%41",
        b"http://a",
        b"a;b",
        b".",
        b"a\x00b",
        b"169.254.169.254",
        b"a" * 300,
    ]
    draft.hosts = [b"Host: " + random.choice(odd)]


@bends("hosts")
def several_hosts(draft: Draft, random: Random) -> None:
    odd = [
        b"Host: app.example.com",
        b"Host: evil",
        b"host: evil",
        b"Host : evil",
        b" Host: evil",
        b"Host\x00: evil",
        b"H_ost: x",
    ]
    draft.hosts = random.sample([*draft.hosts, *odd], random.choice([0, 2, 3]))


@bends("methods")
def odd_method(draft: Draft, random: Random) -> None:
    odd = [
        b"get",
        b"Get",
        b"G ET",
        b"GET\x00",
        b"TRACE",
        b"CONNECT",
        b"PRI",
        b"BREW",
        b"M-SEARCH",
        b"QUERY",
        b"",
        b"G\xc3\x89T",
    ]
    odd += [
        b"GET\t",
        b'"GET"',
        b"PUT,GET",
        b"OPTIONS",
        b"PROPFIND",
        b"X" * 40,
        b"(GET)",
        b"GET\x0b",
        b"post",
        b"POSTGET",
    ]
    draft.method = random.choice(odd)


@bends("versions")
def odd_version(draft: Draft, random: Random) -> None:
    odd = [
        b"HTTP/1.0",
        b"HTTP/0.9",
        b"HTTP/2.0",
        b"HTTP/1.2",
        b"HTTP/1.01",
        b"http/1.1",
        b"HTTP/1,1",
        b"HTTP/1.1 x",
        b"",
        b"HTTP",
    ]
    odd += [
        b"HTTP/ 1.1",
        b"HTTP/11",
        b"HTTP/1.1\x00",
        b"HTTP\x001.1",
        b"HTTPS/1.1",
        b"HTTP/-1.1",
        b"ICE/1.1",
        b"HTTP/1.1\t",
        b"H/1.1",
    ]
    draft.version = random.choice([b"HTTP/1.0", b"HTTP/1.0", *odd])


@bends("white space")
def odd_spaces(draft: Draft, random: Random) -> None:
    odd = [b"  ", b"\t", b" \t", b"\x0b", b"\x0c", b"\xa0", b"", b"\r", b"\x00", b"\x1f", b"\xc2\xa0"]
    draft.spaces = random.choice([(random.choice(odd), b" "), (b" ", random.choice(odd)), (b"  ", b"  ")])


@bends("duplicates")
def repeated(draft: Draft, random: Random) -> None:
    lines = [*draft.hosts, *draft.lines, *draft.framing]
    chosen = random.choice(lines) if lines else b"X-A: 1"
    draft.lines.append(
        random.choice([chosen, chosen.upper(), chosen.lower(), chosen.replace(b": ", b":"), chosen + b" "])
    )


@bends("duplicates")
def many(draft: Draft, random: Random) -> None:
    draft.lines += [b"X-A: %d" % at for at in range(random.choice([2, 90, 200]))]


@bends("connection")
def nominated(draft: Draft, random: Random) -> None:
    odd = [
        b"close",
        b"keep-alive",
        b"close, keep-alive",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Host",
        b"X-A, , close",
        b"TE",
    ]
    odd += [
        b"Authorization",
        b"\x00",
        b"upgrade",
        b"Content-Type, X-Farebox-User",
        b"close\x0b",
        b"proxy-connection",
        b"Connection",
    ]
    draft.lines += [b"Connection: " + random.choice(odd), b"X-A: 1"]


@bends("connection")
def hop_by_hop(draft: Draft, random: Random) -> None:
    odd = [
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"TE: trailers, chunked",
        b"Trailer: X-A",
        b"Trailer: Content-Length",
    ]
    odd += [
        b"Proxy-Authorization: x",
        b"TE: gzip",
        b"Proxy-Authenticate: x",
        b"keep_alive: 1",
        b"Transfer_Encoding: chunked",
    ]
    draft.lines += random.sample(odd, 2)


@bends("expectations")
def expects(draft: Draft, random: Random) -> None:
    odd = [
        b"100-continue",
        b"100-Continue",
        b"100-continue, 100-continue",
        b"",
        b"200-ok",
        b"100-continue;x",
        b"\x0b100-continue",
    ]
    draft.lines.append(b"Expect: " + random.choice([b"100-continue", *odd]))


@bends("upgrades")
def upgrades(draft: Draft, random: Random) -> None:
    websocket = [
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"Sec-WebSocket-Version: 13",
    ]
    h2c = [b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]
    odd = [[b"Upgrade: TLS/1.0", b"Connection: Upgrade"], [b"Upgrade: h2c, websocket", b"Connection: upgrade"], h2c]
    draft.lines += random.choice([websocket, websocket[:2], websocket[:1], [*websocket[:2], *websocket[:1]], *odd])
    if random.random() < 0.5:
        draft.body = draft.body or draft.smuggled
        draft.framing = draft.framing or [b"Content-Length: %d" % len(draft.body)]


@bends("other protocols")
def another_protocol(draft: Draft, random: Random) -> None:
    draft.before = random.choice(
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", b"HELO x\r\n", b"SSH-2.0-x\r\n"]
    )


@bends("speaking of the client")
def speaking(draft: Draft, random: Random) -> None:
    odd = [
        b"Forwarded: for=6.6.6.6",
        b"X-Forwarded-For: 6.6.6.6, ",
        b"x_forwarded_proto: https",
        b"X-Forwarded-Host: evil, app",
    ]
    odd += [
        b"X-Real-IP: \t6.6.6.6",
        b"Via: 1.1 x",
        b"X-Farebox-User: root",
        b"X-Farebox_User: root",
        b"X-Request-Id: 1",
        b"X.Request.Id: 1",
    ]
    odd += [b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: /flat", b"X-Backend-Key: mine", b"x_backend_key: mine"]
    draft.lines += random.sample(odd, 3)
