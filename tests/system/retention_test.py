# SPDX-License-Identifier: Apache-2.0
"""Trim, retention and erasing from outside: what is removed, what is kept and for whom, and that it is said."""

import glob
import json
import os

import harness
from harness import event


class Retention(harness.Case):
    def start(self, *args, **options):
        self.d = self.daemon(*args, **options)
        self.c = self.d.client()

    def stream(self, name="events"):
        return next(s for s in self.c.ok("GET", "/v1/streams")["streams"] if s["name"] == name)

    def run_ok(self, *args):
        code, out, err = harness.run(*args, "--url", self.d.url)
        self.assertEqual(code, 0, err)
        return out

    def half_read(self, count=20, done=5):
        """A group that has settled the first `done` of `count` events."""
        self.c.publish(*[event(n) for n in range(count)])
        held = self.c.claim("g", stream="events", start="beginning", max=done)
        self.c.settle("g", "ack", held)
        return held

    def test_a_trim_says_what_it_removed_and_kept_for_whom(self):
        self.start()
        held = self.half_read()
        wanted = {"stream": "events", "removed": 5, "trimmed_to": held[-1]["position"],
                  "kept": [{"group": "g", "events": 13}]}
        out = self.run_ok("trim", "events", "--max-events", 2, "--dry-run")
        self.assertIn("would remove 5 events", out)
        self.assertEqual(self.stream()["events"], 20, "a dry run changes nothing")
        self.assertEqual(json.loads(self.run_ok("trim", "events", "--max-events", 2, "--json")), {**wanted, "dry_run": False})
        self.assertEqual(self.stream()["events"], 15)
        self.assertEqual(self.stream()["last_trim"], {k: wanted[k] for k in ("removed", "trimmed_to", "kept")})
        for command in ("status", "streams list"):
            _, out, _ = harness.run(*command.split(), "--url", self.d.url)
            self.assertIn("g 13", out, command)
        metrics = self.c.get("/metrics").body.decode()
        self.assertIn('millrace_retention_kept_events{group="g",stream="events"} 13\n', metrics)
        self.assertIn('millrace_retention_removed_events{stream="events"} 5\n', metrics)
        out = self.run_ok("trim", "events", "--max-events", 2)
        self.assertIn("kept 13 that group g has not settled", out)
        self.assertIn("removed 13 events", self.run_ok("trim", "events", "--max-events", 2, "--force"))
        self.assertEqual(len(self.c.read()), 2)

    def test_a_trim_up_to_a_position(self):
        self.start()
        self.c.publish(*[event(n) for n in range(10)])
        fourth = self.c.read()[3][0]
        self.run_ok("trim", "events", "--up-to", fourth)
        self.assertEqual([e["id"] for _, e in self.c.read()], [str(n) for n in range(4, 10)])

    def test_a_trim_without_a_limit_is_by_the_streams_own_retention(self):
        self.start()
        self.c.publish(*[event(n) for n in range(10)])
        code, _, err = harness.run("trim", "events", "--url", self.d.url)
        self.assertEqual(code, 2)
        self.assertIn("keeps everything", err)
        self.run_ok("streams", "set", "events", "--max-events", 4, "--interval", "1d")
        harness.wait_until(lambda: self.stream()["events"] == 4, 15, "whoever owns the store trims at once")
        self.c.publish(*[event(n) for n in range(10, 13)])
        self.assertIn("removed 3 events", self.run_ok("trim", "events"))

    def test_a_retention_is_recorded_changed_in_part_and_lifted(self):
        self.start()
        self.run_ok("streams", "create", "short", "--max-age", "30d", "--max-bytes", "10GiB")
        self.assertEqual(self.stream("short")["retention"],
                         {"max_events": None, "max_bytes": 10 << 30, "max_age_s": 30 * 86_400, "interval_s": 86_400})
        self.assertIn("1000 events, 30d, 10 GiB; every 1h",
                      self.run_ok("streams", "set", "short", "--max-events", 1000, "--interval", "1h"))
        self.assertEqual(self.d.terminate(), 0)
        self.d.start()
        self.assertEqual(self.stream("short")["retention"],
                         {"max_events": 1000, "max_bytes": 10 << 30, "max_age_s": 30 * 86_400, "interval_s": 3600})
        answer = self.c.ok("PATCH", "/v1/streams/short/retention", {"max_events": 5, "max_age_s": None})
        self.assertEqual(answer["retention"],
                         {"max_events": 5, "max_bytes": 10 << 30, "max_age_s": None, "interval_s": 3600})
        self.assertIn("2d", self.run_ok("streams", "set", "short", "--keep-all", "--max-age", "2d"))
        self.assertEqual(self.stream("short")["retention"],
                         {"max_events": None, "max_bytes": None, "max_age_s": 2 * 86_400, "interval_s": 3600})
        self.assertIn("keeps everything", self.run_ok("streams", "set", "short", "--keep-all"))
        self.assertEqual(self.stream("short")["retention"],
                         {"max_events": None, "max_bytes": None, "max_age_s": None, "interval_s": 3600})

    def test_what_cannot_be_meant_is_refused(self):
        self.start()
        for args, code, word in ((["streams", "set", "events"], 2, "--max-events"),
                                 (["streams", "set", "none", "--max-events", 5], 5, "none"),
                                 (["streams", "set", "events", "--max-age", "soon"], 2, "--max-age"),
                                 (["streams", "set", "events", "--max-events", 0], 2, "max_events"),
                                 (["streams", "create", "bad", "--interval", "0s"], 2, "interval"),
                                 (["trim", "events", "--max-bytes", "much"], 2, "--max-bytes"),
                                 (["trim", "none", "--max-events", 1], 5, "none")):
            with self.subTest(args):
                found, _, err = harness.run(*args, "--url", self.d.url)
                self.assertEqual(found, code, err)
                self.assertIn(word, err)
        self.assertEqual([s["name"] for s in self.c.ok("GET", "/v1/streams")["streams"] if s["name"] == "bad"], [],
                         "nothing is made of a bad request")
        self.assertEqual(self.c.post("/v1/streams/events/trim", {"max_events": 1, "hard": True}).status, 400)

    def test_a_configured_stream_gets_exactly_its_retention_at_every_start(self):
        folder = harness.temp_folder()
        config = os.path.join(folder, "millrace.toml")
        with open(config, "w", encoding="ascii") as file:
            file.write('[[stream]]\nname = "audit"\nmax_age = "30d"\nmax_bytes = "1 GiB"\n'
                       '[[stream]]\nname = "events"\nmax_events = 5\ninterval = "1h"\n')
        self.start("--config", config)
        wanted = {"max_events": None, "max_bytes": 1 << 30, "max_age_s": 30 * 86_400, "interval_s": 86_400}
        self.assertEqual(self.stream("audit")["retention"], wanted)
        self.assertEqual(self.stream()["retention"]["max_events"], 5)
        self.run_ok("streams", "set", "audit", "--max-events", 7, "--max-age", "1d")
        self.d.restart()
        self.assertEqual(self.stream("audit")["retention"], wanted)

    def test_a_configured_stream_that_is_not_to_be_made_must_be_there(self):
        folder = harness.temp_folder()
        config = os.path.join(folder, "millrace.toml")
        with open(config, "w", encoding="ascii") as file:
            file.write('[[stream]]\nname = "audit"\ncreate = false\n')
        code, log = harness.Daemon(args=["--config", config]).refused()
        self.assertIn(code, (1, 2, 5), log)
        self.assertIn("audit", log)
        self.assertIn("create = false", log)


