# SPDX-License-Identifier: Apache-2.0
"""Bad days of a Redis server and of the way to it: each is a clear error or work goes on; nothing acknowledged is lost.

The server listens on a unix socket; a gate (tests/support/tcp_gate.py) stands before it and delays, cuts and swallows.
"""

import http.client
import json
import random
import re
import threading
import time
import unittest

import crash_test
import harness
from harness import NoAnswer, NotSent, event

EVENTS = "/v1/streams/events/events"
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
LOG = "events:all:stream"
# The gate's connections lead to a server whose address does not change, so time-outs may be short.
SHORT = {"timeout": 2000, "connect_timeout": 500}


class RedisDay(harness.Case):
    def begin(self, *settings, **options):
        self.server = self.redis(*settings, port=True)
        return self.daemon(store=self.server.tcp_url(**{**SHORT, **options}))

    def publish(self, client, *ids, **more):
        return client.post(EVENTS, json.dumps([event(id, **more) for id in ids]), headers=BATCH)

    def stored_ids(self):
        found = []
        for _, words in self.server.ask("XRANGE", LOG, "-", "+"):
            found.append(dict(zip(words[::2], words[1::2]))[b"id"].decode())
        return found

    def publish_until_stored(self, client, id, timeout=20):
        """Repeats an event as a careful publisher does. Returns how it went: the codes, then the status."""
        went = []

        def stored():
            response = self.publish(client, id)
            if response.status == 200:
                went.append(response.json["results"][0]["status"])
                return True
            self.assertEqual(response.status, 503, response)
            went.append(response.json["code"])
            return False
        harness.wait_until(stored, timeout, f"{id} is stored", every=0.05)
        return went


class UnderLoad(RedisDay):
    """Publishers and consumers of the crash test go on working, and its judge has the last word."""

    def begin_load(self, **options):
        self.server = self.redis(port=True)
        self.world = crash_test.World(harness.temp_folder(), harness.SEED)
        self.world.daemon.store = self.server.tcp_url(**{**SHORT, **options})
        self.world.daemon.start()
        self.addCleanup(self.world.daemon.__exit__)
        return crash_test.Load(self.world)

    def judge(self, load, least):
        try:
            complaints, verdict = load.finish()
        except AssertionError as error:
            complaints, verdict = [str(error)], None
        self.assertEqual(complaints + self.world.failures, [], self.world.daemon.log()[-3000:])
        self.assertGreaterEqual(len(verdict.issued), least, "this proves nothing")
        self.assertEqual(sorted(self.stored_ids()), sorted(verdict.issued), "each event is there once")

    def settle_in(self):
        harness.wait_until(lambda: len(self.world.settled) > 100 or not self.world.healthy(), 30, "there is load")

    def test_the_server_is_away_for_a_second(self):
        load = self.begin_load()
        for _ in range(3):
            self.settle_in()
            self.server.kill()
            time.sleep(1)
            self.server.start()
            time.sleep(1.5)
        self.judge(load, 300)

    def test_the_server_is_away_for_half_a_minute(self):
        load = self.begin_load()
        self.settle_in()
        self.server.terminate()
        client = self.world.daemon.client(timeout=20)
        end = time.monotonic() + 30
        asked = 0
        while time.monotonic() < end:
            begun = time.monotonic()
            response = self.publish(client, "nobody", type="probe")
            self.assertEqual((response.status, response.json["code"]), (503, "unavailable"), response)
            self.assertLess(time.monotonic() - begun, 2.5, "an answer comes in time")
            self.assertEqual(client.get("/health").status, 503)
            asked += 1
        self.assertGreater(asked, 5)
        before = len(self.world.settled)
        self.server.start()
        back = time.monotonic()
        harness.wait_until(lambda: len(self.world.settled) > before, 15, "consumers resume by themselves")
        print(f"resumed {time.monotonic() - back:.1f} s after the server was back")
        self.judge(load, 100)

    def test_restarted_during_commits(self):
        load = self.begin_load()
        self.settle_in()
        for turn in range(8):
            self.server.gate.lose_reply()
            harness.wait_until(lambda: not self.server.gate.cutting, 10, "a reply was lost")
            (self.server.kill if turn % 2 else self.server.terminate)()
            self.server.start()
            time.sleep(self.random.random() * 0.4)
        self.judge(load, 300)

    def test_connections_are_cut_again_and_again(self):
        load = self.begin_load()
        self.settle_in()
        for turn in range(30):
            if turn % 3 == 0:
                self.server.gate.cut()
            else:
                self.server.gate.cut_reply(after=self.random.randrange(0, 40))
            time.sleep(self.random.random() * 0.2)
        self.assertGreater(self.server.gate.cuts, 10, "replies were cut")
        self.judge(load, 300)

    def test_scripts_are_forgotten(self):
        load = self.begin_load()
        for _ in range(40):
            self.server.ask("SCRIPT", "FLUSH")
            time.sleep(0.05)
        self.judge(load, 300)
        refused = [e for e in self.world.journal.entries if e["what"] in ("no answer", "maybe ack")]
        self.assertEqual(refused, [], "nobody noticed")

    def test_a_hostile_neighbour_touches_the_pending_list(self):
        """XACK, XCLAIM, XAUTOCLAIM, XGROUP: they change what is shown, not what is."""
        load = self.begin_load()
        self.settle_in()
        neighbour = self.server.client()
        done = 0
        end = time.monotonic() + 8
        while time.monotonic() < end and self.world.healthy():
            pending = neighbour("XPENDING", LOG, crash_test.GROUP, "-", "+", 20)
            ids = [p[0] for p in pending]
            if ids:
                neighbour("XACK", LOG, crash_test.GROUP, *ids[::2])
                neighbour("XCLAIM", LOG, crash_test.GROUP, "thief", 0, *ids[1::3] or ids)
                neighbour("XAUTOCLAIM", LOG, crash_test.GROUP, "thief", 0, "0-0", "COUNT", 5)
                neighbour("XGROUP", "DELCONSUMER", LOG, crash_test.GROUP, "thief")
                done += 1
            time.sleep(0.02)
        self.assertGreater(done, 20, "the neighbour was at work")
        self.judge(load, 300)


