# SPDX-License-Identifier: Apache-2.0
"""The HTTP surface from outside, against the published contract and the CloudEvents bindings."""

import base64
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from urllib.parse import quote

import harness
from harness import event

EVENTS = "/v1/streams/events/events"
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


class Http(harness.Case):
    def setUp(self):
        super().setUp()
        self.serve()

    def serve(self, *args, **options):
        self.d = self.daemon(*args, **options)
        self.c = self.d.client()

    def problem(self, response, status, code=None):
        self.assertEqual(response.status, status, response)
        self.assertEqual(response.type, "application/problem+json", response)
        body = response.json
        for member in ("type", "title", "status", "detail", "code", "retryable"):
            self.assertIn(member, body)
        self.assertEqual(body["status"], status)
        self.assertIsInstance(body["retryable"], bool)
        if code:
            self.assertEqual(body["code"], code, body)
        return body

    def stored(self):
        return [e for _, e in self.c.read()]


class Publishing(Http):
    def test_structured(self):
        sent = event("1", subject="s", data={"a": [1, None, "ü"]}, datacontenttype="application/json", myext="x", flag=True, n=-5)
        response = self.c.post(EVENTS, json.dumps(sent), headers={"Content-Type": "Application/CloudEvents+JSON; charset=UTF-8"})
        self.assertEqual(response.status, 200, response)
        self.assertEqual(response.type, "application/json")
        (result,) = response.json["results"]
        self.assertEqual({k: result[k] for k in ("id", "status", "durability")},
                         {"id": "1", "status": "stored", "durability": "durable"})
        self.assertIsInstance(result["position"], str)
        self.assertEqual(self.stored(), [sent])

    def test_binary(self):
        payload = bytes(range(256))
        headers = {"ce-specversion": "1.0", "CE-ID": "b 1".replace(" ", "%20"), "ce-source": "/s", "ce-type": "t",
                   "ce-note": quote('Euro € 😀 "%"', safe=""), "Content-Type": "application/octet-stream"}
        self.assertEqual(self.c.post(EVENTS, payload, headers=headers).status, 200)
        (stored,) = self.stored()
        self.assertEqual(stored["id"], "b 1")
        self.assertEqual(stored["note"], 'Euro € 😀 "%"')
        self.assertEqual(stored["datacontenttype"], "application/octet-stream")
        self.assertEqual(harness.data_of(stored), payload)

    def test_percent_encoding_of_binary_headers(self):
        base = {"ce-specversion": "1.0", "ce-source": "/s", "ce-type": "t"}
        good = {"Euro%20%E2%82%AC%20%F0%9F%98%80": "Euro € 😀", "%e2%82%ac": "€", "100%25": "100%", '"quoted"': "quoted",
                '"a%20b"': "a b", "%2541": "%41"}
        for number, (wire, meant) in enumerate(good.items()):
            response = self.c.post(EVENTS, headers={**base, "ce-id": str(number), "ce-subject": wire})
            self.assertEqual(response.status, 200, (wire, response))
            self.assertEqual(self.stored()[-1]["subject"], meant, wire)
        for wire in ("%C0%A0", "%ED%A0%80", "%FF", "%E2%82", "%00"):
            response = self.c.post(EVENTS, headers={**base, "ce-id": "bad", "ce-subject": wire})
            problem = self.problem(response, 400)
            self.assertIn("subject", json.dumps(problem), wire)
        self.assertEqual(len(self.stored()), len(good))

    def test_empty_data_differs_from_no_data(self):
        base = {"ce-specversion": "1.0", "ce-source": "/s", "ce-type": "t"}
        self.c.post(EVENTS, headers={**base, "ce-id": "none"})
        self.c.post(EVENTS, b"", headers={**base, "ce-id": "empty", "Content-Type": "application/octet-stream"})
        none, empty = self.stored()
        self.assertIsNone(harness.data_of(none))
        self.assertEqual(harness.data_of(empty), b"")

    def test_batch_in_input_order_and_empty_batch(self):
        results = self.c.publish(*[event(n) for n in range(50)])
        self.assertEqual([r["id"] for r in results], [str(n) for n in range(50)])
        positions = [int(r["position"]) for r in results]
        self.assertEqual(positions, sorted(set(positions)))
        self.assertEqual(self.c.publish(), [])

    def test_ndjson(self):
        body = "\n".join(json.dumps(event(n, data="line\nbreak", datacontenttype="text/plain")) for n in range(5)) + "\n"
        response = self.c.post(EVENTS, body, headers=NDJSON)
        self.assertEqual([r["status"] for r in response.json["results"]], ["stored"] * 5)
        self.assertEqual([e["data"] for e in self.stored()], ["line\nbreak"] * 5)

    def test_duplicates_and_conflicts(self):
        (first,) = self.c.publish(event("1", data=1))
        results = self.c.publish(event("2"), event("1", data=1), event("1", data=2), event("1", type="other", data=1))
        self.assertEqual([r["status"] for r in results], ["stored", "duplicate", "conflict", "conflict"])
        self.assertEqual(results[1]["position"], first["position"])
        self.assertEqual([r["durability"] for r in results], ["durable", "durable", None, None])
        self.assertIsNone(results[2]["position"])
        self.assertIsNone(results[3]["position"])
        self.assertEqual([e["id"] for e in self.stored()], ["1", "2"])

    def test_the_same_id_from_another_source_is_another_event(self):
        results = self.c.publish(event("1", source="/a"), event("1", source="/b"))
        self.assertEqual([r["status"] for r in results], ["stored", "stored"])

    def test_one_invalid_event_and_nothing_is_stored(self):
        for headers, join in ((BATCH, lambda es: "[" + ",".join(es) + "]"), (NDJSON, "\n".join)):
            lines = [json.dumps(event(n)) for n in range(4)]
            lines[2] = json.dumps({"specversion": "1.0", "id": "x", "type": "t"})
            problem = self.problem(self.c.post(EVENTS, join(lines), headers=headers), 400)
            self.assertEqual([e["index"] for e in problem["errors"]], [2])
            self.assertIn("source", json.dumps(problem["errors"]))
            self.assertEqual(self.stored(), [])
        self.problem(self.c.post(EVENTS, "[{", headers=BATCH), 400)
        self.problem(self.c.post(EVENTS, "{}", headers=BATCH), 400)

    def test_invalid_events_name_attribute_and_rule(self):
        cases = [({"id": ""}, "id"), ({"specversion": "0.3"}, "specversion"), ({"type": 5}, "type"), ({"time": "yesterday"}, "time"),
                 ({"Upper": "x"}, "Upper"), ({"subject": ""}, "subject"), ({"data": 1, "data_base64": "AA=="}, "data"),
                 ({"data_base64": "?"}, "data_base64"), ({"ext": {"a": 1}}, "ext"), ({"ext": 1.5}, "ext"), ({"ext": 2**31}, "ext"),
                 ({"source": None}, "source"), ({"dataschema": "relative"}, "dataschema")]
        for change, name in cases:
            broken = event("1") | change
            problem = self.problem(self.c.post(EVENTS, json.dumps(broken), headers=STRUCTURED), 400, "invalid_event")
            self.assertIn(name, json.dumps(problem), change)
        self.assertEqual(self.stored(), [])

    def test_null_is_absent(self):
        self.assertEqual(self.c.publish(event("1", subject=None, ext=None, data=None))[0]["status"], "stored")
        (stored,) = self.stored()
        self.assertNotIn("subject", stored)
        self.assertNotIn("ext", stored)

    def test_id_is_required_and_idempotency_key_may_stand_for_it(self):
        without = {"specversion": "1.0", "source": "/s", "type": "t"}
        self.problem(self.c.post(EVENTS, json.dumps(without), headers=STRUCTURED), 400)
        for key in ('"quoted-1"', "bare-1"):
            headers = {**STRUCTURED, "Idempotency-Key": key}
            first = self.c.post(EVENTS, json.dumps(without), headers=headers).json["results"][0]
            second = self.c.post(EVENTS, json.dumps(without), headers=headers).json["results"][0]
            self.assertEqual((first["status"], second["status"]), ("stored", "duplicate"))
            self.assertEqual(first["id"], key.strip('"'))
            self.assertEqual(first["position"], second["position"])

    def test_unknown_stream_media_type_parameter_method_and_path(self):
        self.problem(self.c.post("/v1/streams/nowhere/events", "[]", headers=BATCH), 404, "unknown_stream")
        self.problem(self.c.post(EVENTS, "<xml/>", headers={"Content-Type": "text/xml"}), 415)
        self.problem(self.c.post(EVENTS, "x"), 415)
        for call in (lambda: self.c.post(EVENTS + "?sync=1", json.dumps(event(1)), headers=STRUCTURED),
                     lambda: self.c.get(EVENTS + "?filter=true"), lambda: self.c.get(EVENTS + "?limits=1")):
            problem = self.problem(call(), 400, "invalid_argument")
            self.assertRegex(problem["detail"], "sync|filter|limits")
        problem = self.problem(self.c.post("/v1/groups/g/claim", {"consumer": "c", "stream": "events", "start": "end", "tpyes": []}), 400)
        self.assertIn("tpyes", problem["detail"])
        self.problem(self.c.request("PUT", EVENTS, "{}"), 405)
        self.problem(self.c.get("/v2/anything"), 404)
        self.assertEqual(self.stored(), [])

    def test_relaxed_is_said_by_name(self):
        response = self.c.post(EVENTS + "?durability=relaxed", json.dumps(event(1)), headers=STRUCTURED)
        self.assertIn(response.json["results"][0]["durability"], ("relaxed", "durable"))
        self.problem(self.c.post(EVENTS + "?durability=memory", json.dumps(event(2)), headers=STRUCTURED), 400)

    def test_a_megabyte_is_the_default_limit(self):
        big = base64.b64encode(os.urandom(700_000)).decode()
        self.assertEqual(self.c.publish(event(1, data_base64=big))[0]["status"], "stored")
        too_big = {"ce-specversion": "1.0", "ce-id": "2", "ce-source": "/s", "ce-type": "t", "Content-Type": "application/octet-stream"}
        problem = self.problem(self.c.post(EVENTS, os.urandom((1 << 20) + 4096), headers=too_big), 413, "too_large")
        self.assertEqual(problem["limit"], 1 << 20)
        self.assertEqual(len(self.stored()), 1)


