# SPDX-License-Identifier: Apache-2.0
"""What every system test needs: a daemon that surely dies, a client that hides nothing, and a folder that goes away.

The tests stand outside the library: they know the program, its HTTP surface and its files, nothing else. Standard
library only. Environment: MILLRACE_PROGRAM, MILLRACE_BUILD, MILLRACE_CHECKOUT (all have defaults for running a file by
hand), MILLRACE_SEED (repeats a run), MILLRACE_KEEP (keeps the temporary folders).
"""

import atexit
import base64
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

CHECKOUT = Path(os.environ.get("MILLRACE_CHECKOUT") or Path(__file__).resolve().parents[2])
PROGRAM = os.environ.get("MILLRACE_PROGRAM") or str(CHECKOUT / "build/release/bin/millrace")
BUILD = Path(os.environ.get("MILLRACE_BUILD") or CHECKOUT / "build/release")
IN_CI = bool(os.environ.get("CI"))
SEED = int(os.environ.get("MILLRACE_SEED") or random.SystemRandom().randrange(2**32))

_children = []
_folders = []


def _clean_up():
    for child in _children:
        if child.poll() is None:
            child.kill()
            child.wait()
    if not os.environ.get("MILLRACE_KEEP"):
        for folder in _folders:
            shutil.rmtree(folder, ignore_errors=True)


atexit.register(_clean_up)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def keep(folder):
    """Leaves a folder behind, for a person to look at."""
    if folder in _folders:
        _folders.remove(folder)


def temp_folder():
    folder = tempfile.mkdtemp(prefix="millrace-test-")
    _folders.append(folder)
    return folder


def clean_environment(folder, **more):
    """The caller's environment without anything that configures Millrace, and a home of its own."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(("MILLRACE_", "EVENT_STORE_", "XDG_")) and name != "REDIS_URL"}
    env.update(HOME=str(folder), LC_ALL="C.UTF-8", TZ="UTC", **more)
    return env


def spawn(command, **options):
    """Starts a process that dies with this one."""
    # The signal comes when the *thread* that started the child ends, so only the main thread may ask for it.
    if threading.current_thread() is threading.main_thread() and shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    child = subprocess.Popen(command, **options)
    _children.append(child)
    return child


def wait_until(condition, timeout=20.0, what="the condition", every=0.02):
    """Polls until `condition()` is true and returns its value; fails with `what` otherwise."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout} s")
        time.sleep(every)


class Daemon:
    """`millrace serve` on one store file and a free port. `start` may be called again after it died."""

    def __init__(self, folder=None, *, store=None, args=(), env=None, wrap=()):
        self.folder = folder or temp_folder()
        self.path = os.path.join(self.folder, "events.db")
        self.store = store or "sqlite:" + self.path
        self.args, self.wrap = list(args), list(wrap)
        self.env = clean_environment(self.folder, **(env or {}))
        self.process, self.port, self.url = None, None, None
        self.starts = 0

    def command(self):
        listen = [] if any(a.startswith("--server-listen") for a in self.args) else ["--server-listen", "127.0.0.1:0"]
        return [*self.wrap, PROGRAM, "serve", "--store-url", self.store, *listen, *self.args]

    def spawn(self):
        """Starts the process without waiting for it to listen."""
        self.starts += 1
        self.out_path = os.path.join(self.folder, f"daemon-{self.starts}.out")
        self.err_path = os.path.join(self.folder, f"daemon-{self.starts}.err")
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            # restore_signals=False: SIGXFSZ stays ignored, so that a file size limit is an error and not a death.
            self.process = spawn(self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.env,
                                 restore_signals=False)
        self.port = None
        return self

    def start(self, timeout=30.0):
        self.spawn()
        mark = "listening on "
        end = time.monotonic() + timeout
        while True:
            with open(self.out_path, encoding="utf-8", errors="replace") as out:
                for line in out:
                    if line.startswith(mark) and line.endswith("\n"):
                        self.url = line[len(mark):].split()[0]
                        self.port = int(self.url.rsplit(":", 1)[1].rstrip("/"))
                        return self
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode} at start:\n{self.log()}")
            if time.monotonic() > end:
                raise AssertionError(f"the daemon does not listen after {timeout} s:\n{self.log()}")
            time.sleep(0.01)

    def refused(self, timeout=20.0):
        """Starts, expects it to end by itself, and gives (exit code, stderr)."""
        self.spawn()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the daemon started though it should refuse:\n{self.log()}") from None
        return self.process.returncode, self.log()

    def log(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as err:
            return err.read()

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout=30.0):
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"SIGTERM: still there after {timeout} s\n{self.log()}") from None

    def restart(self):
        self.terminate()
        return self.start()

    def client(self, **options):
        return Client(lambda: self.port, **options)

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.kill()


