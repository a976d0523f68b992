# SPDX-License-Identifier: Apache-2.0
"""TLS from outside: Python's ssl, curl and the command line against certificates made by openssl."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import unittest

import harness
from harness import event

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
EVENTS = "/v1/streams/events/events"


def make_pair(folder, name, *more):
    """A self-signed certificate for 127.0.0.1 and its key."""
    cert, key = (os.path.join(folder, f"{name}.{part}.pem") for part in ("cert", "key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-subj", f"/CN={name}", "-addext",
                    "subjectAltName=IP:127.0.0.1", *(more or ("-days", "2"))], check=True, capture_output=True)
    return cert, key


def make_expired_pair(folder):
    cert, key = (os.path.join(folder, f"old.{part}.pem") for part in ("cert", "key"))
    subprocess.run(["faketime", "2020-01-01", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                    key, "-out", cert, "-subj", "/CN=old", "-days", "2"], check=True, capture_output=True)
    return cert, key


class Tls(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for tool in ("openssl", "curl"):
            if not shutil.which(tool):
                raise (AssertionError if harness.IN_CI else unittest.SkipTest)(f"needs {tool}")
        cls.folder = harness.temp_folder()
        cls.cert, cls.key = make_pair(cls.folder, "good")
        cls.other_cert, cls.other_key = make_pair(cls.folder, "other")

    def serve(self, *args, pair=None):
        cert, key = pair or (self.cert, self.key)
        self.d = self.daemon("--server-tls-cert", cert, "--server-tls-key", key, *args)
        self.assertTrue(self.d.url.startswith("https://"), self.d.url)
        return self.d

    def trust(self, cert=None):
        return ssl.create_default_context(cafile=cert or self.cert)

    def connect(self, cert=None):
        return self.trust(cert).wrap_socket(socket.create_connection(("127.0.0.1", self.d.port), 10),
                                            server_hostname="127.0.0.1")

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPSConnection("127.0.0.1", self.d.port, timeout=20, context=self.trust())
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def publish(self, *events):
        status, body = self.ask("POST", EVENTS, json.dumps(events), BATCH)
        self.assertEqual(status, 200, body)

    def run_program(self, *args, **env):
        return subprocess.run([harness.PROGRAM, *args], capture_output=True, text=True, timeout=30,
                              env=harness.clean_environment(self.folder, MILLRACE_URL=self.d.url, **env))

    def curl(self, *args):
        return subprocess.run(["curl", "-sS", "--max-time", "20", *args], capture_output=True, timeout=30)

    def test_publish_read_and_a_large_body_there_and_back(self):
        self.serve()
        self.publish(*(event(i, data="x" * 100_000) for i in range(60)))
        status, body = self.ask("GET", EVENTS + "?limit=60")
        self.assertEqual(status, 200)
        self.assertGreater(len(body), 6_000_000)
        self.assertEqual([e["event"]["id"] for e in json.loads(body)["events"]], [str(i) for i in range(60)])
        # curl asks for "100 Continue" before a large body, and complains when the end is not said.
        upload = os.path.join(self.folder, "upload.json")
        with open(upload, "w", encoding="ascii") as file:
            json.dump([event("large", data="y" * 900_000), event("next", data="z" * 900_000)], file)
        sent = self.curl("--cacert", self.cert, "-H", "Expect: 100-continue", "-H", "Content-Type: " + BATCH[
            "Content-Type"], "--data-binary", "@" + upload, self.d.url + EVENTS)
        self.assertEqual(sent.returncode, 0, sent)
        self.assertEqual([r["status"] for r in json.loads(sent.stdout)["results"]], ["stored", "stored"])
        self.assertEqual(self.d.terminate(), 0)

    def test_a_waiting_claim_is_answered_by_a_publish(self):
        self.serve()
        got = []
        body = json.dumps({"consumer": "c", "stream": "events", "start": "beginning", "wait_ms": 15_000})
        self.publish(event("before"))
        self.ask("POST", "/v1/groups/g/claim", json.dumps({"consumer": "c", "stream": "events"}))
        waiting = threading.Thread(target=lambda: got.append(self.ask("POST", "/v1/groups/h/claim", body)))
        self.assertEqual(self.ask("POST", "/v1/groups/h/claim", body)[0], 200)  # takes "before"
        waiting.start()
        time.sleep(0.3)
        self.publish(event("awaited"))
        waiting.join(10)
        self.assertFalse(waiting.is_alive())
        self.assertEqual([d["event"]["id"] for d in json.loads(got[0][1])["deliveries"]], ["awaited"])

    def test_a_tail_goes_on_and_its_end_is_said(self):
        self.serve()
        with self.connect() as client:
            client.settimeout(10)
            client.sendall(b"GET /v1/streams/events/tail?after=beginning HTTP/1.0\r\n\r\n")
            self.publish(event("tailed"))
            seen = b""
            while b"tailed" not in seen:
                chunk = client.recv(4096)
                self.assertTrue(chunk, seen)
                seen += chunk
            self.d.process.terminate()
            while True:  # suppress_ragged_eofs hides a missing close_notify, so ask below it
                try:
                    if not client._sslobj.read(4096):
                        break
                except ssl.SSLZeroReturnError:
                    break
                except ssl.SSLEOFError:
                    self.fail("the tail was cut without close_notify")
        self.assertEqual(self.d.process.wait(20), 0)

    def test_the_command_line_trusts_what_it_is_told_to_and_nothing_else(self):
        self.serve()
        told = self.run_program("--ca-file", self.cert, "publish", "--type", "a.b", "--source", "/s",
                                "--data", "1")
        self.assertEqual(told.returncode, 0, told)
        self.assertEqual(self.run_program("status", MILLRACE_CA_FILE=self.cert).returncode, 0)
        for args in ((), ("--ca-file", self.other_cert)):
            refused = self.run_program(*args, "status")
            self.assertEqual(refused.returncode, 3, refused)
            self.assertIn("certificate is not trusted", refused.stderr)
            self.assertIn("--ca-file", refused.stderr)
        broken = self.run_program("--ca-file", self.folder + "/none.pem", "status")
        self.assertNotEqual(broken.returncode, 0)
        self.assertIn("none.pem", broken.stderr)
        self.assertNotEqual(self.curl("--cacert", self.other_cert, self.d.url + "/health").returncode, 0)

    def test_plain_http_and_old_tls_are_turned_away(self):
        self.serve()
        plain = self.curl("-i", self.d.url.replace("https:", "http:") + "/health")
        self.assertIn(b" 400 ", plain.stdout.splitlines()[0])
        self.assertIn(b"https://", plain.stdout)
        old = self.trust()
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            old.wrap_socket(socket.create_connection(("127.0.0.1", self.d.port), 10), server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", self.d.port), 10) as garbage:
            garbage.sendall(b"\x16\x03\x01\xff\xff" + b"\0" * 500)
        self.assertEqual(self.ask("GET", "/health")[0], 200)

    def test_who_asks_in_the_other_tongue_is_told_which_one_is_spoken(self):
        self.serve()
        crossed = self.d.url.replace("https:", "http:")
        for args in (("status",), ("publish", "--type", "a.b", "--source", "/s", "--data", "1")):
            refused = self.run_program("--url", crossed, *args)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("this port speaks TLS", refused.stderr)
            self.assertIn("https://", refused.stderr)
        self.d = self.daemon()
        refused = self.run_program("--url", self.d.url.replace("http:", "https:"), "status")
        self.assertEqual(refused.returncode, 3, refused)
        self.assertIn("does not speak TLS", refused.stderr)
        self.assertIn("http://", refused.stderr)
        self.assertNotIn("nobody answers", refused.stderr)

    def test_a_connection_too_many_is_told_so_and_silent_ones_do_not_pile_up(self):
        self.serve("--server-max-connections", "2")
        kept = [self.connect() for _ in range(2)]
        for client in kept:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            self.assertIn(b" 200 ", client.recv(4096))
        for _ in range(3):  # each makes room for the next one
            status, body = self.ask("GET", "/health")
            self.assertEqual((status, json.loads(body)["code"]), (503, "busy"), body)
        silent = [socket.create_connection(("127.0.0.1", self.d.port), 10) for _ in range(40)]
        for client in silent:  # closed at once, or when their handshake did not come
            client.settimeout(10)
            self.assertEqual(client.recv(1), b"")
            client.close()
        for client in kept:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            self.assertIn(b" 200 ", client.recv(4096))
            client.close()
        harness.wait_until(lambda: self.ask("GET", "/health")[0] == 200, what="room for new ones")

    def test_whatever_protocols_a_client_offers_it_gets_http_1_1_or_no_choice(self):
        self.serve()
        for offered, chosen in ((["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), (["h2"], None),
                                (["x" * 255, "h2"], None)):
            context = self.trust()
            context.set_alpn_protocols(offered)
            with context.wrap_socket(socket.create_connection(("127.0.0.1", self.d.port), 10),
                                     server_hostname="127.0.0.1") as client:
                self.assertEqual(client.selected_alpn_protocol(), chosen, offered)
                client.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                self.assertIn(b" 200 ", client.recv(4096))

    def test_unfinished_handshakes_hold_nobody_and_are_counted(self):
        self.serve("--server-request-timeout", "1s")
        silent = [socket.create_connection(("127.0.0.1", self.d.port), 10) for _ in range(50)]
        for client in silent[:25]:
            client.sendall(b"\x16\x03\x01")
        self.publish(event("meanwhile"))
        for client in silent:
            client.settimeout(10)
            self.assertEqual(client.recv(1), b"")
            client.close()
        metrics = self.ask("GET", "/metrics")[1].decode()
        counted = [line for line in metrics.splitlines() if line.startswith("millrace_http_timeouts_total")]
        self.assertGreaterEqual(sum(float(line.split()[-1]) for line in counted), 50, counted)

    def test_a_request_refused_early_still_reads_its_answer(self):
        self.serve("--server-max-batch-bytes", "1048576")
        with self.connect() as client:
            client.settimeout(10)
            client.sendall(b"POST /v1/streams/events/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                           b"Content-Type: application/x-ndjson\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 500_000)
            time.sleep(0.2)
            client.sendall(b"x" * 100_000)  # more after close_notify must not reset what was answered
            self.assertIn(b" 413 ", client.recv(4096))

    def test_bad_pairs_refuse_to_start_and_say_why(self):
        empty = os.path.join(self.folder, "empty.pem")
        with open(empty, "w", encoding="ascii"):
            pass
        missing = os.path.join(self.folder, "missing.pem")
        locked = os.path.join(self.folder, "locked.pem")
        subprocess.run(["openssl", "ec", "-in", self.key, "-out", locked, "-aes128", "-passout", "pass:word"],
                       check=True, capture_output=True)
        for cert, key, names, says in (
                (self.cert, self.other_key, self.other_key, "is not the key of the certificate"),
                (missing, self.key, missing, "cannot be read"),
                (self.cert, missing, missing, "cannot be read"),
                (empty, self.key, empty, "empty"),
                (self.key, self.key, self.key, "server.tls_cert must name a PEM file"),
                (self.cert, self.cert, self.cert, "server.tls_key must name a PEM file"),
                (self.cert, locked, locked, "not encrypted")):
            daemon = harness.Daemon(args=["--server-tls-cert", cert, "--server-tls-key", key])
            code, said = daemon.refused()
            self.assertNotEqual(code, 0)
            self.assertIn(names, said)
            self.assertIn(says, said)
        code, said = harness.Daemon(args=["--server-tls-cert", self.cert]).refused()
        self.assertEqual(code, 2, said)
        self.assertIn("server.tls_key", said)

    def test_hang_up_reads_the_pair_again_and_drops_nobody(self):
        cert, key = (os.path.join(self.folder, f"live.{part}.pem") for part in ("cert", "key"))
        shutil.copy(self.cert, cert)
        shutil.copy(self.key, key)
        self.serve(pair=(cert, key))
        with self.connect() as kept:
            shutil.copy(self.other_cert, cert)  # half of a new pair: the old one stays
            self.d.process.send_signal(signal.SIGHUP)
            harness.wait_until(lambda: "reload_failed" in self.d.log(), what="the refusal")
            self.connect().close()
            shutil.copy(self.other_key, key)
            self.d.process.send_signal(signal.SIGHUP)
            harness.wait_until(lambda: "certificate_reloaded" in self.d.log(), what="the reload")
            self.connect(self.other_cert).close()
            with self.assertRaises(ssl.SSLCertVerificationError):
                self.connect()
            kept.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            self.assertIn(b" 200 ", kept.recv(4096))

    def test_doctor_looks_at_the_certificate(self):
        cert, key = (os.path.join(self.folder, f"watched.{part}.pem") for part in ("cert", "key"))

        def put(pair):
            shutil.copy(pair[0], cert)
            shutil.copy(pair[1], key)

        def found():
            answer = json.loads(self.ask("GET", "/v1/doctor")[1])
            return next(f for f in answer["findings"] if f["check"] == "certificate")
        put((self.cert, self.key))
        self.serve(pair=(cert, key))
        self.assertEqual(found()["level"], "ok", found())
        self.assertIn(cert, found()["found"])
        put((self.cert, self.other_key))
        self.assertEqual(found()["level"], "fail")
        self.assertIn("is not the key", found()["found"])
        os.unlink(key)
        self.assertIn("cannot be read", found()["found"])
        if not shutil.which("faketime"):
            return self.refuse_or_skip("faketime")
        put(make_expired_pair(self.folder))
        self.assertIn("expired at 2020-01-03", found()["found"])
        self.assertIn("SIGHUP", found()["to_do"])

    def test_the_log_warns_of_plain_http_for_others_and_of_an_expired_certificate(self):
        token = ("--server-listen", "0.0.0.0:0", "--server-token", "secret-0001")
        self.assertIn("plain_http", self.daemon(*token).log())
        self.serve(*token)
        self.assertNotIn("plain_http", self.d.log())
        if not shutil.which("faketime"):
            return self.refuse_or_skip("faketime")
        self.assertIn("certificate_expired", self.serve(pair=make_expired_pair(self.folder)).log())


if __name__ == "__main__":
    harness.main()