class Limits(Http):
    def serve(self):
        super().serve(env={"MILLRACE_SERVER_MAX_EVENT_BYTES": "4096", "MILLRACE_SERVER_MAX_BATCH_BYTES": "16384",
                           "MILLRACE_SERVER_MAX_HEADER_BYTES": "4096", "MILLRACE_SERVER_REQUEST_TIMEOUT": "2s",
                           "MILLRACE_SERVER_MAX_CONNECTIONS": "64"})

    def test_413_names_the_limit(self):
        problem = self.problem(self.c.post(EVENTS, json.dumps(event(1, data="x" * 5000)), headers=STRUCTURED), 413,
                               "too_large")
        self.assertEqual(problem["limit"], 4096)
        body = json.dumps([event(n, data="x" * 1000) for n in range(30)])
        problem = self.problem(self.c.post(EVENTS, body, headers=BATCH), 413, "too_large")
        self.assertEqual(problem["limit"], 16384)
        self.assertEqual(self.stored(), [])

    def test_too_long_headers(self):
        response = self.c.get("/health", headers={"X-Long": "x" * 8000})
        self.assertEqual(response.status, 431, response)

    def test_a_slow_client_costs_a_socket_and_not_a_thread(self):
        slow = []
        for _ in range(20):
            s = socket.create_connection(("127.0.0.1", self.d.port))
            self.addCleanup(s.close)
            s.sendall(b"POST /v1/streams/events/events HTTP/1.1\r\nHost: localhost\r\nContent-")
            slow.append(s)
        begun = time.monotonic()
        self.assertEqual(self.c.get("/health").status, 200)
        self.assertLess(time.monotonic() - begun, 0.5, "others are not held up")
        slow[0].settimeout(8)
        answer = slow[0].recv(4096)  # 408 or just closed, but not for ever
        self.assertTrue(answer == b"" or b" 408 " in answer.split(b"\r\n")[0], answer)
        self.assertLess(time.monotonic() - begun, 8)

    def test_connections_beyond_the_limit_do_not_kill_the_others(self):
        self.assertEqual(self.c.get("/health").status, 200)
        many = []
        for _ in range(100):
            s = socket.create_connection(("127.0.0.1", self.d.port))
            self.addCleanup(s.close)
            many.append(s)
        self.assertEqual(self.c.get("/health").status, 200)
        for s in many:
            s.close()
        fresh = self.d.client()

        def again():
            try:
                return fresh.get("/health", timeout=2).status == 200
            except (harness.NotSent, harness.NoAnswer):
                return False
        harness.wait_until(again, 10, "new connections are taken again")

    def test_expect_continue_pipelining_and_chunks(self):
        with socket.create_connection(("127.0.0.1", self.d.port)) as s:
            s.settimeout(5)
            body = json.dumps(event("chunked")).encode()
            s.sendall(b"POST /v1/streams/events/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cloudevents+json\r\n"
                      b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:10], body[10:]))
                      + b"0\r\n\r\nGET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := s.recv(65536):
                answer += part
            self.assertEqual(answer.count(b"HTTP/1.1 200"), 2, answer)
        with socket.create_connection(("127.0.0.1", self.d.port)) as s:
            s.settimeout(5)
            s.sendall(b"POST /v1/streams/events/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cloudevents+json\r\n"
                      b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
            self.assertIn(b"100", s.recv(100).split(b"\r\n")[0])
            s.sendall(body)
            self.assertIn(b"duplicate", s.recv(65536))

    def test_framing_that_two_servers_could_read_differently_is_refused(self):
        body = json.dumps(event("smuggled")).encode()
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(body)
        for version, headers, status in (
                (b"1.1", both, 400), (b"1.1", b"Content-Length: 1\r\nContent-Length: 2\r\n", 400),
                (b"1.1", b"Transfer-Encoding: gzip, chunked\r\n", 501), (b"1.1", b"Transfer-Encoding: chunked, chunked\r\n", 501),
                (b"1.1", b"Transfer-Encoding: xchunked\r\n", 501), (b"1.1", b"Transfer-Encoding : chunked\r\n", 400),
                (b"1.0", b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n", 400)):
            with socket.create_connection(("127.0.0.1", self.d.port)) as s:
                s.settimeout(5)
                s.sendall(b"POST /v1/streams/events/events HTTP/%s\r\nHost: localhost\r\n"
                          b"Content-Type: application/cloudevents+json\r\n%s\r\n%s" % (version, headers, chunked))
                answer = b""
                while part := s.recv(65536):
                    answer += part
                self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), (headers, answer))
                self.assertEqual(answer.count(b"HTTP/1.1 "), 1, (headers, answer))
        self.assertEqual(self.c.read(), [])

    def test_rubbish_is_answered_or_cut_and_harms_nobody(self):
        for rubbish in (b"\x16\x03\x01\x00\xa5hello", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", os.urandom(2000),
                        b"POST /v1/streams/events/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", self.d.port)) as s:
                s.settimeout(5)
                s.sendall(rubbish)
                try:
                    s.recv(4096)
                except ConnectionResetError:
                    pass
        self.assertEqual(self.c.get("/health").status, 200)


