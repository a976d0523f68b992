# SPDX-License-Identifier: Apache-2.0
"""Where is my event: one is taken through every state, and each is told truly, over HTTP and in words."""

import json
import time
from urllib.parse import urlencode

import harness
from harness import event


class Where(harness.Case):
    def setUp(self):
        super().setUp()
        self.d = self.daemon()
        self.c = self.d.client()

    def group_of(self, name, **more):
        body = {"name": name, "stream": "events", "start": "beginning", **more}
        self.assertEqual(self.c.post("/v1/groups", body).status, 201)

    def matches(self, id, **more):
        return self.c.ok("GET", "/v1/events?" + urlencode({"id": id, **more}))["matches"]

    def state(self, id, group="g"):
        (match,) = self.matches(id)
        return next(entry for entry in match["groups"] if entry["group"] == group)

    def words(self, id, group="g"):
        code, out, err = harness.run("where", id, "--url", self.d.url)
        self.assertEqual(code, 0, err)
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {group} ")]
        return line.split(None, 1)[1]

    def claim_one(self, consumer, lease_ms=60_000):
        got = self.c.claim("g", consumer, max=1, lease_ms=lease_ms)
        return got[0] if got else None

    def test_an_event_in_every_state(self):
        self.group_of("g")
        self.group_of("narrow", types=["order.*"])
        self.c.publish(event("a", subject="order-42"), event("b", subject="order-42"))

        (match,) = self.matches("b")
        self.assertEqual((match["stream"], match["durability"], match["event"]["id"]), ("events", "durable", "b"))
        self.assertEqual(self.state("b")["state"], "ahead")
        self.assertEqual(self.state("b")["behind"], self.state("a")["behind"] + 1)
        self.assertRegex(self.words("b"), r"^waiting: \d+ positions? (is|are) before it|^waiting: next in line")
        narrow = self.state("a", "narrow")
        self.assertEqual((narrow["state"], narrow["computed"]), ("filtered_out", True))

        held = self.claim_one("worker-1")
        self.assertEqual(held["event"]["id"], "a")
        said = self.state("a")
        self.assertEqual((said["state"], said["pending"]["consumer"], said["pending"]["lease"], said["key"]),
                         ("claimed", "worker-1", held["lease"], "order-42"))
        self.assertRegex(self.words("a"), r"^claimed by worker-1 until .*Z \(in .*\), attempt 1$")

        self.assertIsNone(self.claim_one("worker-2"), "b waits for a")
        said = self.state("b")
        self.assertEqual((said["state"], said["key"], said["parked_behind"]), ("parked", "order-42", held["position"]))
        self.assertEqual(self.words("b"), f"parked behind order-42 at position {held['position']}")

        self.c.settle("g", "retry", [held], reason="the shop is closed", after_ms=60_000)
        said = self.state("a")
        self.assertEqual((said["state"], said["pending"]["last_error"], said["pending"]["failures"]),
                         ("retry", "the shop is closed", 1))
        self.assertRegex(self.words("a"), r"^failed once, to be tried again at .*Z \(in .*s\): the shop is closed$")
        self.assertEqual(self.state("b")["parked_behind"], held["position"], "a waits, and b behind it")
        self.c.ok("POST", "/v1/groups/g/skip", {"position": held["position"]})
        self.assertEqual(self.state("a")["state"], "settled")

        given_back = self.claim_one("worker-1")
        self.c.settle("g", "release", [given_back])
        self.assertEqual(self.state("b")["state"], "waiting")
        self.assertTrue(self.words("b").startswith("given back"))

        self.c.ok("POST", "/v1/groups/g/pause")
        self.assertTrue(self.state("b")["paused"])
        self.assertIn("the group is paused", self.words("b"))
        self.c.ok("POST", "/v1/groups/g/resume")

        lost = self.claim_one("worker-3", lease_ms=200)
        self.assertEqual(lost["event"]["id"], "b")
        harness.wait_until(lambda: self.claim_one("worker-4", lease_ms=100) or self.state("b")["state"] == "suspect", 10,
                           "its consumer is known to be gone")
        harness.wait_until(lambda: self.state("b")["state"] == "suspect", 10, "the event is suspect")
        self.assertIn("its consumer vanished", self.words("b"))

        last = harness.wait_until(lambda: self.claim_one("worker-5"), 10, "the suspect is handed out again")
        before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 5))
        self.c.settle("g", "ack", [last])
        said = self.state("b")
        self.assertEqual((said["state"], said["consumer"], said["claim"]), ("settled", "worker-5", last["lease"].split("-")[0]))
        self.assertLessEqual(before, said["settled_after"])
        self.assertLessEqual(said["settled_after"], said["settled_before"])
        self.assertRegex(self.words("b"), r"^settled (at|between) .*Z.* by worker-5 in claim \d+$")

        self.c.publish(event("c"))
        self.c.settle("g", "reject", [self.claim_one("worker-6")], reason="no such address")
        said = self.state("c")
        self.assertEqual(said["state"], "dead")
        self.assertIn("no such address", said["reason"])
        self.assertRegex(self.words("c"), r"^dead since .*no such address; look: millrace dlq show g \d+$")

    def test_an_id_alone_may_be_several_events(self):
        self.c.ok("GET", "/v1/streams")
        self.assertEqual(self.c.post("/v1/streams", {"name": "other"}).status, 201)
        self.c.publish(event("same", source="/one"), event("same", source="/two"))
        self.c.publish(event("same", source="/one"), stream="other")
        self.assertEqual(len(self.matches("same")), 3)
        self.assertEqual(len(self.matches("same", source="/one")), 2)
        (match,) = self.matches("same", source="/one", stream="other")
        self.assertEqual((match["stream"], match["groups"]), ("other", []))
        self.assertEqual(self.c.get("/v1/events?id=same&stream=none").json["code"], "unknown_stream")
        code, out, err = harness.run("where", "same", "--source", "/two", "--stream", "events", "--url", self.d.url)
        self.assertEqual(code, 0, err)
        self.assertIn("event same from /two", out)
        self.assertNotIn("/one", out)

    def test_of_a_trimmed_event_the_name_and_the_groups_are_known(self):
        self.group_of("g")
        self.c.publish(event("gone", data="secret", datacontenttype="text/plain"))
        self.c.settle("g", "ack", [self.claim_one("worker-1")])
        self.c.ok("POST", "/v1/streams/events/trim", {"max_events": 0})
        (match,) = self.matches("gone")
        self.assertEqual(match["event"], {"id": "gone", "source": "/judge"})
        self.assertIsNone(match["stored_at"])
        self.assertTrue(match["trimmed_at"])
        self.assertEqual(self.state("gone")["state"], "settled")
        code, out, _ = harness.run("where", "gone", "--url", self.d.url)
        self.assertEqual(code, 0)
        self.assertIn("only its id is still known", out)

    def test_what_is_not_known_is_not_found_and_says_what_that_may_mean(self):
        code, out, err = harness.run("where", "nothing", "--url", self.d.url)
        self.assertEqual((code, out), (5, ""))
        for hint in ("never published", "another id, source or stream", "trimmed"):
            self.assertIn(hint, err)
        code, out, err = harness.run("where", "nothing", "--json", "--url", self.d.url)
        self.assertEqual((code, json.loads(out)), (5, {"matches": []}))
        self.assertEqual(json.loads(err)["code"], "not_found")

    def test_json_is_what_http_answers_and_a_store_answers_like_its_daemon(self):
        self.group_of("g")
        self.c.publish(event("a", subject="k"))
        asked = self.c.ok("GET", "/v1/events?id=a")
        for where in (["--url", self.d.url], ["--store", self.d.store]):
            code, out, err = harness.run("where", "a", "--json", *where)
            self.assertEqual(code, 0, err)
            self.assertEqual(json.loads(out), asked)


if __name__ == "__main__":
    harness.main()