class Neighbour(RedisDay):
    def consume(self, client, group="g", until=None, timeout=40):
        """Claims and acknowledges until the group is through. Returns the ids handed out."""
        got = []

        def through():
            deliveries = client.claim(group, max=50, stream="events", start="beginning")
            if deliveries:
                client.settle(group, "ack", deliveries)
                got.extend(d["event"]["id"] for d in deliveries)
                return False
            return harness.lag_of(client.group(group)) == (0, 0, 0)
        harness.wait_until(through, timeout, "the group is through")
        return got

    def test_what_a_neighbour_deletes_is_told(self):
        client = self.begin().client()
        positions = {}
        for n in range(10):
            for result in client.publish(*[event(f"e{n}-{m}") for m in range(10)]):
                positions[result["id"]] = result["position"]
        held = client.claim("g", max=10, stream="events", start="beginning", lease_ms=500)
        self.assertEqual(len(held), 10)
        # Of what is held, of what is ahead, and everything up to a place.
        victims = ["e0-3", "e4-4", "e9-9"]
        for id in victims:
            self.assertEqual(self.server.ask("XDEL", LOG, positions[id]), 1)
        time.sleep(0.6)  # the claim runs out, so that what was deleted is to be handed out again
        got = self.consume(client)
        told = {letter["position"]: letter["reason"] for letter in client.dead_letters("g")}
        # Of what was handed out once it is told; what was deleted before that nobody had met.
        self.assertEqual(list(told), [positions["e0-3"]])
        self.assertIn("event_lost", told[positions["e0-3"]])
        self.assertEqual(set(positions) - set(got), set(victims))
        self.server.ask("XTRIM", LOG, "MINID", positions["e6-0"])
        client.claim("late", max=1, stream="events", start="beginning")
        kept = [e["id"] for _, e in client.read()]
        self.assertEqual(kept, [id for id in positions if positions[id] >= positions["e6-0"] and id != "e9-9"])
        page = client.ok("GET", f"{EVENTS}?after={positions['e2-0']}&limit=5")
        self.assertEqual(page["gap"]["first"], positions["e6-0"], "a reader is told of the gap")
        self.assertEqual([r["status"] for r in client.publish(event("after"))], ["stored"])

    def test_what_is_removed_under_work_is_accounted_for(self):
        """XDEL and XTRIM while consumers are at work: each event is handled once, or it is told that it was lost."""
        daemon = self.begin()
        client = daemon.client()
        client.claim("g", max=1, stream="events", start="beginning")
        published, behind, ending, problems = {}, threading.Event(), threading.Event(), []

        def publish():
            c = daemon.client()
            for n in range(120):
                if n == 40:
                    behind.set()  # till then nobody takes what somebody removes
                for result in c.publish(*[event(f"e{n}-{m}", partitionkey=f"k{m % 7}") for m in range(20)]):
                    published[result["id"]] = result["position"]
                time.sleep(0.01)
            ending.set()

        def remove():
            neighbour = self.server.client()
            chance = self.random
            while not ending.is_set():
                entries = neighbour("XREVRANGE", LOG, "+", "-", "COUNT", 40)
                victims = [id for id, _ in entries if chance.random() < 0.2]
                if victims:
                    neighbour("XDEL", LOG, *victims)
                if chance.random() < 0.1:
                    neighbour("XTRIM", LOG, "MAXLEN", chance.randrange(5, 200))
                time.sleep(0.01)
            neighbour.close()

        handled = []

        def consume(name):
            c, chance = daemon.client(), random.Random(f"{harness.SEED} {name}")
            behind.wait(60)
            while not (ending.is_set() and harness.lag_of(c.group("g")) == (0, 0, 0)):
                deliveries = c.claim("g", consumer=name, max=25, wait_ms=100)
                failed = [d for d in deliveries if chance.random() < 0.1]
                done = [d for d in deliveries if d not in failed]
                if done:
                    stale = set(c.settle("g", "ack", done)["stale"])
                    handled.extend(d["event"]["id"] for d in done if d["lease"] not in stale)
                if failed:
                    c.settle("g", "retry", failed, after_ms=0, reason="not now")

        def guarded(work, *args):
            try:
                work(*args)
            except Exception as error:  # pylint: disable=broad-except
                problems.append(f"{work.__name__}: {error!r}")
                ending.set()
        threads = [threading.Thread(target=guarded, args=args, daemon=True)
                   for args in ((publish,), (remove,), (consume, "a"), (consume, "b"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self.assertEqual(problems, [])
        # One more behind all that was removed: whoever gets it has passed over that.
        published.update((r["id"], r["position"]) for r in client.publish(event("last")))
        handled += self.consume(client)
        self.assertEqual(handled[-1], "last")
        self.assertEqual(len(published), 2401)
        self.assertEqual(len(handled), len(set(handled)), "nothing is handled twice")
        metrics = client.get("/metrics").body.decode()
        (lost,) = [float(line.split()[1]) for line in metrics.splitlines() if line.startswith("millrace_store_lost_events_total ")]
        letters = client.dead_letters("g")
        for letter in letters:
            self.assertRegex(letter["reason"], "^event_lost")
        print(f"{len(handled)} handled, {lost:.0f} removed before they were handed out, {len(letters)} after")
        self.assertGreater(lost, 20, "this proves nothing")
        self.assertEqual(len(handled) + lost + len(letters), len(published), "each is accounted for, once")
        dead = {letter["position"] for letter in letters}
        self.assertEqual(dead & {published[id] for id in handled}, set())

    def test_a_tail_is_told_of_the_gap(self):
        daemon = self.begin()
        client = daemon.client()
        positions = [r["position"] for r in client.publish(*[event(f"e{n}") for n in range(10)])]
        self.server.ask("XTRIM", LOG, "MINID", positions[6])
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
        self.addCleanup(connection.close)
        connection.request("GET", f"/v1/streams/events/tail?after={positions[2]}")
        answer = connection.getresponse()
        block = {}
        while (line := answer.readline().decode().rstrip("\r\n")) or not block:
            name, _, value = line.partition(": ")
            if name in ("event", "data"):
                block[name] = value
        self.assertEqual(block["event"], "gap")
        self.assertEqual(json.loads(block["data"]), {"after": positions[2], "first": positions[6]})

    def test_everything_is_flushed(self):
        daemon = self.begin()
        client = daemon.client()
        client.publish(*[event(f"old-{n}") for n in range(20)])
        held = client.claim("g", max=5, stream="events", start="beginning")
        self.server.ask("FLUSHALL")
        self.resumes(daemon, client, held)

    def test_the_server_comes_back_empty(self):
        daemon = self.begin()
        client = daemon.client()
        client.publish(*[event(f"old-{n}") for n in range(20)])
        held = client.claim("g", max=5, stream="events", start="beginning")
        self.server.kill()
        self.server.forget()
        self.server.start()
        self.resumes(daemon, client, held)

    def resumes(self, daemon, client, held):
        self.publish_until_stored(client, "new")

        def handed_out():
            response = client.post("/v1/groups/g/claim", {"consumer": "c", "max": 10, "wait_ms": 0, "lease_ms": 30_000,
                                                          "stream": "events", "start": "beginning"})
            return response.json["deliveries"] if response.status == 200 else []
        deliveries = harness.wait_until(handed_out, 20, "consumers resume by themselves")
        self.assertEqual([d["event"]["id"] for d in deliveries], ["new"])
        self.assertNotIn(deliveries[0]["lease"], [d["lease"] for d in held], "no claim is numbered like one before")
        self.assertEqual(client.settle("g", "ack", held)["stale"], [d["lease"] for d in held])
        self.assertEqual(client.settle("g", "ack", deliveries)["stale"], [])
        harness.wait_until(lambda: "store_emptied" in daemon.log(), 10, "it is said loudly")
        harness.wait_until(lambda: re.search("group_made_again|group_vanished", daemon.log()), 10, "of the group, too")
        metrics = client.get("/metrics").body.decode()
        (line,) = [line for line in metrics.splitlines() if line.startswith("millrace_store_emptied_total ")]
        self.assertEqual(float(line.split()[1]), 1)
        self.assertEqual(sorted(s["name"] for s in client.ok("GET", "/v1/streams")["streams"]), ["events", "logs"])

    def test_a_foreign_producer_and_a_foreign_consumer(self):
        client = self.begin().client()
        client.publish(event("ours"))
        self.server.ask("XADD", LOG, "*", "event_type", "door.opened", "door", "7")
        self.server.ask("XADD", LOG, "*", "nonsense", "1")
        client.publish(event("ours-2"))
        events = [e for _, e in client.read()]
        self.assertEqual([e["type"] for e in events], ["test.happened", "door.opened", "test.happened"])
        self.assertEqual(harness.data_of(events[1]), b'{"door":"7"}')
        self.assertEqual(len(self.consume(client)), 3)


class Network(RedisDay):
    def test_a_slow_server(self):
        client = self.begin().client()
        client.publish(event("before"))
        self.server.gate.delay = 0.2
        begun = time.monotonic()
        self.assertEqual(self.publish(client, "slow").status, 200)
        self.assertGreater(time.monotonic() - begun, 0.3)
        self.server.gate.delay = 5.0  # beyond the time-out
        response = self.publish(client, "late")
        self.assertEqual((response.status, response.json["code"], response.json["retryable"]), (503, "outcome_unknown", True))
        self.server.gate.delay = 0.0
        self.server.gate.cut()
        went = self.publish_until_stored(client, "late")
        self.assertIn(went[-1], ("stored", "duplicate"))
        self.assertEqual(sorted(self.stored_ids()), ["before", "late", "slow"])

    def test_requests_that_need_no_store_do_not_wait_for_it(self):
        daemon = self.begin()
        client = daemon.client()
        client.publish(event("before"))
        self.server.gate.hole = True
        waiting = [threading.Thread(target=lambda n=n: self.publish(daemon.client(), f"w{n}"), daemon=True) for n in range(20)]
        for thread in waiting:
            thread.start()
        worst = 0.0
        for _ in range(200):
            begun = time.monotonic()
            self.assertEqual(client.get("/v1/nothing-here").status, 404)
            worst = max(worst, time.monotonic() - begun)
            time.sleep(0.005)
        print(f"a request that needs no store took {worst * 1000:.1f} ms at most, while 20 others waited for Redis")
        self.assertLess(worst, 0.25, "the event loop goes on")
        self.server.gate.hole = False
        self.server.gate.cut()
        for thread in waiting:
            thread.join(20)
            self.assertFalse(thread.is_alive(), "every publisher gets an answer")
        self.publish_until_stored(client, "after")

    def test_a_reply_is_cut_in_the_middle(self):
        client = self.begin().client()
        for turn in range(12):
            self.server.gate.cut_reply(after=turn)
            id = f"cut-{turn}"
            response = self.publish(client, id)
            while self.server.gate.cutting:  # another connection of the daemon has not met it yet
                time.sleep(0.01)
            if response.status != 200:
                self.assertEqual((response.status, response.json["code"]), (503, "outcome_unknown"), response)
            self.publish_until_stored(client, id)
        self.assertEqual(self.stored_ids(), [f"cut-{n}" for n in range(12)])

    def test_a_black_hole(self):
        client = self.begin().client()
        client.publish(event("before"))
        self.server.gate.hole = True
        begun = time.monotonic()
        response = self.publish(client, "lost")
        self.assertEqual((response.status, response.json["code"]), (503, "outcome_unknown"), response)
        self.assertLess(time.monotonic() - begun, 6)
        self.assertEqual(client.get("/health").status, 503)
        self.server.gate.hole = False
        self.server.gate.cut()
        self.assertEqual(self.publish_until_stored(client, "lost")[-1], "stored")
        harness.wait_until(lambda: client.get("/health").status == 200, 10, "healthy again")

    def test_nobody_listens_and_then_somebody_does(self):
        client = self.begin().client()
        client.publish(event("before"))
        self.server.gate.open = False
        response = harness.wait_until(lambda: (r := self.publish(client, "no")).json.get("code") == "unavailable" and r, 10,
                                      "what was never sent is unavailable")
        self.assertTrue(response.json["retryable"])
        self.server.gate.open = True
        self.publish_until_stored(client, "yes")


class Memory(RedisDay):
    def test_out_of_memory(self):
        client = self.begin("--maxmemory-policy", "noeviction").client()
        client.publish(*[event(f"first-{n}") for n in range(20)])
        held = client.claim("g", max=5, stream="events", start="beginning")
        used = int(next(line for line in self.server.cli("INFO", "memory").splitlines() if line.startswith("used_memory:")).split(":")[1])
        self.server.ask("CONFIG", "SET", "maxmemory", used + (3 << 20))
        stored = []
        for n in range(400):
            response = self.publish(client, f"fill-{n}", data="x" * 50_000, datacontenttype="text/plain")
            if response.status != 200:
                break
            stored.append(f"fill-{n}")
        self.assertEqual((response.status, response.json["code"], response.json["retryable"]), (507, "store_full", True), response)
        self.assertGreater(len(stored), 3)
        # Settling makes room, and goes on; so does handing out what is there.
        self.assertEqual(client.settle("g", "ack", held)["stale"], [])
        self.assertEqual(len(client.claim("g", max=3)), 3)
        self.server.ask("CONFIG", "SET", "maxmemory", 0)
        self.publish_until_stored(client, "after")
        there = self.stored_ids()
        self.assertEqual([id for id in stored if id not in there], [])

    def test_an_evicting_policy_is_refused(self):
        server = self.redis("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
        code, log = harness.Daemon(store=server.url()).refused()
        self.assertNotEqual(code, 0)
        self.assertRegex(log, "maxmemory-policy.*allkeys-lru|allkeys-lru.*maxmemory-policy")
        self.assertRegex(log, "noeviction")


class Refused(RedisDay):
    def test_a_wrong_password(self):
        self.server = self.redis("--requirepass", "correct-horse", port=True)
        log = self.refused(self.server.tcp_url("default:wrong-secret@"), "permission_denied", "password")
        self.assertNotIn("wrong-secret", log)
        self.refused(self.server.tcp_url(), "permission_denied")
        daemon = self.daemon(store=self.server.tcp_url("default:correct-horse@"))
        client = daemon.client()
        client.publish(event("in"))
        seen = json.dumps(client.ok("GET", "/v1/stats")) + client.get("/health").body.decode() + daemon.log()
        self.assertNotIn("correct-horse", seen)

    def test_less_durable_than_asked_for(self):
        self.server = self.redis(fsync="everysec", port=True)
        self.refused(self.server.tcp_url(), "appendfsync", "durability=relaxed")
        client = self.daemon(store=self.server.tcp_url(durability="relaxed")).client()
        self.assertEqual({r["durability"] for r in client.publish(event("a"))}, {"relaxed"})
        memory = self.redis(fsync=None)
        self.refused(memory.url(durability="relaxed"), "appendonly")

    def test_config_is_forbidden(self):
        self.server = self.redis(port=True)
        self.server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-config")
        # Believed where it cannot be read.
        client = self.daemon(store=self.server.tcp_url("app:pw@", durability="relaxed")).client()
        self.assertEqual({r["durability"] for r in client.publish(event("a"))}, {"relaxed"})
        # Not declared: it cannot be known, and is not claimed.
        self.refused(self.server.tcp_url("app:pw@"), "durability=", "CONFIG")

    def test_nobody_is_there(self):
        url = f"redis+unix:{harness.temp_folder()}/nothing.sock?connect_timeout=300"
        self.refused(url, "unavailable", "nothing.sock")


if __name__ == "__main__":
    harness.main()