class Reading(Http):
    def test_pages_follow_each_other(self):
        self.c.publish(*[event(n, type="a.x" if n % 2 else "b.y", source=f"/s{n % 3}") for n in range(25)])
        seen, after = [], "beginning"
        for _ in range(20):
            page = self.c.ok("GET", f"{EVENTS}?limit=10&after={after}")
            self.assertLessEqual(len(page["events"]), 10)
            for entry in page["events"]:
                self.assertIsInstance(entry["position"], str)
            seen += [entry["event"]["id"] for entry in page["events"]]
            after = page["next"]
            self.assertIsInstance(after, str)
            if page["at_end"]:
                break
        self.assertEqual(seen, [str(n) for n in range(25)])
        page = self.c.ok("GET", f"{EVENTS}?after={after}")
        self.assertEqual((page["events"], page["at_end"]), ([], True))
        page = self.c.ok("GET", f"{EVENTS}?after=end")
        self.assertEqual((page["events"], page["at_end"]), ([], True))
        odd = self.c.ok("GET", f"{EVENTS}?types=a.*")
        self.assertEqual([int(e["event"]["id"]) % 2 for e in odd["events"]], [1] * 12)
        both = self.c.ok("GET", f"{EVENTS}?types=a.*,{quote('b.{y,z}')}&source=/s1")
        self.assertEqual({e["event"]["source"] for e in both["events"]}, {"/s1"})
        self.problem(self.c.get(f"{EVENTS}?after=rubbish"), 400)
        self.problem(self.c.get(f"{EVENTS}?limit=0"), 400)
        self.problem(self.c.get(f"{EVENTS}?types=%5Ba"), 400)

    def test_since_and_until_are_by_the_time_of_storing(self):
        self.c.publish(event(1))
        time.sleep(0.02)
        middle = time.time()
        time.sleep(0.02)
        self.c.publish(event(2))
        stamp = quote(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(middle)) + f".{int(middle % 1 * 1e6):06d}Z")
        self.assertEqual([e["event"]["id"] for e in self.c.ok("GET", f"{EVENTS}?since={stamp}")["events"]], ["2"])
        self.assertEqual([e["event"]["id"] for e in self.c.ok("GET", f"{EVENTS}?until={stamp}")["events"]], ["1"])

    def test_ndjson_by_accept(self):
        self.c.publish(*[event(n) for n in range(3)])
        response = self.c.get(f"{EVENTS}?limit=2", headers={"Accept": "application/x-ndjson"})
        self.assertEqual(response.type, "application/x-ndjson")
        lines = [json.loads(line) for line in response.body.splitlines()]
        self.assertEqual([line["event"]["id"] for line in lines], ["0", "1"])
        self.assertEqual(response.headers["Millrace-Next"], lines[-1]["position"])
        self.assertEqual(response.headers["Millrace-At-End"], "false")

    def test_where_is_it(self):
        self.c.publish(event(1), event(2))
        self.c.claim("g", stream="events", start="beginning", max=1)
        (match,) = self.c.ok("GET", "/v1/events?id=1&source=/judge")["matches"]
        self.assertEqual(match["stream"], "events")
        self.assertEqual([(g["group"], g["state"]) for g in match["groups"]], [("g", "claimed")])
        (match,) = self.c.ok("GET", "/v1/events?id=2&source=/judge")["matches"]
        self.assertEqual([(g["group"], g["state"]) for g in match["groups"]], [("g", "ahead")])
        self.assertEqual(self.c.ok("GET", "/v1/events?id=3&source=/judge")["matches"], [])

    def test_streams_are_created_on_purpose(self):
        names = {s["name"] for s in self.c.ok("GET", "/v1/streams")["streams"]}
        self.assertEqual(names, {"events", "logs"})
        response = self.c.post("/v1/streams", {"name": "orders"})
        self.assertEqual(response.status, 201, response)
        self.problem(self.c.post("/v1/streams", {"name": "orders"}), 409, "already_exists")
        self.problem(self.c.post("/v1/streams", {"name": "Not Good"}), 400, "invalid_argument")
        self.c.publish(event(1), stream="orders")
        self.assertEqual(len(self.c.read("orders")), 1)
        self.assertEqual(self.c.read("events"), [])

    def test_stats_tell_pending_from_dead(self):
        self.c.publish(*[event(n) for n in range(5)])
        first, second, *_ = self.c.claim("g", stream="events", start="beginning", max=3)
        self.c.settle("g", "ack", [first])
        self.c.settle("g", "reject", [second], reason="no")
        store = self.c.ok("GET", "/v1/stats")["store"]
        self.assertEqual(store["total_events"], 5)
        self.assertEqual(store["dlq_events"], 1)
        self.assertEqual(store["pending_events"], 3)

    def test_health_and_ready(self):
        self.assertEqual(self.c.get("/health").json["status"], "ok")
        self.assertEqual(self.c.get("/health/events").json["status"], "ok")
        self.assertTrue(self.c.get("/ready").json["ready"])

    def test_metrics_are_clean(self):
        self.c.publish(event(1))
        self.c.claim("g", stream="events", start="beginning")
        response = self.c.get("/metrics")
        self.assertEqual(response.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        text = response.body.decode()
        self.assertTrue(text.endswith("\n"))
        for name in ("millrace_published_total", "millrace_group_lag_events", "millrace_in_flight", "millrace_dlq_events",
                     "millrace_redelivered_total", "millrace_dedup_hits_total", "millrace_stored_bytes", "millrace_group_oldest_unacked_seconds", "millrace_publish_ack_seconds", "millrace_build_info", "millrace_store_up"):
            self.assertIn(f"\n{name}", "\n" + text)
        if not shutil.which("promtool"):
            self.refuse_or_skip("promtool")
        done = subprocess.run(["promtool", "check", "metrics"], input=response.body, capture_output=True)
        self.assertEqual(done.returncode, 0, (done.stdout + done.stderr).decode())


class Sse:
    """One Server-Sent Events connection, block by block."""

    def __init__(self, port, path, headers=""):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline().strip()):
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        self.chunked = self.headers.get("transfer-encoding") == "chunked"
        self.buffer = b""

    def close(self):
        self.file.close()
        self.socket.close()

    def block(self, timeout):
        """The next block as a dict of fields, comments left out; None at the end of the stream."""
        self.socket.settimeout(timeout)
        while b"\n\n" not in self.buffer:
            if self.chunked:
                size = int(self.file.readline() or b"0", 16)
                part = self.file.read(size)
                self.file.readline()
            else:
                part = self.file.read1(65536)
            if not part:
                return None
            self.buffer += part
        text, self.buffer = self.buffer.split(b"\n\n", 1)
        fields = {}
        for line in text.decode().split("\n"):
            name, _, value = line.partition(":")
            if name:
                value = value.removeprefix(" ")
                fields[name] = fields[name] + "\n" + value if name in fields else value
        return fields

    def event(self, timeout=5):
        while (block := self.block(timeout)) is not None:
            if "data" in block:
                return block
        return None


