# SPDX-License-Identifier: Apache-2.0
"""The command line from outside: what it prints, what it exits with, beside a daemon and on a store of its own."""

import http.server
import json
import os
import signal
import subprocess
import threading
import time
import unittest

import harness


def line(**attributes):
    return json.dumps({"specversion": "1.0", "type": "t", "source": "/cli-test", **attributes})


class Commands(unittest.TestCase):
    def setUp(self):
        self.folder = harness.temp_folder()
        self.daemon = harness.Daemon(self.folder).start()
        self.addCleanup(self.daemon.__exit__)

    def run_command(self, *args, stdin="", code=0, where=None):
        """(stdout, stderr) of a command against the daemon, or against `where`."""
        done = subprocess.run([harness.PROGRAM, *args, *(where or ["--url", self.daemon.url])], input=stdin, text=True,
                              capture_output=True, timeout=60, env=harness.clean_environment(self.folder))
        self.assertEqual(done.returncode, code, f"{args}: {done.stdout}{done.stderr}")
        return done.stdout, done.stderr

    def json_of(self, *args, **options):
        return json.loads(self.run_command(*args, "--json", **options)[0])

    def test_publishes_one_event_by_flags_and_reads_it_back(self):
        sent = self.json_of("publish", "--type", "order.placed", "--subject", "order-1", "--data", '{"total": 12}', "--ext", "tenantid=a")
        self.assertEqual((sent["status"], sent["position"], sent["durability"]), ("stored", "1", "durable"))
        (read,) = [json.loads(text) for text in self.run_command("tail", "--no-follow", "--json")[0].splitlines()]
        event = read["event"]
        self.assertEqual((event["id"], event["subject"], event["data"], event["tenantid"]), (sent["id"], "order-1", {"total": 12}, "a"))
        self.assertEqual(event["datacontenttype"], "application/json")
        self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT.*Z$")

    def test_data_that_is_no_json_travels_as_text_and_as_bytes(self):
        path = os.path.join(self.folder, "bytes")
        with open(path, "wb") as file:
            file.write(b"\xff\x00")
        self.run_command("publish", "--type", "t", "--data", "hello")
        self.run_command("publish", "--type", "t", "--data-file", path)
        out = self.run_command("tail", "--no-follow")[0].splitlines()
        self.assertTrue(out[0].endswith("hello"), out)
        self.assertTrue(out[1].endswith("base64:/wA="), out)

    def test_publishing_lines_twice_stores_them_once(self):
        lines = "\n".join(line(id=str(n)) for n in range(2500)) + "\n\n"
        first = self.json_of("publish", "-", stdin=lines)
        self.assertEqual((first["acknowledged"], first["stored"], first["duplicates"]), (2500, 2500, 0))
        again = self.json_of("publish", stdin=lines)
        self.assertEqual((again["acknowledged"], again["stored"], again["duplicates"]), (2500, 0, 2500))
        self.assertEqual(self.json_of("stats")["store"]["total_events"], 2500)

    def test_an_invalid_line_is_named_and_what_came_before_it_is_acknowledged(self):
        out, err = self.run_command("publish", "-", stdin=f"{line(id='1')}\n\n{line(id='2', type='')}\n{line(id='3')}\n", code=4)
        self.assertIn("1 acknowledged: 1 stored", out)
        self.assertIn("line 3", err)
        self.assertIn("type", err)
        self.assertEqual(self.json_of("stats")["store"]["total_events"], 1)

    def test_an_id_taken_by_another_event_is_a_conflict(self):
        self.run_command("publish", "-", stdin=line(id="1", data=1))
        out, err = self.run_command("publish", "-", stdin=f"{line(id='1', data=2)}\n{line(id='2')}", code=4)
        self.assertIn("1 acknowledged: 1 stored, 0 duplicates; 1 conflicts", out)
        self.assertIn("line 1", err)
        self.run_command("publish", "--type", "t", "--source", "/cli-test", "--id", "1", "--data", "3", code=4)

    def test_a_slow_writer_is_acknowledged_without_waiting_for_a_batch(self):
        with subprocess.Popen([harness.PROGRAM, "publish", "-", "--url", self.daemon.url], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as process:
            process.stdin.write(line(id="1") + "\n")
            process.stdin.flush()
            harness.wait_until(lambda: self.json_of("stats")["store"]["total_events"] == 1, 10, "the first event is stored")
            process.stdin.close()
            self.assertEqual(process.wait(20), 0)
            process.stdout.close()

    def test_lines_survive_a_daemon_that_is_killed_under_them(self):
        with subprocess.Popen([harness.PROGRAM, "publish", "-", "--json", "--url", self.daemon.url], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as process:
            port = self.daemon.port
            for n in range(300):
                process.stdin.write(line(id=str(n)) + "\n")
                process.stdin.flush()
                if n == 100:
                    harness.wait_until(lambda: self.json_of("stats")["store"]["total_events"] > 0, 10, "it publishes")
                    self.daemon.kill()
                    self.daemon.args = ["--server-listen", f"127.0.0.1:{port}"]
                    self.daemon.start()
            process.stdin.close()
            self.assertEqual(process.wait(60), 0)
            report = json.loads(process.stdout.read())
        self.assertEqual(report["acknowledged"], 300)
        self.assertEqual(self.json_of("stats")["store"]["total_events"], 300)

    def test_follows_and_ends_after_its_limit(self):
        with subprocess.Popen([harness.PROGRAM, "tail", "--limit", "2", "--after", "beginning", "--url", self.daemon.url],
                              stdout=subprocess.PIPE, text=True) as process:
            self.run_command("publish", "--type", "one")
            self.assertIn("  one  ", process.stdout.readline())
            self.run_command("publish", "--type", "two")
            self.assertIn("  two  ", process.stdout.readline())
            self.assertEqual(process.wait(20), 0)

    def test_the_life_of_a_group(self):
        self.run_command("publish", "-", stdin="\n".join(line(id=str(n)) for n in range(3)))
        self.run_command("groups", "create", "g", "--start", "beginning", "--types", "{t,u},v")
        self.assertEqual(self.json_of("groups", "show", "g")["types"], ["{t,u}", "v"])
        client = self.daemon.client()
        deliveries = client.claim("g", max=2, wait_ms=0)
        pending = self.json_of("pending", "g")["pending"]
        self.assertEqual([(event["id"], event["state"]) for event in pending], [("0", "claimed"), ("1", "claimed")])
        self.assertIn("claimed", self.run_command("pending", "g")[0])
        client.ok("POST", "/v1/groups/g/reject", {"leases": [deliveries[0]["lease"]], "reason": "no good"})
        letters = self.run_command("dlq", "list", "g")[0]
        self.assertIn("no good", letters)
        self.assertIn("no good", self.run_command("dlq", "show", "g", deliveries[0]["position"])[0])
        self.assertIn("1", self.run_command("dlq", "stats", "g")[0])
        self.run_command("dlq", "redrive", "g", code=2)
        self.assertIn("1 handed", self.run_command("dlq", "redrive", "g", "--reason", "good")[0])
        self.run_command("groups", "skip", "g", "--position", deliveries[1]["position"])
        self.assertEqual(self.json_of("groups", "show", "g")["skipped"], 1)
        self.run_command("groups", "pause", "g")
        self.assertEqual(client.claim("g", wait_ms=0), [])
        self.run_command("groups", "resume", "g")
        self.run_command("groups", "seek", "g", "--to", "end")  # what was redriven runs all the same
        self.assertEqual([d["event"]["id"] for d in client.claim("g", wait_ms=0)], ["0"])
        self.assertIn("g", self.run_command("groups", "list")[0])
        self.run_command("groups", "delete", "g")
        self.run_command("groups", "show", "g", code=5)

    def test_streams_are_created_on_purpose(self):
        self.run_command("publish", "--type", "t", "--stream", "orders", code=5)
        self.run_command("streams", "create", "orders")
        self.run_command("streams", "create", "orders", code=1)
        self.run_command("publish", "--type", "t", "--stream", "orders")
        self.assertIn("orders", self.run_command("streams", "list")[0])

    def test_status_says_whether_all_is_well_and_where_to_look(self):
        out = self.run_command("status")[0]
        self.assertEqual(out.splitlines()[-1], "all is well")
        self.run_command("groups", "create", "g", "--start", "beginning")
        self.run_command("publish", "--type", "t")
        client = self.daemon.client()
        client.ok("POST", "/v1/groups/g/reject", {"leases": [client.claim("g", wait_ms=0)[0]["lease"]], "reason": "bad"})
        out = self.run_command("status", code=1)[0]
        self.assertEqual(out.splitlines()[-1], "group g has 1 dead letters; look: millrace dlq list g")
        self.assertFalse(self.json_of("status", code=1)["well"])

    def test_status_does_not_wait_for_a_daemon_that_hangs(self):
        os.kill(self.daemon.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.daemon.pid, signal.SIGCONT)
        began = time.monotonic()
        self.assertIn("no answer in time", self.run_command("status", code=1)[1])
        self.assertLess(time.monotonic() - began, 15)

    def test_tail_takes_up_a_daemon_that_was_killed_before_any_event_came(self):
        with subprocess.Popen([harness.PROGRAM, "tail", "--limit", "1", "--url", self.daemon.url], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            harness.wait_until(lambda: self.json_of("stats")["server"]["tails"] == 1, what="the tail is there")
            self.daemon.kill()
            self.daemon.args = ["--server-listen", f"127.0.0.1:{self.daemon.port}"]
            self.daemon.start()
            self.run_command("publish", "--type", "after.the.kill")
            self.assertIn("after.the.kill", process.stdout.readline())
            self.assertEqual(process.wait(20), 0)

    def test_an_empty_value_is_refused_and_is_no_wish_for_the_default(self):
        for flag in ("--type", "--id", "--source", "--subject", "--time"):
            self.assertIn("is empty", self.run_command("publish", flag, "", code=2)[1])
        self.run_command("tail", "--no-follow", "--limit", "-1", code=2)
        self.run_command("tail", "--no-follow", "--limit", "0", code=2)

    def test_a_message_names_its_object_once_and_a_wrong_word_is_named(self):
        err = self.run_command("groups", "show", "nope", code=5)[1]
        self.assertEqual(err, "millrace groups show: read group nope: there is no such group [unknown_group]\n")
        self.assertIn("frobnicate", self.run_command("frobnicate", code=2)[1])
        self.assertIn("frobnicate", self.run_command("groups", "frobnicate", code=2)[1])

    def test_metrics_by_name(self):
        out = self.run_command("metrics")[0]
        name = next(text.split()[2] for text in out.splitlines() if text.startswith("# TYPE "))
        self.assertIn(name, self.run_command("metrics", "--metric", name)[0])
        self.assertTrue(all(sample["name"].startswith(name) for sample in self.json_of("metrics", "--metric", name)))
        self.run_command("metrics", "--metric", "nothing_of_this_name", code=5)

    def test_a_store_is_opened_beside_its_daemon_and_alone(self):
        store = ["--store", self.daemon.store]
        self.run_command("publish", "--type", "t", where=store)
        self.assertEqual(self.json_of("stats", where=store)["store"]["total_events"], 1)
        self.daemon.terminate()
        self.assertIn("all is well", self.run_command("status", where=store)[0])
        self.assertEqual(len(self.run_command("tail", "--no-follow", where=store)[0].splitlines()), 1)
        self.run_command("groups", "create", "g", "--start", "beginning", where=store)
        self.assertEqual(self.json_of("groups", "list", where=store)["groups"][0]["lag"]["ahead"], 1)

    def test_exit_codes_tell_what_kind_of_failure(self):
        nobody = ["--url", "http://127.0.0.1:9"]
        self.run_command("stats", where=nobody, code=3)
        err = self.run_command("stats", "--json", where=nobody, code=3)[1]
        self.assertEqual((json.loads(err)["code"], json.loads(err)["exit"]), ("unavailable", 3))
        started = time.monotonic()
        self.run_command("publish", "-", stdin=line(id="1"), where=nobody, code=3)
        self.assertLess(time.monotonic() - started, 10)
        self.run_command("groups", "shaw", code=2)
        self.run_command("publish", "--type", "t", "--durability", "perhaps", code=2)
        self.run_command("stats", where=["--store", f"sqlite:{self.folder}/absent.db"], code=5)
        self.assertFalse(os.path.exists(f"{self.folder}/absent.db"))

    def test_nothing_an_event_holds_steers_the_terminal(self):
        self.run_command("publish", "--type", "t", "--content-type", "text/plain", "--data", "a\033[31mb\nc")
        out = self.run_command("tail", "--no-follow")[0]
        self.assertNotIn("\033", out)
        self.assertEqual(len(out.splitlines()), 1)


class Doubt(unittest.TestCase):
    def test_what_an_attempt_left_open_no_later_refusal_closes(self):
        """Beside a daemon that first does not know, and then refuses for good."""
        answers = [(503, "outcome_unknown", True), (503, "busy", True), (403, "permission_denied", False)]

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                status, code, retryable = answers.pop(0)
                body = json.dumps({"title": code, "status": status, "detail": "so it is", "code": code,
                                   "retryable": retryable}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/problem+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                code, out, err = harness.run("publish", "-", "--url", f"http://127.0.0.1:{server.server_port}",
                                             stdin=line(id="one"))
            finally:
                server.shutdown()
                thread.join()
        self.assertEqual(answers, [], err)
        self.assertEqual(code, 1, err)
        self.assertIn("outcome_unknown", err)
        self.assertIn("same ids", err)


class Configuration(unittest.TestCase):
    def run_config(self, *args, **env):
        folder = harness.temp_folder()
        done = subprocess.run([harness.PROGRAM, "config", *args], capture_output=True, text=True, timeout=20,
                              env=harness.clean_environment(folder, **env))
        return done.returncode, done.stdout, done.stderr

    def test_show_names_origins_and_totals_and_hides_secrets(self):
        code, out, err = self.run_config("show", "--json", MILLRACE_SERVER_TOKEN="s3cret", MILLRACE_DELIVERY_MAX_ATTEMPTS="3")
        self.assertEqual(code, 0, err)
        self.assertNotIn("s3cret", out)
        shown = json.loads(out)
        keys = {key["key"]: (key["value"], key["origin"]) for key in shown["keys"]}
        self.assertEqual(keys["server.token"], ('"***"', "environment"))
        self.assertEqual(keys["delivery.max_attempts"], ("3", "environment"))
        self.assertEqual(keys["server.listen"][1], "default")
        self.assertEqual(shown["retry"]["handler"], "dead after 3 failures, at most 3s after the first")

    def test_check_names_what_is_wrong(self):
        code, _, err = self.run_config("check", MILLRACE_SERVER_LISTEN="nowhere")
        self.assertEqual(code, 2)
        self.assertIn("server.listen (MILLRACE_SERVER_LISTEN)", err)
        self.assertEqual(self.run_config("check")[0], 0)


if __name__ == "__main__":
    unittest.main()
