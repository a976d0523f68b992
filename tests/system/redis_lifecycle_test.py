# SPDX-License-Identifier: Apache-2.0
"""Which servers will do, and what happens when a server changes while it serves: settings, versions, replicas, rights,
certificates. Everything through the daemon; the servers are real ones, but for a version that is not installed here."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import harness
from harness import event

EVENTS = "/v1/streams/events/events"
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
SHORT = {"timeout": 3000, "connect_timeout": 1000}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Life(harness.Case):
    def publish(self, client, id):
        return client.post(EVENTS, json.dumps([event(id)]), headers=BATCH)

    def pool(self, client, name):
        (pool,) = [p for p in client.get("/health", timeout=20).json["pools"] if p["pool"] == name]
        return pool

    def redis_on_a_port(self, *settings, option="--port", **options):
        """A server that listens on a port, too; one that was free may be taken a moment later."""
        for _ in range(5):
            port = free_port()
            try:
                return self.redis(*settings, option, str(port), **options), port
            except AssertionError as error:
                if "in use" not in str(error):
                    raise
        raise AssertionError("no port stays free")

    def cut_all(self, server):
        server.ask("CLIENT", "KILL", "TYPE", "normal")


class ChangedSettings(Life):
    """CONFIG SET at a server that serves."""
    CHANGES = {
        "appendfsync": ("always", "everysec"),
        "no-appendfsync-on-rewrite": ("no", "yes"),
        "maxmemory-policy": ("noeviction", "allkeys-lru"),
    }

    def test_are_noticed_on_reconnect(self):
        for setting, (good, bad) in self.CHANGES.items():
            with self.subTest(setting):
                server = self.redis()
                client = self.daemon(store=server.url(**SHORT)).client()
                self.assertEqual({r["durability"] for r in client.publish(event("before"))}, {"durable"})
                server.ask("CONFIG", "SET", setting, bad)
                self.cut_all(server)
                response = harness.wait_until(
                    lambda: (r := self.publish(client, "meanwhile")).status == 503 and r.json["code"] == "unavailable" and r,
                    20, "writing is refused", every=0.1)
                self.assertTrue(response.json["retryable"])
                why = harness.wait_until(lambda: self.pool(client, "append")["why"], 10, "the pool says why")
                self.assertRegex(why, f"{setting} is {bad}")
                self.assertEqual(client.get("/health", timeout=20).status, 503)
                server.ask("CONFIG", "SET", setting, good)
                harness.wait_until(lambda: self.publish(client, "after").status == 200, 30, "mended, it goes on", every=0.1)
                harness.wait_until(lambda: client.get("/health", timeout=20).status == 200, 20, "and is healthy")

    def test_are_noticed_within_a_minute(self):
        running = {}
        for setting, (_, bad) in self.CHANGES.items():
            server = self.redis()
            client = self.daemon(store=server.url(**SHORT)).client()
            client.publish(event("before"))
            running[setting] = (server, client)
        server = self.redis()  # one that may be weaker: it goes on, and says what it gives
        client = self.daemon(store=server.url(durability="relaxed", **SHORT)).client()
        self.assertEqual({r["durability"] for r in client.publish(event("before"))}, {"durable"})
        running["relaxed will do"] = (server, client)
        begun = time.monotonic()
        for setting, (server, _) in running.items():
            name, value = (setting, self.CHANGES[setting][1]) if setting in self.CHANGES else ("appendfsync", "everysec")
            server.ask("CONFIG", "SET", name, value)

        count = 0
        noticed = {}
        while len(noticed) < len(running) and time.monotonic() - begun < 90:
            count += 1
            for setting, (_, client) in running.items():
                if setting in noticed:
                    continue
                response = self.publish(client, f"n{count}")
                # Where less will not do, one that was on its way may say so; then there are no more.
                weaker = response.status == 200 and response.json["results"][0]["durability"] == "relaxed"
                if response.status == 503 or (weaker and setting not in self.CHANGES):
                    noticed[setting] = (time.monotonic() - begun, response)
            time.sleep(0.5)
        print("noticed after " + ", ".join(f"{name}: {at:.0f} s" for name, (at, _) in noticed.items()))
        self.assertEqual(set(noticed), set(running))
        for setting, (at, response) in noticed.items():
            self.assertLess(at, 75, f"{setting}: a minute, on a busy machine")
            if setting not in self.CHANGES:
                self.assertEqual(response.status, 200, response)
                continue
            self.assertEqual((response.status, response.json["code"]), (503, "unavailable"), response)
            self.assertRegex(response.json["detail"], f"{setting} is {self.CHANGES[setting][1]}")
            server, client = running[setting]
            # Reading goes on; /health does not hide it.
            self.assertIn("before", [e["id"] for _, e in client.read()])
            health = client.get("/health")
            self.assertEqual(health.status, 503)
            self.assertRegex(self.pool(client, "append")["why"], f"^writes are refused: .*{setting} is ")
            server.ask("CONFIG", "SET", setting, self.CHANGES[setting][0])
            harness.wait_until(lambda: self.publish(client, "after").status == 200, 20, "mended, it is noticed soon")
            self.assertEqual(client.get("/health").status, 200)


class Versions(Life):
    def test_a_newer_format_of_the_store_is_refused_with_both(self):
        server = self.redis()
        self.daemon(store=server.url()).terminate()
        server.ask("HSET", "millrace:meta", "format", "99")
        before = server.ask("HGETALL", "millrace:meta")
        self.refused(server.url(), "unsupported_version", r"format 99\b", r"up to 1\b", "newer Millrace")
        code, out, err = harness.run("stats", "--store", server.url())
        self.assertEqual(code, 1, out + err)
        self.assertRegex(out + err, r"format 99\b.*up to 1\b")
        self.assertEqual(server.ask("HGETALL", "millrace:meta"), before, "nothing was touched")

    def test_an_old_server_is_refused_with_both_versions(self):
        old = OldServer("6.2.14")
        self.addCleanup(old.close)
        self.refused(f"redis://127.0.0.1:{old.port}", "unsupported_version", r"6\.2\.14", r"7\.0")
        self.assertGreater(old.asked, 0)


class OldServer:
    """Says what a Redis of another version says of itself, and nothing else. For the refusal only."""

    def __init__(self, version):
        self.version, self.asked = version, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb") as file:
                while line := file.readline():
                    words = []
                    for _ in range(int(line[1:])):
                        words.append(file.read(int(file.readline()[1:]) + 2)[:-2].decode())
                    self.asked += 1
                    connection.sendall(self._answer(words).encode())
        except OSError:
            pass  # it has heard enough

    def _answer(self, words):
        def bulk(text):
            return f"${len(text)}\r\n{text}\r\n"
        name = words[0].upper()
        if name == "HELLO":
            fields = ["server", "redis", "version", self.version, "mode", "standalone", "role", "master"]
            return f"*{len(fields)}\r\n" + "".join(map(bulk, fields))
        if name == "INFO":
            return bulk(f"redis_version:{self.version}\r\nredis_mode:standalone\r\nrole:master\r\nloading:0\r\naof_enabled:1\r\n")
        if name == "CONFIG":
            fields = ["appendonly", "yes", "appendfsync", "always", "no-appendfsync-on-rewrite", "no", "maxmemory-policy", "noeviction"]
            return f"*{len(fields)}\r\n" + "".join(map(bulk, fields))
        if name == "TIME":
            return "*2\r\n" + bulk(str(int(time.time()))) + bulk("0")
        return ":1\r\n" if words[:2] == ["CLIENT", "ID"] else "+OK\r\n"


class Topologies(Life):
    def test_a_cluster_is_refused_by_name(self):
        server, _ = self.redis_on_a_port("--cluster-enabled", "yes")
        self.refused(server.url(), "Redis Cluster", "cluster-enabled")

    def test_a_sentinel_is_refused_by_name(self):
        folder = harness.temp_folder()
        port = free_port()
        config = os.path.join(folder, "sentinel.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
        if not shutil.which("redis-server"):
            self.refuse_or_skip("redis-server")
        sentinel = harness.spawn(["redis-server", config, "--sentinel"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (sentinel.kill(), sentinel.wait()))

        def listens():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False
        harness.wait_until(listens, 20, "the sentinel listens")
        self.refused(f"redis://127.0.0.1:{port}", "Redis Sentinel", "name the server itself")

    def replica_of(self, port):
        return self.redis("--replicaof", "127.0.0.1", str(port), "--repl-diskless-sync-delay", "0")

    def test_replicas_confirm_what_is_answered(self):
        master, port = self.redis_on_a_port("--repl-diskless-sync-delay", "0")
        url = master.url(replicas=1, **SHORT)
        self.refused(url, "unavailable", "0 connected replicas", "replicas=1")
        replica = self.replica_of(port)

        def joined():
            return master.ask("WAIT", 1, 100) == 1
        harness.wait_until(joined, 30, "the replica is there")
        self.refused(replica.url(), "replica", "name the master")
        daemon = self.daemon(store=url)
        client = daemon.client()
        for n in range(5):
            self.assertEqual([r["status"] for r in client.publish(event(f"e{n}"))], ["stored"])
            self.assertEqual(replica.ask("XLEN", "events:all:stream"), n + 1, "the replica has what was answered")
        held = client.claim("g", max=5, stream="events", start="beginning")
        self.assertEqual(client.settle("g", "ack", held)["stale"], [])

        replica.kill()
        response = self.publish(client, "alone")
        self.assertEqual((response.status, response.json["code"]), (503, "outcome_unknown"), response)
        self.assertRegex(response.json["detail"], "replicas")
        self.assertEqual(master.ask("XLEN", "events:all:stream"), 6, "the master has it, and it was not promised")
        self.cut_all(master)  # on reconnect the count is read anew
        response = harness.wait_until(
            lambda: (r := self.publish(client, "more")).json.get("code") == "unavailable" and r, 20, "writing is refused", every=0.1)
        self.assertRegex(self.pool(client, "append")["why"], "0 connected replicas and the URL asks for replicas=1")

        replica.start()
        harness.wait_until(lambda: self.publish(client, "alone").status == 200, 60, "with the replica it goes on", every=0.1)
        (result,) = client.publish(event("alone"))
        self.assertEqual(result["status"], "duplicate", "it was there all the time")
        self.assertEqual(sorted(e["id"] for _, e in client.read() if e["id"] != "more"), ["alone", *(f"e{n}" for n in range(5))])
        self.assertEqual(replica.ask("XLEN", "events:all:stream"), master.ask("XLEN", "events:all:stream"))


class Rights(Life):
    def documented(self, user="millrace", password="pw"):
        """The user as docs/operations.md prints it."""
        text = (harness.CHECKOUT / "docs/operations.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"^    ACL SETUSER millrace (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
        return ["ACL", "SETUSER", user, *block.replace("PASSWORD", password).split()]

    def test_the_documented_rights_are_enough(self):
        server = self.redis(port=True)
        server.ask(*self.documented())
        d = self.daemon(store=server.tcp_url("millrace:pw@"))
        c = d.client()
        self.assertEqual({r["durability"] for r in c.publish(*[event(f"e{n}", partitionkey=f"k{n % 3}") for n in range(30)])},
                         {"durable"})
        held = c.claim("g", max=10, stream="events", start="beginning")
        c.settle("g", "ack", held[:3])
        c.settle("g", "retry", held[3:5], after_ms=0)
        c.settle("g", "reject", held[5:6], reason="no")
        c.settle("g", "release", held[6:])
        self.assertEqual(len(c.dead_letters("g")), 1)
        c.ok("POST", "/v1/groups/g/dead-letters/redrive", {})
        waiting = threading.Thread(target=lambda: d.client().claim("late", max=1, wait_ms=10_000, stream="events", start="end"))
        waiting.start()
        time.sleep(0.3)
        begun = time.monotonic()
        c.publish(event("wakes"))
        waiting.join(20)
        self.assertLess(time.monotonic() - begun, 8, "who waits is woken")
        c.ok("POST", "/v1/groups/g/seek", {"to": "beginning"})
        self.assertEqual(c.post("/v1/streams", {"name": "more", "max_events": 5}).status, 201)
        c.ok("POST", "/v1/streams/events/trim", {"max_events": 5, "force": True})
        self.assertEqual(c.request("DELETE", f"{EVENTS}?id=wakes&source=/judge").status, 200)
        self.assertEqual(len(c.ok("GET", "/v1/events?id=e1")["matches"]), 1)
        self.assertEqual(c.request("DELETE", "/v1/groups/g").status, 200)
        self.assertEqual(c.get("/health").status, 200)
        time.sleep(2.5)  # it keeps house meanwhile
        self.assertEqual(d.terminate(), 0)
        self.assertEqual(server.ask("ACL", "LOG"), [], "nobody was refused anything")

    def test_nothing_else_is_allowed(self):
        server = self.redis()
        server.ask(*self.documented())
        millrace = server.client()
        self.addCleanup(millrace.close)
        millrace("AUTH", "millrace", "pw")
        for words in (["FLUSHALL"], ["CONFIG", "SET", "appendfsync", "no"], ["KEYS", "*"], ["SHUTDOWN"], ["GET", "somebody-elses"],
                      ["SCRIPT", "FLUSH"], ["PUBLISH", "other", "x"], ["ACL", "LIST"], ["SWAPDB", "0", "1"]):
            with self.assertRaisesRegex(harness.RedisError, "NOPERM", msg=words):
                millrace(*words)


class WithCertificates(Life):
    """A server that speaks TLS, with certificates made for it."""
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = harness.temp_folder()

        def openssl(*words):
            subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=cls.folder)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        for ca in ("ca", "other-ca"):
            openssl("req", *key, "-x509", "-days", "2", "-keyout", f"{ca}.key", "-out", f"{ca}.crt", "-subj", f"/CN={ca}")
        for name, names, valid in (("good", "IP:127.0.0.1,DNS:localhost", []),
                                   ("wrong-host", "DNS:redis.example", []),
                                   ("expired", "IP:127.0.0.1,DNS:localhost", ["faketime", "2020-01-01"])):
            openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            with open(os.path.join(cls.folder, "names"), "w", encoding="utf-8") as file:
                file.write(f"subjectAltName={names}\n")
            words = ["openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                     "-days", "2", "-extfile", "names", "-out", f"{name}.crt"]
            subprocess.run([*valid, *words], check=True, capture_output=True, cwd=cls.folder)

    def file(self, name):
        return os.path.join(self.folder, name)

    def serve(self, name):
        return self.redis_on_a_port("--tls-cert-file", self.file(f"{name}.crt"), "--tls-key-file", self.file(f"{name}.key"),
                                    "--tls-ca-cert-file", self.file("ca.crt"), "--tls-auth-clients", "no", option="--tls-port")

    def url(self, port, ca="ca", **options):
        words = {"ca": self.file(f"{ca}.crt"), "connect_timeout": 10_000, **options}
        return f"rediss://127.0.0.1:{port}?" + "&".join(f"{name}={value}" for name, value in words.items())


class Certificates(WithCertificates):
    def test_a_good_one(self):
        server, port = self.serve("good")
        client = self.daemon(store=self.url(port)).client()
        self.assertEqual([r["status"] for r in client.publish(event("one"))], ["stored"])
        self.assertEqual(client.get("/health").status, 200)

    def test_of_a_ca_that_is_not_ours(self):
        server, port = self.serve("good")
        self.refused(self.url(port, ca="other-ca"), "unavailable", "not trusted")

    def test_of_another_host(self):
        server, port = self.serve("wrong-host")
        self.refused(self.url(port), "not trusted", "(?i)mismatch|host ?name|IP address")
        client = self.daemon(store=self.url(port, server_name="redis.example")).client()
        self.assertEqual([r["status"] for r in client.publish(event("one"))], ["stored"])

    def test_an_expired_one(self):
        server, port = self.serve("expired")
        self.refused(self.url(port), "not trusted", "expired")

    def test_one_that_expires_while_it_serves(self):
        server, port = self.serve("good")
        client = self.daemon(store=self.url(port, connect_timeout=1000)).client()
        client.publish(event("one"))
        server.ask("CONFIG", "SET", "tls-cert-file", self.file("expired.crt"), "tls-key-file", self.file("expired.key"))
        self.cut_all(server)
        why = harness.wait_until(lambda: (w := self.pool(client, "append")["why"]) and "expired" in w and w, 20, "the pool says why")
        self.assertIn("not trusted", why)
        self.assertEqual(self.publish(client, "two").status, 503)
        server.ask("CONFIG", "SET", "tls-cert-file", self.file("good.crt"), "tls-key-file", self.file("good.key"))
        harness.wait_until(lambda: self.publish(client, "two").status == 200, 30, "mended, it goes on", every=0.1)


if __name__ == "__main__":
    harness.main()