class Tail(Http):
    def tail(self, parameters="", headers=""):
        sse = Sse(self.d.port, "/v1/streams/events/tail" + parameters, headers)
        self.addCleanup(sse.close)
        return sse

    def test_new_events_come_at_once_with_their_position(self):
        self.c.publish(event("old"))
        sse = self.tail()
        self.assertEqual(sse.status, 200)
        self.assertTrue(sse.headers["content-type"].startswith("text/event-stream"))
        self.assertIn("no-store", sse.headers["cache-control"])
        begun = time.monotonic()
        (result,) = self.c.publish(event("new", data="two\nlines", datacontenttype="text/plain"))
        block = sse.event()
        self.assertLess(time.monotonic() - begun, 0.5)
        self.assertEqual(block["id"], result["position"])
        self.assertEqual(json.loads(block["data"])["id"], "new")

    def test_resumes_after_the_last_event_id(self):
        positions = [r["position"] for r in self.c.publish(*[event(n) for n in range(6)])]
        sse = self.tail("?after=beginning", f"Last-Event-ID: {positions[3]}\r\n")
        self.assertEqual([json.loads(sse.event()["data"])["id"] for _ in range(2)], ["4", "5"])
        sse = self.tail(f"?after={positions[0]}&types=test.*")
        self.assertEqual(json.loads(sse.event()["data"])["id"], "1")

    def test_an_id_only_block_keeps_it_alive(self):
        self.c.publish(event("x"))
        sse = self.tail("?types=nothing.like.it")
        begun = time.monotonic()
        while "id" not in (block := sse.block(17)):
            pass
        self.assertNotIn("data", block)
        self.assertLess(time.monotonic() - begun, 16)

    def test_clients_that_never_read_cost_no_memory_and_hold_up_nobody(self):
        def resident():
            with open(f"/proc/{self.d.pid}/status", encoding="ascii") as status:
                return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) // 1024
        stuck = [self.tail() for _ in range(20)]
        payload = base64.b64encode(os.urandom(600_000)).decode()
        self.c.publish(event("warm", data_base64=payload))
        before = resident()
        for n in range(40):
            self.c.publish(event(n, data_base64=payload))
        self.assertLess(resident() - before, 250, "40 events of 0.8 MB to 20 who do not read would be 640 MB")
        lively = self.tail()
        self.c.publish(event("now"))
        self.assertEqual(json.loads(lively.event()["data"])["id"], "now")
        first = stuck[0]  # and who reads late still gets everything, in order
        self.assertEqual([json.loads(first.event(10)["data"])["id"] for _ in range(42)], ["warm", *map(str, range(40)), "now"])

    def test_ends_at_sigterm(self):
        sse = self.tail()
        self.assertEqual(self.d.terminate(), 0)
        self.assertIsNone(sse.event())


