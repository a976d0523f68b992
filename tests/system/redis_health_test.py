# SPDX-License-Identifier: Apache-2.0
"""What is said of the connections to Redis, also (and most of all) while it is away: /health, /metrics, status, doctor."""

import json
import re
import threading
import time
from datetime import datetime, timezone

import harness
from harness import event

EVENTS = "/v1/streams/events/events"
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
POOLS = ["append", "ledger", "key_value", "listener"]
# Dashboards are written against these: docs/operations.md names each.
OF_THE_STORE = {
    "millrace_store_commits_total counter", "millrace_store_emptied_total counter",
    "millrace_store_foreign_taken_total counter", "millrace_store_group_loads_total counter",
    "millrace_store_lost_events_total counter",
    "millrace_store_loop_stalls_total counter", "millrace_store_loop_turn_processor_seconds gauge",
    "millrace_store_loop_turn_seconds gauge", "millrace_store_lost_events_total counter",
    "millrace_store_lost_races_total counter",
    "millrace_store_memory_per_event_bytes gauge", "millrace_store_native_failures_total counter",
    "millrace_store_pool_connects_total counter", "millrace_store_pool_errors_total counter",
    "millrace_store_pool_in_flight gauge", "millrace_store_pool_oldest_seconds gauge",
    "millrace_store_pool_queued gauge", "millrace_store_pool_state_seconds gauge", "millrace_store_pool_up gauge",
    "millrace_store_retention_failures_total counter", "millrace_store_retention_removed_events_total counter",
    "millrace_store_retention_trims_total counter", "millrace_store_server_memory_bytes gauge",
    "millrace_store_set_aside_total counter", "millrace_store_up gauge", "millrace_store_vanished_groups_total counter",
}
ONLY_THE_SERVER_KNOWS = {"millrace_store_memory_per_event_bytes gauge", "millrace_store_server_memory_bytes gauge"}


class Metrics:
    def __init__(self, client):
        self.text = client.get("/metrics", timeout=30).body.decode()

    def __call__(self, name, pool=None):
        label = f'{{pool="{pool}"}}' if pool else ""
        found = re.findall(rf"^millrace_{name}{re.escape(label)} (\S+)$", self.text, re.MULTILINE)
        return float(found[0]) if found else None

    def types_of_the_store(self):
        return {line[len("# TYPE "):] for line in self.text.splitlines() if line.startswith("# TYPE millrace_store_")}


