"""A client of the API, as the programs beside this one use it. It shares the machine with what is measured, so that a
call is one write and little more: Python's own HTTP client took a third as much of a processor as a pod does here."""
import json, socket, ssl, sys
from urllib.parse import urlparse


class Client:
    """Calls on one connection, kept open; a watch has a connection of its own."""

    def __init__(self, server, token):
        self.server, self.token = server, token
        url = urlparse(server)
        self.address = url.hostname, url.port or 443
        self.head = (
            f" HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {token}\r\n"
            "Accept: application/json\r\nContent-Type: application/json\r\n"
        )
        self.connection, self.answers = self.connect()

    def connect(self):
        """A connection, and the reader of what comes by it."""
        plain = socket.create_connection(self.address, timeout=300)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = ssl._create_unverified_context().wrap_socket(plain)
        return connection, connection.makefile("rb")

    def another(self):
        return Client(self.server, self.token)

    def call(self, method, path, body=None):
        """The answer; `body` is an object, or its text. Anything but success ends the program."""
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        body = body.encode() if isinstance(body, str) else body or b""
        head = f"{method} {path}{self.head}Content-Length: {len(body)}\r\n\r\n"
        self.connection.sendall(head.encode() + body)
        status, length = read_head(self.answers)
        text = self.answers.read(length) if length is not None else b"".join(chunks(self.answers))
        if status >= 300:
            sys.exit(f"{method} {path}: {status} {text[:300]}")
        return text

    def get(self, path):
        return json.loads(self.call("GET", path))

    def watch(self, path, more=""):
        """The events' lines, from now on."""
        version = self.get(path + "?limit=1")["metadata"]["resourceVersion"]
        connection, events = self.connect()
        head = f"GET {path}?watch=1&resourceVersion={version}&timeoutSeconds=600{more}{self.head}\r\n"
        connection.sendall(head.encode())
        status, _ = read_head(events)
        if status >= 300:
            sys.exit(f"watch {path}: {status}")
        return lines(chunks(events))


def read_head(answers):
    """An answer's status and its length in bytes; `None` if it comes in chunks."""
    status, length = int(answers.readline().split(None, 2)[1]), None
    while (line := answers.readline()) not in (b"\r\n", b""):
        if line[:15].lower() == b"content-length:":
            length = int(line[15:])
    return status, length


def chunks(answers):
    """The chunks of an answer, as they come."""
    while size := int(answers.readline() or b"0", 16):
        yield answers.read(size)
        answers.readline()
    answers.readline()


def lines(parts):
    """The lines in what comes in parts of any size."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        yield from whole


def pod_spec(image, command, **more):
    container = {"name": "c", "image": image, "command": command, "imagePullPolicy": "IfNotPresent"}
    return {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container], **more}


def say(what, value, promise):
    print(f"{what:46} {value:>14}   ({promise})", flush=True)