class Groups(Http):
    START = {"stream": "events", "start": "beginning"}

    def ids(self, deliveries):
        return [d["event"]["id"] for d in deliveries]

    def test_claim_shape_and_ack(self):
        self.c.publish(event(1), event(2))
        deliveries = self.c.claim("g", **self.START)
        self.assertEqual(self.ids(deliveries), ["1", "2"])
        for d in deliveries:
            self.assertIsInstance(d["position"], str)
            self.assertIsInstance(d["lease"], str)
            self.assertEqual(d["attempt"], 1)
            self.assertRegex(d["lease_until"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        self.assertEqual(harness.lag_of(self.c.group("g")), (0, 2, 0))
        answer = self.c.settle("g", "ack", deliveries)
        self.assertEqual(answer, {"done": [d["lease"] for d in deliveries], "stale": []})
        self.assertEqual(self.c.settle("g", "ack", deliveries), {"done": [], "stale": [d["lease"] for d in deliveries]})
        info = self.c.group("g")
        self.assertEqual(harness.lag_of(info), (0, 0, 0))
        self.assertEqual((info["processed"], info["failures"], info["crashes"], info["stream"]), (2, 0, 0, "events"))
        self.assertEqual(info["lag"]["oldest_seconds"], 0)

    def test_the_first_claim_needs_stream_and_start(self):
        self.problem(self.c.post("/v1/groups/g/claim", {"consumer": "c"}), 404, "unknown_group")
        self.problem(self.c.post("/v1/groups/g/claim", {"consumer": "c", "stream": "nowhere", "start": "end"}), 404, "unknown_stream")
        self.problem(self.c.post("/v1/groups/g/claim", {"consumer": "c", "stream": "events", "start": "whenever"}), 400)
        self.problem(self.c.post("/v1/groups/g/claim", {"stream": "events", "start": "end"}), 400)
        self.problem(self.c.get("/v1/groups/g"), 404, "unknown_group")
        self.c.claim("g", **self.START)
        self.c.claim("g")

    def test_a_mismatch_names_the_field(self):
        self.c.claim("g", **self.START, types=["a.*"], order="none")
        for field, value in (("stream", "logs"), ("start", "end"), ("types", ["b.*"]), ("order", "key")):
            problem = self.problem(self.c.post("/v1/groups/g/claim", {"consumer": "c", field: value}), 409, "group_mismatch")
            self.assertEqual(problem["object"], field)
            self.assertFalse(problem["retryable"])
        self.c.claim("g", **self.START, types=["a.*"], order="none")

    def test_starts(self):
        positions = [r["position"] for r in self.c.publish(*[event(n) for n in range(4)])]
        self.assertEqual(self.ids(self.c.claim("a", stream="events", start=positions[1])), ["2", "3"])
        self.assertEqual(self.ids(self.c.claim("b", stream="events", start="end")), [])
        self.assertEqual(self.ids(self.c.claim("c", stream="events", start="2000-01-01T00:00:00Z")), ["0", "1", "2", "3"])
        self.c.publish(event(4))
        self.assertEqual(self.ids(self.c.claim("b")), ["4"])

    def test_types_filter_and_ahead_counts_before_the_filter(self):
        self.c.publish(event(1, type="a.x"), event(2, type="b.x"), event(3, type="a.y"))
        self.assertEqual(self.ids(self.c.claim("g", **self.START, types=["a.*"])), ["1", "3"])
        self.assertEqual(harness.lag_of(self.c.group("g")), (0, 2, 0))

    def test_order_holds_between_consumers(self):
        self.c.publish(event("a1", subject="a"), event("a2", subject="a"), event("b1", partitionkey="b", subject="a"),
                       event("n1"), event("n2"))
        (first,) = self.c.claim("g", "one", max=1, **self.START)
        self.assertEqual(first["event"]["id"], "a1")
        others = self.c.claim("g", "two")
        self.assertEqual(self.ids(others), ["b1", "n1", "n2"])
        self.assertEqual(self.c.claim("g", "two"), [])
        states = {p["id"]: p["state"] for p in self.c.pending("g")}
        self.assertEqual(states["a2"], "parked")
        self.assertEqual(states["a1"], "claimed")
        self.c.settle("g", "ack", [first])
        self.assertEqual(self.ids(self.c.claim("g", "two")), ["a2"])

    def test_a_retry_holds_its_key_and_nobody_else(self):
        self.c.publish(event("a1", subject="a"), event("b1", subject="b"), event("a2", subject="a"))
        (first,) = self.c.claim("g", max=1, **self.START)
        begun = time.monotonic()
        self.c.settle("g", "retry", [first], after_ms=400, reason="later")
        self.assertEqual(self.ids(self.c.claim("g")), ["b1"])
        (waiting,) = [p for p in self.c.pending("g") if p["id"] == "a1"]
        self.assertEqual((waiting["state"], waiting["failures"], waiting["last_error"]), ("waiting", 1, "later"))
        (again,) = self.c.claim("g", wait_ms=5000, max=1)
        self.assertGreaterEqual(time.monotonic() - begun, 0.4)
        self.assertLess(time.monotonic() - begun, 1.5)
        self.assertEqual((again["event"]["id"], again["attempt"]), ("a1", 2))
        self.c.settle("g", "ack", [again])
        self.assertEqual(self.ids(self.c.claim("g")), ["a2"])

    def test_settling_out_of_order_within_a_claim_is_stale(self):
        self.c.publish(*[event(n, subject="k") for n in range(3)])
        one, two, three = self.c.claim("g", **self.START)
        self.assertEqual(self.c.settle("g", "ack", [two])["stale"], [two["lease"]])
        self.assertEqual(self.c.settle("g", "ack", [one, two])["done"], [one["lease"], two["lease"]])
        self.assertEqual(self.c.settle("g", "ack", [three])["stale"], [])
        self.assertEqual(self.c.group("g")["failures"], 0)

    def test_a_lease_that_ran_out_is_stale_and_the_event_comes_again(self):
        self.c.publish(event(1), event(2))
        old = self.c.claim("g", lease_ms=200, **self.START)
        (first,) = self.c.claim("g", "other", wait_ms=3000)
        self.assertEqual((first["event"]["id"], first["attempt"]), ("1", 2), "handed out alone after a crash")
        self.assertEqual(self.c.settle("g", "ack", old)["done"], [])
        self.assertEqual(self.c.settle("g", "ack", [first])["stale"], [])
        (second,) = self.c.claim("g", "other", wait_ms=3000)
        self.c.settle("g", "ack", [second])
        self.assertEqual(self.c.group("g")["crashes"], 0, "a claim of two charges nobody")

    def test_extend_keeps_a_lease(self):
        self.c.publish(event(1))
        held = self.c.claim("g", lease_ms=400, **self.START)
        for _ in range(4):
            time.sleep(0.2)
            self.assertEqual(self.c.settle("g", "extend", held, lease_ms=400)["stale"], [])
        self.assertEqual(self.c.claim("g", "other"), [])
        self.assertEqual(self.c.settle("g", "ack", held)["stale"], [])

    def test_release_gives_back_uncharged(self):
        self.c.publish(event(1))
        for _ in range(10):
            held = self.c.claim("g", **self.START)
            self.assertEqual(held[0]["attempt"], 1)
            self.c.settle("g", "release", held)
        info = self.c.group("g")
        self.assertEqual((info["failures"], info["crashes"], info["dead"]), (0, 0, 0))

    def test_failures_kill_after_max_attempts(self):
        self.c.publish(event(1))
        for attempt in range(1, 6):
            (held,) = self.c.claim("g", wait_ms=3000, **self.START)
            self.assertEqual(held["attempt"], attempt)
            self.c.settle("g", "retry", [held], after_ms=1, reason="broken")
        (letter,) = self.c.dead_letters("g")
        self.assertEqual((letter["failures"], letter["crashes"]), (5, 0))
        self.assertIn("broken", letter["reason"])

    def test_reject_dead_letters_redrive_and_purge(self):
        self.c.publish(event(1, subject="k", data={"x": 1}), event(2, subject="k"), event(3))
        held = self.c.claim("g", **self.START)
        self.problem(self.c.post("/v1/groups/g/reject", {"leases": [held[0]["lease"]]}), 400)
        self.c.settle("g", "reject", [held[0], held[2]], reason="unreadable")
        self.c.settle("g", "ack", [held[1]])
        letters = self.c.dead_letters("g")
        self.assertEqual([letter["event"]["id"] for letter in letters], ["1", "3"])
        self.assertEqual(letters[0]["event"]["data"], {"x": 1})
        self.assertIn("unreadable", letters[0]["reason"])
        self.assertEqual(self.c.group("g")["dead"], 2)
        self.assertEqual(self.c.ok("POST", "/v1/groups/g/dead-letters/redrive", {"positions": [letters[0]["position"]]}), {"dry_run": False, "redriven": 1})
        (again,) = self.c.claim("g")
        self.assertEqual((again["event"]["id"], again["attempt"], again["event"]["data"]), ("1", 1, {"x": 1}))
        self.c.settle("g", "ack", [again])
        self.assertEqual(self.c.ok("DELETE", "/v1/groups/g/dead-letters?reason=unreadable"), {"dry_run": False, "purged": 1})
        self.assertEqual(self.c.dead_letters("g"), [])
        self.assertEqual(harness.lag_of(self.c.group("g")), (0, 0, 0))

    def test_seek_skip_pause_resume_delete(self):
        positions = [r["position"] for r in self.c.publish(*[event(n) for n in range(4)])]
        held = self.c.claim("g", **self.START)
        self.c.ok("POST", "/v1/groups/g/seek", {"to": positions[1]})
        self.assertEqual(self.c.settle("g", "ack", held)["done"], [])
        held = self.c.claim("g")
        self.assertEqual(self.ids(held), ["2", "3"])
        self.c.ok("POST", "/v1/groups/g/skip", {"position": positions[2]})
        self.assertEqual(self.c.settle("g", "ack", held), {"done": [held[1]["lease"]], "stale": [held[0]["lease"]]})
        self.assertTrue(self.c.ok("POST", "/v1/groups/g/pause", {})["paused"])
        self.c.publish(event(4))
        self.assertEqual(self.c.claim("g"), [])
        waiting = threading.Timer(0.2, lambda: self.d.client().ok("POST", "/v1/groups/g/resume", {}))
        waiting.start()
        begun = time.monotonic()
        self.assertEqual(self.ids(self.c.claim("g", wait_ms=5000)), ["4"])
        self.assertLess(time.monotonic() - begun, 1.5, "resuming wakes who waits")
        waiting.join()
        self.assertEqual(self.c.ok("DELETE", "/v1/groups/g"), {"deleted": "g"})
        self.problem(self.c.get("/v1/groups/g"), 404, "unknown_group")

    def test_an_event_past_its_expirytime_is_settled_and_counted(self):
        self.c.publish(event("old", expirytime="2001-01-01T00:00:00Z"), event("new", expirytime="2999-01-01T00:00:00Z"))
        held = self.c.claim("g", **self.START)
        self.assertEqual(self.ids(held), ["new"])
        self.c.settle("g", "ack", held)
        info = self.c.group("g")
        self.assertEqual((info["expired"], info["processed"], info["dead"], harness.lag_of(info)), (1, 1, 0, (0, 0, 0)))

    def test_too_many_parked_events_stop_claiming_and_say_why(self):
        self.d.terminate()
        self.serve(env={"MILLRACE_DELIVERY_MAX_PARKED": "10"})
        self.c.publish(*[event(n, subject="busy") for n in range(50)], event("free"))
        held = self.c.claim("g", max=1, **self.START)
        self.assertEqual(self.c.claim("g", "other"), [])
        info = self.c.group("g")
        self.assertEqual(info["parked"], 10)
        self.assertIn("max_parked", info["stalled"])
        self.assertEqual(self.c.get("/health/events").json["status"], "stalled")
        got = []
        while held:
            got += self.ids(held)
            self.c.settle("g", "ack", held)
            held = self.c.claim("g", max=7)
        self.assertEqual(got[:50], [str(n) for n in range(50)])
        self.assertEqual(len(got), 51)
        self.assertIsNone(self.c.group("g")["stalled"])

    def test_a_long_poll_wakes_within_200_ms(self):
        self.c.claim("g", **self.START)
        worst = 0
        for n in range(10):
            got = []
            waiter = threading.Thread(target=lambda: got.extend(self.d.client().claim("g", f"w{n}", wait_ms=5000)) or got.append(time.monotonic()))
            waiter.start()
            time.sleep(0.1)
            begun = time.monotonic()
            self.c.publish(event(n))
            waiter.join(10)
            self.assertEqual(self.ids(got[:-1]), [str(n)])
            worst = max(worst, got[-1] - begun)
        self.assertLess(worst, 0.2)

    def test_a_long_poll_ends_empty_in_time(self):
        begun = time.monotonic()
        self.assertEqual(self.c.claim("g", wait_ms=300, **self.START), [])
        self.assertTrue(0.28 < time.monotonic() - begun < 1.0)

    def test_an_answer_nobody_takes_is_given_back_uncharged(self):
        self.c.claim("g", **self.START)
        body = json.dumps({"consumer": "gone", "wait_ms": 20000, "lease_ms": 30000}).encode()
        with socket.create_connection(("127.0.0.1", self.d.port)) as s:
            s.sendall(b"POST /v1/groups/g/claim HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.2)
        time.sleep(0.1)
        self.c.publish(event(1))
        (held,) = self.c.claim("g", wait_ms=3000)
        self.assertEqual((held["attempt"], held["crashes"]), (1, 0))

    def test_a_long_poll_ends_empty_at_sigterm(self):
        self.c.claim("g", **self.START)
        answers = []
        waiter = threading.Thread(target=lambda: answers.append(self.d.client().claim("g", "w", wait_ms=30000)))
        waiter.start()
        time.sleep(0.3)
        begun = time.monotonic()
        self.assertEqual(self.d.terminate(), 0)
        waiter.join(10)
        self.assertEqual(answers, [[]])
        self.assertLess(time.monotonic() - begun, 5)

    def test_leases_outlive_a_restart(self):
        self.c.publish(event(1), event(2))
        held = self.c.claim("g", **self.START)
        self.d.kill()
        self.d.start()
        self.assertEqual(self.c.claim("g", "other"), [])
        self.assertEqual(self.c.settle("g", "ack", held)["stale"], [])

    def test_thousands_of_sockets_and_a_handful_of_threads(self):
        self.c.claim("g", **self.START)
        idle, polls = [], []
        for _ in range(500):
            s = socket.create_connection(("127.0.0.1", self.d.port))
            self.addCleanup(s.close)
            idle.append(s)
        body = json.dumps({"consumer": "poll", "max": 1, "wait_ms": 60000}).encode()
        request = b"POST /v1/groups/g/claim HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for _ in range(200):
            s = socket.create_connection(("127.0.0.1", self.d.port))
            self.addCleanup(s.close)
            s.sendall(request)
            polls.append(s)
        harness.wait_until(lambda: self.c.ok("GET", "/v1/stats")["server"]["waiting_claims"] == 200, 10, "200 claims wait")
        with open(f"/proc/{self.d.pid}/status", encoding="ascii") as status:
            threads = int(next(line for line in status if line.startswith("Threads:")).split()[1])
        self.assertLess(threads, 64)
        begun = time.monotonic()
        self.assertEqual(self.c.get("/health").status, 200)
        self.assertLess(time.monotonic() - begun, 0.5)
        self.c.publish(*[event(n) for n in range(200)])
        got = set()
        for s in polls:
            s.settimeout(10)
            answer = b""
            while b'"deliveries"' not in answer or not answer.endswith(b"}"):
                part = s.recv(65536)
                self.assertTrue(part, answer)
                answer += part
            got.update(self.ids(json.loads(answer.split(b"\r\n\r\n", 1)[1])["deliveries"]))
        self.assertEqual(len(got), 200, "each got one event")


class Auth(harness.Case):
    def test_a_token_is_asked_for_everywhere_but_health(self):
        daemon = self.daemon("--server-token", "s3cret-token")
        with_token, without = daemon.client(token="s3cret-token"), daemon.client()
        wrong = [daemon.client(token=t) for t in ("", "s3cret-toke", "s3cret-tokenx", "S3cret-token")]
        self.assertEqual(with_token.publish(event(1))[0]["status"], "stored")
        for client in (without, *wrong):
            for method, path in (("GET", EVENTS), ("POST", EVENTS), ("GET", "/v1/stats"), ("GET", "/v1/groups")):
                response = client.request(method, path, b"" if method == "POST" else None)
                self.assertEqual(response.status, 401, (method, path, response))
                self.assertEqual(response.type, "application/problem+json")
                self.assertTrue(response.headers["www-authenticate"].lower().startswith("bearer"))
        self.assertNotIn("s3cret", daemon.log())

    def test_without_a_token_no_web_page_gets_in(self):
        daemon = self.daemon()
        client, here = daemon.client(), f"127.0.0.1:{daemon.port}"
        claim = json.dumps({"consumer": "page", "stream": "events", "start": "beginning"})
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
                        {"Host": "evil.example"}, {"Host": f"evil.example:{daemon.port}"}):
            # A "simple" request, which a browser sends without asking first.
            response = client.post("/v1/groups/g/claim", claim, headers={"Content-Type": "text/plain", **headers})
            self.assertEqual((response.status, response.type), (403, "application/problem+json"), (headers, response))
            self.assertEqual(response.json["object"], "Origin" if "Origin" in headers else "Host")
        self.assertEqual(client.ok("GET", "/v1/groups")["groups"], [])
        for headers in ({}, {"Host": "localhost"}, {"Host": f"[::1]:{daemon.port}"}, {"Host": here, "Origin": f"http://{here}"}):
            self.assertEqual(client.get("/v1/groups", headers=headers).status, 200, headers)
        guarded = self.daemon("--server-token", "s3cret-token").client(token="s3cret-token")
        self.assertEqual(guarded.get("/v1/groups", headers={"Host": "mill.example", "Origin": "https://a.example"}).status, 200)

    def test_refuses_to_listen_beyond_loopback_without_a_token(self):
        for address in ("0.0.0.0:0", "[::]:0"):
            daemon = harness.Daemon(args=["--server-listen", address])
            code, log = daemon.refused()
            self.assertEqual(code, 2, log)
            self.assertIn("server.token", log)
        daemon = harness.Daemon(args=["--server-listen", "0.0.0.0:0", "--server-token", "x" * 20]).start()
        self.addCleanup(daemon.__exit__)
        self.assertEqual(daemon.client().get("/v1/groups").status, 401)

    def test_the_token_may_come_from_the_environment_or_a_file(self):
        folder = harness.temp_folder()
        path = os.path.join(folder, "token")
        with open(path, "w", encoding="ascii") as file:
            file.write("from-file\n")
        daemon = self.daemon(env={"MILLRACE_SERVER_TOKEN": "file:" + path})
        self.assertEqual(daemon.client(token="from-file").get("/v1/groups").status, 200)
        self.assertEqual(daemon.client(token="file:" + path).get("/v1/groups").status, 401)


if __name__ == "__main__":
    harness.main()