class Health(harness.Case):
    def begin(self, *settings, **options):
        self.server = self.redis(*settings, port=True)
        self.d = self.daemon(store=self.server.tcp_url(**{"timeout": 2000, "connect_timeout": 500, **options}))
        self.c = self.d.client()

    def health(self):
        response = self.c.get("/health", timeout=20)
        pools = {pool["pool"]: pool for pool in response.json["pools"]}
        self.assertEqual(list(pools), POOLS)
        checks = {check["name"]: check for check in response.json["checks"]}
        self.assertEqual(list(checks), ["store", *(f"pool {name}" for name in POOLS)])
        return response.status, pools, checks

    def kill(self, name):
        """The server cuts our connections of this name."""
        killed = 0
        for line in self.server.cli("CLIENT", "LIST").splitlines():
            fields = dict(word.split("=", 1) for word in line.split())
            if fields["name"] == name:
                killed += self.server.ask("CLIENT", "KILL", "ID", fields["id"])
        return killed

    def until(self, condition, what):
        return harness.wait_until(condition, 20, what, every=0.05)

    # ---- all is well ----

    def test_every_pool_is_shown(self):
        self.begin()
        self.c.publish(event("one"))
        status, pools, checks = self.health()
        self.assertEqual(status, 200)
        for name, pool in pools.items():
            self.assertEqual((pool["connected"], pool["why"]), (True, None), pool)
            self.assertEqual(pool["connects"], 1 if name == "append" else 2, pool)
            self.assertEqual(checks[f"pool {name}"]["status"], "ok")
            age = datetime.now(timezone.utc) - datetime.fromisoformat(pool["since"].replace("Z", "+00:00"))
            self.assertTrue(-1 < age.total_seconds() < 60, pool)
        metrics = Metrics(self.c)
        self.assertEqual(metrics.types_of_the_store(), OF_THE_STORE)
        for name in POOLS:
            self.assertEqual(metrics("store_pool_up", name), 1)
        said = (harness.CHECKOUT / "docs/operations.md").read_text(encoding="utf-8")
        for name in OF_THE_STORE - {"millrace_store_up gauge"}:
            self.assertIn(f"`{name.split()[0]}`", said)

    def test_a_cut_connection_is_counted_and_comes_back(self):
        self.begin()
        self.assertEqual(self.kill("millrace-append"), 1)
        pools = self.until(lambda: (p := self.health()[1])["append"]["connects"] == 2 and p, "it is made again")
        self.assertEqual([pools[name]["connects"] for name in POOLS], [2, 2, 2, 2])
        self.until(lambda: self.health()[0] == 200, "all is well again")

    # ---- it is away ----

    def test_while_the_server_is_away(self):
        self.begin(connect_timeout=40_000)
        self.c.publish(event("before"))
        self.c.claim("g", max=1, stream="events", start="beginning")
        self.assertIsNotNone(Metrics(self.c)("store_server_memory_bytes"))
        self.server.gate.open = False
        self.until(lambda: not any(pool["connected"] for pool in self.health()[1].values()), "all pools are down")

        # Somebody publishes meanwhile, and waits for the connection to come back.
        answers = []
        waiting = [threading.Thread(target=lambda n=n: answers.append(
            self.d.client().post(EVENTS, json.dumps([event(f"w{n}")]), headers=BATCH).status), daemon=True)
            for n in range(3)]
        for thread in waiting:
            thread.start()

        def queued():
            status, pools, checks = self.health()
            return (status, pools, checks) if pools["append"]["queued"] and pools["append"]["oldest_seconds"] > 0.2 else None
        status, pools, checks = self.until(queued, "the queue is seen")
        self.assertEqual(status, 503)
        for name in POOLS:
            self.assertFalse(pools[name]["connected"])
            self.assertRegex(pools[name]["why"], r"127\.0\.0\.1")
            self.assertRegex(checks[f"pool {name}"]["detail"], "^not connected since .*: .")
            self.assertEqual(checks[f"pool {name}"]["status"], "failing")
        self.assertRegex(checks["pool append"]["detail"], r"\d+ calls wait, the oldest for \d+ ms")

        metrics = Metrics(self.d.client())
        self.assertEqual(metrics("store_up"), 0)
        self.assertEqual(metrics.types_of_the_store(), OF_THE_STORE - ONLY_THE_SERVER_KNOWS)
        self.assertIsNone(metrics('group_lag_events{group="g",stream="events"}'), "unknown is never a number")
        for name in POOLS:
            self.assertEqual(metrics("store_pool_up", name), 0)
            self.assertGreater(metrics("store_pool_state_seconds", name), 0)
        self.assertGreater(metrics("store_pool_queued", "append"), 0)
        self.assertGreater(metrics("store_pool_oldest_seconds", "append"), 0.2)

        self.server.gate.open = True
        for thread in waiting:
            thread.join(60)
        self.assertEqual(answers, [200] * 3)
        self.until(lambda: self.health()[0] == 200, "all is well again")
        pools = self.health()[1]
        self.assertEqual((pools["append"]["queued"], pools["append"]["oldest_seconds"], pools["append"]["why"]), (0, 0, None))
        self.assertGreaterEqual(pools["append"]["connects"], 2)

    def test_status_at_three_in_the_morning(self):
        self.begin()
        code, out, err = harness.run("status", "--url", self.d.url)
        self.assertEqual(code, 0, out + err)
        self.assertRegex(out, r"(?m)^pool append +ok: connected since ")
        self.server.kill()
        self.until(lambda: not any(pool["connected"] for pool in self.health()[1].values()), "all pools are down")
        code, out, err = harness.run("status", "--url", self.d.url)
        self.assertEqual(code, 1, out + err)
        for name in POOLS:
            self.assertRegex(out, rf"(?m)^pool {name} is failing: not connected since \d{{4}}-.*Z: .*\S; look: millrace ")
        self.server.start()
        self.until(lambda: self.health()[0] == 200, "all is well again")
        self.assertEqual(harness.run("status", "--url", self.d.url)[0], 0)

    def test_one_pool_is_down_and_says_why(self):
        self.begin()
        self.server.ask("ACL", "SETUSER", "default", "resetchannels")
        self.until(lambda: self.kill("millrace-wake") or self.health()[0] == 503, "the subscription is lost")

        def only_one():
            status, pools, checks = self.health()
            down = {n: pools[n]["why"] for n in POOLS if pools[n]["why"]}
            return (pools, checks) if status == 503 and list(down) == ["listener"] and "ACL" in down["listener"] else None
        pools, checks = self.until(only_one, "the listener is down, says why, and nothing else is")
        self.assertEqual(checks["store"]["status"], "ok")
        code, out, _ = harness.run("status", "--url", self.d.url)
        self.assertEqual(code, 1)
        self.assertEqual(re.findall(r"(?m)^pool (\w+) is failing", out), ["listener"])
        self.assertEqual([r["status"] for r in self.c.publish(event("goes on"))], ["stored"])
        metrics = Metrics(self.c)
        self.assertEqual([metrics("store_pool_up", name) for name in POOLS], [1, 1, 1, 0])
        self.server.ask("ACL", "SETUSER", "default", "allchannels")
        self.until(lambda: self.kill("millrace-wake"), "it is there to be cut")
        self.until(lambda: self.health()[0] == 200, "it listens again")

    def test_it_is_said_while_everything_waits_for_the_server(self):
        self.begin(timeout=10_000)
        self.c.claim("g", max=1, stream="events", start="beginning")
        self.server.gate.hole = True

        def claim():
            try:
                self.d.client(timeout=60).post("/v1/groups/g/claim", {"consumer": "c", "max": 1, "wait_ms": 0, "lease_ms": 1000})
            except (harness.NoAnswer, harness.NotSent):
                pass
        waiting = [threading.Thread(target=claim, daemon=True) for _ in range(40)]
        for thread in waiting:
            thread.start()
        time.sleep(0.5)  # they hold every thread that asks the store
        for _ in range(3):
            begun = time.monotonic()
            status, pools, checks = self.health()
            self.assertEqual(status, 503)
            self.assertLess(time.monotonic() - begun, 8, "3 s, on a busy machine")
        begun = time.monotonic()
        self.assertEqual(Metrics(self.c)("store_up"), 0)
        self.assertLess(time.monotonic() - begun, 20, "one time-out of the store")
        self.server.gate.hole = False
        self.server.gate.cut()
        for thread in waiting:
            thread.join(60)
        self.until(lambda: self.health()[0] == 200, "all is well again")


