"""A client of the API, as the programs beside this one use it."""
import http.client, json, ssl, sys
from urllib.parse import urlparse


class Client:
    """Calls on one connection, kept open; a watch has a connection of its own."""

    def __init__(self, server, token):
        self.server, self.token = server, token
        self.headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token}
        self.connection = self.connect()

    def connect(self):
        url = urlparse(self.server)
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=300)

    def another(self):
        return Client(self.server, self.token)

    def call(self, method, path, body=None):
        """The answer; `body` is an object, or its text. Anything but success ends the program."""
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        self.connection.request(method, path, body, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {text[:300]}")
        return text

    def get(self, path):
        return json.loads(self.call("GET", path))

    def watch(self, path, more=""):
        """The events' lines, from now on."""
        version = self.get(path + "?limit=1")["metadata"]["resourceVersion"]
        connection = self.connect()
        connection.request("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=600{more}", headers=self.headers)
        return iter(connection.getresponse().readline, b"")


def pod_spec(image, command, **more):
    container = {"name": "c", "image": image, "command": command, "imagePullPolicy": "IfNotPresent"}
    return {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container], **more}


def say(what, value, promise):
    print(f"{what:46} {value:>14}   ({promise})", flush=True)
