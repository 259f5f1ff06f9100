"""What benches/scatter.sh measures with: eighteen leaves that are slow one time in a hundred, and clients of a root.

    scatter.py leaves HOST PORT COUNT            serves until it is ended; `GET /asked` on PORT - 1 tells how often it was asked
    scatter.py clients ADDRESS REQUESTS AT_ONCE  prints p50, p95 and p99 in milliseconds
"""

import asyncio
import http.client
import random
import sys
import threading
import time

SLOW, USUAL = 0.5, 0.002
asked = 0


class Leaf(asyncio.Protocol):
    def __init__(self, counts):
        self.counts, self.rest = counts, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        global asked
        self.rest += data
        while b"\r\n\r\n" in self.rest:
            _, self.rest = self.rest.split(b"\r\n\r\n", 1)
            if not self.counts:
                self.answer(b"%d" % asked)
                continue
            asked += 1
            slow = random.randrange(100) == 0
            asyncio.get_running_loop().call_later(SLOW if slow else USUAL, self.answer, b"[1]")

    def answer(self, body):
        # A second question's loser has hung up by now.
        if not self.transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)


async def leaves(host, port, count):
    loop = asyncio.get_running_loop()
    for number in range(count):
        await loop.create_server(lambda: Leaf(True), host, port + number)
    await loop.create_server(lambda: Leaf(False), host, port - 1)
    await asyncio.Event().wait()


def clients(address, requests, at_once):
    took, faults = [], []

    def work():
        connection = http.client.HTTPConnection(address)
        for _ in range(requests // at_once):
            began = time.monotonic()
            connection.request("GET", "/api/v1/search?q=x")
            answer = connection.getresponse()
            body = answer.read()
            took.append((time.monotonic() - began) * 1000)
            if answer.status != 200 or b'"partial":false' not in body:
                faults.append(body)

    workers = [threading.Thread(target=work) for _ in range(at_once)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if faults or len(took) != requests // at_once * at_once:
        sys.exit(f"{len(faults)} answers are not whole, the first: {faults[:1]}")
    took.sort()
    print(*("%.1f" % took[int(len(took) * part)] for part in (0.5, 0.95, 0.99)))


if sys.argv[1] == "leaves":
    asyncio.run(leaves(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
else:
    clients(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