class Doctor(harness.Case):
    def examine(self, *where):
        code, out, err = harness.run("doctor", "--json", *where)
        self.assertIn(code, (0, 1), err)
        answer = json.loads(out)
        return code, answer, {finding["check"]: finding for finding in answer["findings"]}

    def test_a_server_is_no_file(self):
        server = self.redis()
        d = self.daemon(store=server.url())
        d.client().publish(event("one"))
        for where in (["--url", d.url], ["--store", server.url()]):
            code, answer, found = self.examine(*where)
            self.assertEqual(found["store"]["level"], "ok", found)
            self.assertIn("redis", found["store"]["found"])
            # Nothing is said of a disk, a file or an owner of this machine: they are the server's.
            self.assertEqual(set(found) & {"owner", "file_system", "device", "sync", "disk", "permissions"}, set())
            self.assertLessEqual({"store", "clock", "descriptors", "memory"}, set(found))
            self.assertEqual(found["server"]["level"], "ok", found)
            self.assertIn(code, (0, 1))
        code, out, err = harness.run("doctor", "--store", server.url())
        self.assertRegex(out, r"(?m)^ok +store +redis\+unix:.*opens")

    def test_a_setting_that_weakens_the_promise(self):
        server = self.redis("--aof-load-truncated", "yes")
        d = self.daemon(store=server.url())
        for where in (["--url", d.url], ["--store", server.url()]):
            code, answer, found = self.examine(*where)
            self.assertEqual(found["server"]["level"], "warn", found)
            self.assertIn("aof-load-truncated is yes", found["server"]["found"])
            self.assertIn("published again", found["server"]["at_risk"])
            self.assertIn("redis-check-aof --fix", found["server"]["to_do"])

    def test_a_server_that_is_away(self):
        server = self.redis()
        d = self.daemon(store=server.url(connect_timeout=300))
        server.kill()
        for where in (["--url", d.url], ["--store", server.url(connect_timeout=300)]):
            code, answer, found = self.examine(*where)
            self.assertEqual((code, found["store"]["level"]), (1, "fail"), found)
            self.assertIn("unavailable", found["store"]["found"])
            self.assertNotIn("sync", found)

    def test_a_server_without_a_store_gets_none(self):
        server = self.redis()
        code, answer, found = self.examine("--store", server.url())
        self.assertEqual(found["store"]["level"], "warn", found)
        self.assertIn("no store", found["store"]["found"])
        self.assertEqual(server.ask("DBSIZE"), 0, "nothing was made")

    def test_a_server_that_will_not_do_says_what_to_change(self):
        server = self.redis("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
        code, answer, found = self.examine("--store", server.url())
        self.assertEqual((code, found["store"]["level"]), (1, "fail"))
        self.assertIn("maxmemory-policy", found["store"]["found"])

    def test_a_password_is_not_shown(self):
        server = self.redis("--requirepass", "correct-horse", port=True)
        code, out, err = harness.run("doctor", "--store", server.tcp_url("default:correct-horse@"))
        self.assertNotIn("correct-horse", out + err)
        self.assertRegex(out, "no store")


if __name__ == "__main__":
    harness.main()