class RedisError(Exception):
    """An error reply."""


class Redis:
    """A bare connection to a Redis server: what anybody else's client could do. Replies are bytes, ints, lists, None."""

    def __init__(self, connection):
        self._connection = connection
        self._file = connection.makefile("rb")

    def close(self):
        self._file.close()
        self._connection.close()

    def __call__(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self._connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self._reply()

    def _line(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        return line[:-2]

    def _reply(self):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            text = self._file.read(int(rest) + 2)
            if len(text) != int(rest) + 2:
                raise ConnectionError("the server closed the connection")
            return text[:-2]
        if int(rest) < 0:
            return None
        return [self._reply() for _ in range(int(rest))]


class RedisServer:
    """A redis-server of the test's own on a unix socket, safe to `kill` and to `start` again on the same files.

    It is set up as docs/stores.md tells operators to ("A torn file"): a file that a kill tore is cut before a start.

    With `port=True` it can be reached over TCP, too: through a gate (tests/support/tcp_gate.py), so that no port is
    ever lost to somebody else.
    """

    def __init__(self, *settings, folder=None, fsync="always", port=False):
        self.folder = folder or temp_folder()
        self.data = os.path.join(self.folder, "redis")
        os.makedirs(self.data, exist_ok=True)
        self.socket = os.path.join(self.folder, "redis.sock")
        aof = ["--appendonly", "no"] if fsync is None else ["--appendonly", "yes", "--appendfsync", fsync,
                                                                 "--aof-load-truncated", "no"]
        self.settings = ["--port", "0", "--unixsocket", self.socket, "--dir", self.data, "--save", "", *aof,
                         "--daemonize", "no", "--loglevel", "notice", *settings]
        self.log_path = os.path.join(self.folder, "redis.log")
        self.process = None
        self.gate = None
        if port:
            sys.path.insert(0, str(CHECKOUT / "tests/support"))
            from tcp_gate import Gate
            self.gate = Gate(self.connect)

    @staticmethod
    def missing():
        return None if shutil.which("redis-server") and shutil.which("redis-cli") else "redis-server"

    def spawn(self):
        """Starts it without waiting."""
        self.repair()
        with open(self.log_path, "ab") as log:
            self.process = spawn(["redis-server", *self.settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def repair(self):
        """Cuts what a kill tore off the end of its file of commands, with the whole transaction it was in."""
        manifest = os.path.join(self.data, "appendonlydir", "appendonly.aof.manifest")
        if os.path.exists(manifest) and "--aof-load-truncated" in self.settings:
            done = subprocess.run(["redis-check-aof", "--fix", manifest], input="y\n", capture_output=True, text=True)
            if done.returncode != 0:
                raise AssertionError(f"redis-check-aof: {done.stdout}{done.stderr}")

    def start(self, timeout=30.0):
        self.spawn()

        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"redis-server ended with {self.process.returncode}:\n{self.log()}")
            try:
                connection = self.client()
            except OSError:
                return False
            try:
                connection("PING")
            except RedisError as error:
                return "LOADING" not in str(error)  # it wants a password: it is up
            except ConnectionError:
                return False
            finally:
                connection.close()
            return True
        wait_until(answers, timeout, "redis-server answers", every=0.01)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout=30.0):
        """In good order: everything is on disk."""
        self.process.terminate()
        return self.process.wait(timeout)

    def forget(self):
        """Its files are gone: the next start is an empty server."""
        shutil.rmtree(self.data)
        os.makedirs(self.data)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self.socket)
        except OSError:
            connection.close()
            raise
        return connection

    def client(self, timeout=20.0):
        connection = self.connect()
        connection.settimeout(timeout)
        return Redis(connection)

    def ask(self, *words):
        """One command on a connection of its own."""
        client = self.client()
        try:
            return client(*words)
        finally:
            client.close()

    def cli(self, *words):
        """What `redis-cli` prints."""
        done = subprocess.run(["redis-cli", "-s", self.socket, *map(str, words)], capture_output=True, text=True, timeout=20)
        if done.returncode != 0:
            raise AssertionError(f"redis-cli {words}: {done.stderr}{done.stdout}")
        return done.stdout.strip()

    def url(self, **options):
        """Of the store on it, by its socket."""
        return self._with(f"redis+unix:{self.socket}", options)

    def tcp_url(self, credentials="", **options):
        """The same through the gate."""
        return self._with(f"redis://{credentials}127.0.0.1:{self.gate.port}/0", options)

    @staticmethod
    def _with(url, options):
        return url + "".join(f"{'&' if n else '?'}{name}={value}" for n, (name, value) in enumerate(options.items()))

    def __enter__(self):
        return self.start() if self.process is None else self

    def __exit__(self, *_):
        if self.gate:
            self.gate.close()
        if self.process and self.process.poll() is None:
            self.kill()


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def type(self):
        return (self.headers.get("content-type") or "").split(";")[0].strip().lower()

    def __repr__(self):
        return f"<{self.status} {self.type} {self.body[:600]!r}>"


class NotSent(Exception):
    """Nobody listens: the request did not leave, nothing can have happened."""


class NoAnswer(Exception):
    """The request left (at least in part) and no whole answer came back: it may or may not have happened."""


class Client:
    """One keep-alive connection. Not thread-safe: one per thread, like a real client. Never repeats a request."""

    def __init__(self, port, *, token=None, timeout=60.0):
        self._connection = None
        self._port = port if callable(port) else (lambda: port)
        self._token, self._timeout = token, timeout

    def __del__(self):
        self.close()

    def close(self):
        if self._connection:
            self._connection.close()
        self._connection = None

    def request(self, method, path, body=None, headers=None, timeout=None):
        headers = dict(headers or {})
        if self._token is not None:
            headers.setdefault("Authorization", f"Bearer {self._token}")
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        port = self._port()
        if self._connection and self._connection.port != port:
            self.close()  # the daemon was started anew
        if self._connection is None:
            if port is None:
                raise NotSent("the daemon is down")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout or self._timeout)
            try:
                connection.connect()
            except OSError as error:
                raise NotSent(str(error)) from error
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = connection
        self._connection.sock.settimeout(timeout or self._timeout)
        try:
            self._connection.request(method, path, body=body, headers=headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(f"{method} {path}: {type(error).__name__}: {error}") from error
        if answer.will_close:
            self.close()
        return Response(answer.status, answer.headers, content)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.request("POST", path, body=body, **options)

    def delete(self, path, **options):
        return self.request("DELETE", path, **options)

    def ok(self, method, path, body=None, **options):
        """The JSON of a 200; anything else is a failed test."""
        response = self.request(method, path, body, **options)
        if response.status != 200:
            raise AssertionError(f"{method} {path}: {response}")
        return response.json if response.body else None

    # The calls every test makes.

    def publish(self, *events, stream="events"):
        """Events as dicts, as one batch. Returns the results."""
        return self.ok("POST", f"/v1/streams/{stream}/events", json.dumps(list(events)),
                       headers={"Content-Type": "application/cloudevents-batch+json"})["results"]

    def claim(self, group, consumer="judge", max=100, wait_ms=0, lease_ms=30_000, **more):
        body = {"consumer": consumer, "max": max, "wait_ms": wait_ms, "lease_ms": lease_ms, **more}
        return self.ok("POST", f"/v1/groups/{group}/claim", body)["deliveries"]

    def settle(self, group, how, deliveries, **more):
        leases = [d["lease"] if isinstance(d, dict) else d for d in deliveries]
        return self.ok("POST", f"/v1/groups/{group}/{how}", {"leases": leases, **more})

    def group(self, name):
        return self.ok("GET", f"/v1/groups/{name}")

    def dead_letters(self, name):
        return self._all(f"/v1/groups/{name}/dead-letters", "dead_letters")

    def pending(self, name):
        return self._all(f"/v1/groups/{name}/pending", "pending")

    def _all(self, path, member):
        found, after = [], ""
        while True:
            page = self.ok("GET", f"{path}?limit=1000{after}")
            found += page[member]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    def read(self, stream="events", after="beginning", limit=1000):
        """Every event of a stream, in order, as (position, event)."""
        found = []
        while True:
            page = self.ok("GET", f"/v1/streams/{stream}/events?after={after}&limit={limit}")
            found += [(entry["position"], entry["event"]) for entry in page["events"]]
            if page["at_end"]:
                return found
            after = page["next"]


def event(id, type="test.happened", source="/judge", **attributes):
    return {"specversion": "1.0", "id": str(id), "source": source, "type": type, **attributes}


def data_of(event):
    """The payload's bytes as the JSON format carries them; None = no data."""
    if "data_base64" in event:
        return base64.b64decode(event["data_base64"], validate=True)
    if "data" not in event:
        return None
    kind = event.get("datacontenttype", "application/json").split(";")[0].strip().lower()
    if isinstance(event["data"], str) and not (kind.endswith("/json") or kind.endswith("+json")):
        return event["data"].encode()
    return json.dumps(event["data"], separators=(",", ":"), ensure_ascii=False).encode()


def rows_of(path, sql):
    """What a query finds in a store's file, beside whoever has it open."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def lag_of(group):
    lag = group["lag"]
    return lag["ahead"], lag["in_flight"], lag["waiting"]


def run(*args, stdin=None, env=None, timeout=60, folder=None, program=None):
    """The command line: (exit code, stdout, stderr), all text."""
    folder = folder or temp_folder()
    done = subprocess.run([program or PROGRAM, *map(str, args)], input=stdin, capture_output=True, timeout=timeout,
                          env=clean_environment(folder, **(env or {})), text=not isinstance(stdin, bytes))
    out, err = done.stdout, done.stderr
    if isinstance(out, bytes):
        out, err = out.decode(errors="replace"), err.decode(errors="replace")
    return done.returncode, out, err


class Case(unittest.TestCase):
    """A test with a generator of its own, so that each test of a file repeats alone."""
    maxDiff = None

    def setUp(self):
        self.random = random.Random(f"{SEED} {self.id()}")

    def daemon(self, *args, **options):
        daemon = Daemon(args=args, **options).start()
        self.addCleanup(daemon.__exit__)
        return daemon

    def refused(self, url, *words):
        """A daemon does not start on this store, and its log, which is returned, says why in these words."""
        daemon = Daemon(store=url)
        self.addCleanup(daemon.__exit__)
        code, log = daemon.refused()
        self.assertNotEqual(code, 0)
        for word in words:
            self.assertRegex(log, word)
        self.assertNotRegex(log.lower(), "terminate called|segmentation|assert")
        return log

    def redis(self, *settings, **options):
        """A Redis server of the test's own; its absence fails in CI."""
        if missing := RedisServer.missing():
            self.refuse_or_skip(missing)
        server = RedisServer(*settings, **options)
        self.addCleanup(server.__exit__)
        return server.start()

    def refuse_or_skip(self, missing):
        """A missing tool fails in CI and is a visible skip on a laptop."""
        if IN_CI:
            self.fail(f"{missing} is missing, and CI must have it")
        self.skipTest(f"{missing} is missing")


def main():
    if not os.access(PROGRAM, os.X_OK):
        sys.exit(f"no program at {PROGRAM}: build it, or set MILLRACE_PROGRAM")
    result = unittest.main(exit=False, verbosity=2).result
    if not result.wasSuccessful():
        print(f"repeat with MILLRACE_SEED={SEED}", file=sys.stderr)
        sys.exit(1)
