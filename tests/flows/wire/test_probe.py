import asyncio, pytest, json, gzip
from tests.flows.raw import *
from tests.flows.wire.wire import *

H=b"HTTP/1.1 200 OK\r\n"
async def slurp(client, t=1.3):
    out=b""
    try:
        async with asyncio.timeout(t):
            while piece := await client.reader.read(65536):
                out+=piece
            out += b"<CLOSED>"
    except TimeoutError:
        out += b"<OPEN>"
    except ConnectionError: out += b"<RESET>"
    return out[-700:]

def show(wire, capsys, caplog, *what):
    with capsys.disabled():
        print()
        for w in what: print("   ", w)
        print("    bk ", len(wire.backend.requests), wire.backend.connections, [(r.first, r.body[:50]) for r in wire.backend.requests])
        for rec in caplog.records: print("    log", rec.levelname, rec.name, rec.getMessage()[:100], "TRACE" if rec.exc_info else "")

async def test_stale(wire, capsys, caplog):
    await wire.ask("GET /open/a")
    wire.backend.script = closing(b"")
    a = await wire.ask("GET /open/b")
    show(wire, capsys, caplog, a)

async def test_after(wire, capsys, caplog):
    wire.backend.script = answering(OK+b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    a = await wire.ask("GET /open/a")
    b = await wire.ask("GET /open/b")
    show(wire, capsys, caplog, a, b)

async def test_pipeline(wire, capsys, caplog):
    c = await wire.connect()
    r = request("POST /buy", bearer("ann"), body=order())
    await c.send(r*3)
    await asyncio.sleep(.5)
    show(wire, capsys, caplog, await slurp(c), await wire.spent())

async def test_pipeline_refused(wire, capsys, caplog):
    c = await wire.connect()
    await c.send(request("POST /nope", body=request("POST /buy", bearer("ann"), body=order()))+request("POST /buy", bearer("ann"), body=order()))
    show(wire, capsys, caplog, await slurp(c), await wire.spent())

async def test_expect(wire, capsys, caplog):
    c = await wire.connect()
    b=order()
    await c.send(request("POST /buy", bearer("ann"), "Expect: 100-continue", f"Content-Length: {len(b)}"))
    o = await slurp(c, .3)
    await c.send(b)
    o2 = await slurp(c)
    c = await wire.connect()
    await c.send(request("POST /flat", bearer("ann"), "Expect: 100-continue", f"Content-Length: {len(b)}"))
    o3 = await slurp(c, .3)
    await c.send(b)
    o4 = await slurp(c)
    c = await wire.connect()
    await c.send(request("POST /flat", "Expect: 100-continue", f"Content-Length: {len(b)}"))
    o5 = await slurp(c)
    c = await wire.connect()
    await c.send(request("POST /open/x HTTP/1.0", "Expect: 100-continue", f"Content-Length: {len(b)}", body=b))
    o6 = await slurp(c)
    c = await wire.connect()
    await c.send(request("GET /open/x", "Expect: 100-continue"))
    o7 = await slurp(c)
    show(wire, capsys, caplog, o, o2, o3, o4, o5, o6, o7, await wire.spent())

async def test_early(wire, capsys, caplog):
    async def early(v):
        await v.send(b"HTTP/1.1 413 Too\r\nContent-Length: 2\r\n\r\nno")
    wire.backend.script = early
    c = await wire.connect()
    await c.send(request("POST /open/a", "Content-Length: 1000000"))
    await c.send(b"a"*1000)
    await asyncio.sleep(.3)
    o = await slurp(c, .3)
    try:
        await c.send(b"b"*1000)
        await asyncio.sleep(.3)
        await c.send(b"b"*1000)
        await asyncio.sleep(.3)
    except Exception as e: o += repr(e).encode()
    o2= await slurp(c)
    show(wire, capsys, caplog, o, o2)

async def test_slow_upload(wire, capsys, caplog):
    c = await wire.connect()
    await c.send(request("POST /flat", bearer("ann"), "Content-Length: 10"))
    for i in range(10):
        await c.send(b"a")
        await asyncio.sleep(.1)
    o = await slurp(c)
    c = await wire.connect()
    await c.send(request("POST /flat", bearer("ann"), "Content-Length: 10"))
    await c.send(b"a")
    o2 = await slurp(c)
    show(wire, capsys, caplog, o, o2, await wire.spent())

async def test_badchunk(wire, capsys, caplog):
  for path in ("/flat","/buy","/jobs","/open/a"):
    c = await wire.connect()
    await c.send(request(f"POST {path}", bearer("ann"), "Transfer-Encoding: chunked")+b"5\r\n{\"abc\r\n")
    await asyncio.sleep(.2)
    await c.send(b"zz\r\n")
    o = await slurp(c)
    show(wire, capsys, caplog, path, o, await wire.spent())

async def test_leave_upload(wire, capsys, caplog):
  for path in ("/flat","/buy","/jobs","/open/a"):
    c = await wire.connect()
    await c.send(request(f"POST {path}", bearer("ann"), "Content-Length: 100", )+b"5\r\n{\"abc\r\n")
    await asyncio.sleep(.2)
    c.leave()
    await asyncio.sleep(.2)
    show(wire, capsys, caplog, path, await wire.spent(), await wire.open_holds())

async def test_leave_before(wire, capsys, caplog):
    async def slow(v):
        await v.body(); await asyncio.sleep(.3); await v.send(json_answer(b'{"id":"j1"}'))
    wire.backend.script = slow
    for path in ("/flat","/jobs","/open/a", "/mine/a"):
        c = await wire.connect()
        await c.send(request(f"POST {path}", bearer("ann")))
        await asyncio.sleep(.15)
        c.leave()
        await asyncio.sleep(.5)
        show(wire, capsys, caplog, path, await wire.spent(), [h["job_id"] for h in await wire.open_holds()])
    wire.may_stay_open=1

async def test_leave_managed(wire, capsys, caplog):
    for i in range(20):
        c = await wire.connect()
        await c.send(request("GET /api/credits/balance", bearer(f"u{i}")))
        await asyncio.sleep(i*.0005)
        c.leave()
    await asyncio.sleep(.5)
    show(wire, capsys, caplog)

async def test_half_close(wire, capsys, caplog):
    c = await wire.connect()
    await c.send(request("POST /flat", bearer("ann")))
    c.writer.write_eof()
    show(wire, capsys, caplog, await slurp(c))

async def test_job_chunked_leave(wire, capsys, caplog):
    ev = asyncio.Event()
    async def script(v):
        await v.body(); await v.send(H+b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n")
        await ev.wait()
        await v.send(b"5\r\n:\"j\"}\r\n0\r\n\r\n")
    wire.backend.script = script
    c = await wire.connect()
    await c.send(request("POST /jobs", bearer("ann")))
    await c.head()
    c.leave()
    await asyncio.sleep(.2)
    ev.set()
    await asyncio.sleep(.2)
    show(wire, capsys, caplog, await wire.spent(), await wire.open_holds())
    wire.may_stay_open=1

async def test_poll_500(wire, capsys, caplog):
    wire.backend.script = answering(json_answer(b'{"id":"j1"}'))
    a = await wire.ask("POST /jobs", user="ann")
    wire.backend.script = answering(json_answer(b'{"status":"failed"}', status=b"500 X"))
    b = await wire.ask("GET /jobs/j1", user="ann")
    show(wire, capsys, caplog, a, b, await wire.spent(), await wire.open_holds())
