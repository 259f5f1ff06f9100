#!/usr/bin/env python3
"""What `proxy.sh` measures that no other tool does.

    proxy.py first-byte PORT COMMAND…           from starting COMMAND to the first byte of its answer on PORT, milliseconds
    proxy.py upgrades PORT                      a server that answers upgrades and then echoes
    proxy.py websockets PORT PID WANTED         opens so many idle WebSockets through PORT, and tells what PID has resident
    proxy.py p99 FILE…                          the p99 of h2load's logs, microseconds
"""
import asyncio
import resource
import socket
import subprocess
import sys
import time


def first_byte(port, command):
    times = []
    for _ in range(11):
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    stream = socket.create_connection(("127.0.0.1", port))
                    break
                except ConnectionRefusedError:
                    time.sleep(0.0002)
            stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert stream.recv(1)
            times.append((time.perf_counter() - begun) * 1000)
            stream.close()
        finally:
            process.kill()
            process.wait()
    times.sort()
    print(f"{times[len(times) // 2]:.1f}")


async def upgrades(port):
    async def one(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            while data := await reader.read(1024):
                writer.write(data)
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", port, backlog=4096, limit=2048)
    await server.serve_forever()


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


async def websockets(port, pid, wanted):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # The proxy has two descriptors for each.
    count = min(wanted, (limit - 100) // 2)
    turn, streams, before = asyncio.Semaphore(64), [], resident(pid)

    async def one(index):
        async with turn:
            # An address has some 28,000 ports.
            here = (f"127.0.0.{2 + index // 10000}", 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=here, limit=2048)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                         b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            streams.append((reader, writer))

    async def say(reader, writer):
        async with turn:
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"

    await asyncio.gather(*(one(index) for index in range(count)))
    await asyncio.gather(*(say(*stream) for stream in streams))
    await asyncio.sleep(1)
    after = resident(pid)
    each = (after - before) / count
    print(f"{count} idle WebSockets: {after / 1024:.1f} MiB resident, {each:.1f} KiB each: "
          f"{(before + each * wanted) / 1024:.1f} MiB for {wanted} (bar 100)")


def p99(files):
    took = []
    for name in files:
        with open(name) as log:
            took += [int(fields[2]) for fields in map(str.split, log) if len(fields) >= 3 and fields[1] == "200"]
    took.sort()
    print(took[len(took) * 99 // 100] if took else "nan")


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "first-byte":
        first_byte(int(rest[0]), rest[1:])
    elif what == "upgrades":
        asyncio.run(upgrades(int(rest[0])))
    elif what == "websockets":
        asyncio.run(websockets(*map(int, rest)))
    elif what == "p99":
        p99(rest)
    else:
        sys.exit(__doc__)