class Erase(harness.Case):
    def test_the_data_is_gone_and_the_rest_stays(self):
        d = self.daemon()
        c = d.client()
        secret = "p4ssw0rd-" * 5
        c.publish(event("a", data=secret, datacontenttype="text/plain", subject="k"), event("b"))
        code, _, err = harness.run("erase", "--id", "a", "--source", "/judge", "--url", d.url)
        self.assertEqual(code, 2, "nobody is there to say yes")
        self.assertIn("--yes", err)
        self.assertEqual(c.read()[0][1]["data"], secret)
        code, out, err = harness.run("erase", "--id", "a", "--source", "/judge", "--yes", "--json", "--url", d.url)
        self.assertEqual(code, 0, err)
        answer = json.loads(out)
        (position, erased), _ = c.read()
        self.assertEqual((answer["position"], answer["id"]), (position, "a"))
        self.assertEqual((erased["id"], erased["subject"], "data" in erased), ("a", "k", False))
        self.assertEqual(erased["erasedtime"], answer["erased_at"])
        for path in glob.glob(d.path + "*"):
            with open(path, "rb") as file:
                self.assertNotIn(secret.encode(), file.read(), path)
        (match,) = c.ok("GET", "/v1/events?id=a")["matches"]
        self.assertEqual(match["erased_at"], answer["erased_at"])
        _, out, _ = harness.run("where", "a", "--url", d.url)
        self.assertIn("its data is gone for good", out)
        again = c.ok("DELETE", "/v1/streams/events/events?id=a&source=/judge")
        self.assertEqual(again["erased_at"], answer["erased_at"], "twice is as once")

    def test_what_is_not_there_is_not_found(self):
        d = self.daemon()
        response = d.client().delete("/v1/streams/events/events?id=none&source=/judge")
        self.assertEqual((response.status, response.json["code"]), (404, "not_found"))
        self.assertEqual(d.client().delete("/v1/streams/events/events?id=none").status, 400)
        code, _, err = harness.run("erase", "--id", "none", "--source", "/judge", "--yes", "--url", d.url)
        self.assertEqual(code, 5, err)


if __name__ == "__main__":
    harness.main()
