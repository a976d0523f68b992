# SPDX-License-Identifier: Apache-2.0
"""A group shared by processes: four that embed the library, and daemons beside them, on one Redis.

Without a kill every event is handled exactly once, also by handlers that take longer than the lease; when a process is
killed with SIGKILL, the others take over what it held within the lease, and nothing is lost.
"""

import collections
import json
import os
import signal
import subprocess
import threading
import time

import harness

CONSUMER = str(harness.BUILD / "bin/test_consumer")
GROUP = "shared"


class Process:
    """One consumer process, and what it said and when."""

    def __init__(self, url, name, takes_ms, lease_ms, concurrency=4):
        self.name = name
        self.lines = []  # (when, words)
        self.process = harness.spawn([CONSUMER, url, GROUP, name, str(takes_ms), str(lease_ms), str(concurrency)],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                                     env=harness.clean_environment(harness.temp_folder()))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.split()))

    def said(self, word):
        return [(at, words[1:]) for at, words in list(self.lines) if words and words[0] == word]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(40)
        self.reader.join(10)
        return code


class SharedGroup(harness.Case):
    def setUp(self):
        super().setUp()
        if not os.access(CONSUMER, os.X_OK):
            self.fail(f"no program at {CONSUMER}: build it")
        self.server = self.redis()
        self.publisher = self.daemon(store=self.server.url()).client()

    def consumers(self, count, takes_ms, lease_ms, concurrency=4):
        processes = [Process(self.server.url(), f"process-{n}", takes_ms, lease_ms, concurrency) for n in range(count)]
        for process in processes:
            self.addCleanup(lambda p=process: p.process.poll() is None and (p.process.kill(), p.process.wait()))
        for process in processes:
            harness.wait_until(lambda p=process: p.said("ready"), 30, f"{process.name} is ready")
        return processes

    def publish(self, count, keys=40):
        ids = [f"event-{n}" for n in range(count)]
        for first in range(0, count, 100):
            self.publisher.publish(*[harness.event(id, partitionkey=f"key {n % keys}")
                                     for n, id in enumerate(ids[first:first + 100], first)])
        return ids

    def wait_until_through(self, timeout=60):
        harness.wait_until(lambda: harness.lag_of(self.publisher.group(GROUP)) == (0, 0, 0), timeout, "the group is through")

    def in_order_of_keys(self, processes, ids, keys=40):
        """Per key, handlers ran one after the other, in the order of publishing."""
        spans = collections.defaultdict(list)
        number = {id: n for n, id in enumerate(ids)}
        for process in processes:
            begun = {words[0]: at for at, words in process.said("begin")}
            for at, words in process.said("end"):
                spans[number[words[0]] % keys].append((number[words[0]], begun[words[0]]))
        for key, events in spans.items():
            events.sort()
            times = [begun for _, begun in events]
            self.assertEqual(times, sorted(times), f"the events of key {key} were begun in another order")

    def test_four_processes_handle_each_event_exactly_once(self):
        processes = self.consumers(4, takes_ms=1, lease_ms=3000)
        ids = self.publish(2000)
        self.wait_until_through()
        for process in processes:
            self.assertEqual(process.end(), 0, process.lines[-5:])
        handled = collections.Counter(words[0] for p in processes for _, words in p.said("end"))
        self.assertEqual(handled, collections.Counter(ids))
        self.assertGreater(min(len(p.said("end")) for p in processes), 0, "each took part")
        self.in_order_of_keys(processes, ids)
        info = self.publisher.group(GROUP)
        self.assertEqual((info["processed"], info["crashes"], info["failures"]), (2000, 0, 0), info)

    def test_handlers_slower_than_the_lease_are_not_overtaken(self):
        processes = self.consumers(4, takes_ms=1500, lease_ms=500, concurrency=8)
        ids = self.publish(96)
        self.wait_until_through()
        for process in processes:
            self.assertEqual(process.end(), 0, process.lines[-5:])
            self.assertEqual([words for _, words in process.said("stale")], [["0"]])
        handled = collections.Counter(words[0] for p in processes for _, words in p.said("end"))
        self.assertEqual(handled, collections.Counter(ids))

    @staticmethod
    def stopped_at_work(process):
        """Stops it; lets it go on when it was between two events."""
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)  # what it has said is read
        begun, ended = ({words[0] for _, words in process.said(what)} for what in ("begin", "end"))
        if not begun - ended:
            process.process.send_signal(signal.SIGCONT)
        return begun - ended

    def test_what_a_killed_process_held_moves_within_the_lease(self):
        lease = 2.0
        processes = self.consumers(4, takes_ms=20, lease_ms=int(lease * 1000))
        ids = self.publish(2500)
        victim = processes[0]
        harness.wait_until(lambda: len(victim.said("end")) >= 20, 30, "the victim is at work")
        harness.wait_until(lambda: self.stopped_at_work(victim), 30, "it is stopped with an event in hand")
        victim.process.kill()
        killed = time.monotonic()
        victim.process.wait()
        victim.reader.join(10)
        held = {words[0] for _, words in victim.said("begin")} - {words[0] for _, words in victim.said("end")}
        self.assertTrue(held, "it died at work")
        self.wait_until_through()
        for process in processes[1:]:
            self.assertEqual(process.end(), 0, process.lines[-5:])
        handled = collections.Counter(words[0] for p in processes for _, words in p.said("end"))
        self.assertEqual(set(handled), set(ids), "nothing is lost")
        for id in held:
            others = [at for p in processes[1:] for at, words in p.said("begin") if words[0] == id]
            self.assertEqual(len(others), 1, f"{id} was handed out once more")
            # Suspects of a crash go through one at a time, so the last waits for those before it; the first must not.
            self.assertLess(min(others) - killed, lease + 30, f"{id} moved in time")
        first = min(at for p in processes[1:] for at, words in p.said("begin") if words[0] in held)
        self.assertLess(first - killed, lease + 2.0, "the lease runs out, and somebody takes over")
        twice = {id for id, times in handled.items() if times > 1}
        # Only what the victim had handled and could not settle any more.
        self.assertLessEqual(twice, {words[0] for _, words in victim.said("end")})
        self.assertEqual(self.publisher.dead_letters(GROUP), [])

    def test_a_late_ack_of_a_fenced_consumer_is_refused(self):
        other = self.daemon(store=self.server.url()).client()
        ids = self.publish(1)
        late = self.publisher.claim(GROUP, consumer="late", max=1, lease_ms=300, stream="events", start="beginning")
        self.assertEqual(len(late), 1)

        def taken():
            return other.claim(GROUP, consumer="next", max=1, lease_ms=30_000)
        now = harness.wait_until(lambda: [d for d in taken() if d["event"]["id"] == ids[0]], 20, "another daemon hands it out")
        self.assertNotEqual(now[0]["lease"], late[0]["lease"])
        for client in (self.publisher, other):  # through either daemon
            answer = client.settle(GROUP, "ack", late)
            self.assertEqual((answer["done"], answer["stale"]), ([], [late[0]["lease"]]))
        # The same by what redis-cli would do: it changes what the native group shows, and nothing else.
        self.server.ask("XACK", "events:all:stream", GROUP, late[0]["position"])
        self.assertEqual(harness.lag_of(other.group(GROUP)), (0, 1, 0))
        self.assertEqual(other.settle(GROUP, "ack", now)["stale"], [])

    def test_daemons_on_one_redis_share_a_group(self):
        daemons = [self.daemon(store=self.server.url()) for _ in range(2)]
        ids = self.publish(600)
        got, problems, lock = collections.Counter(), [], threading.Lock()

        def consume(daemon, name):
            client = daemon.client()
            try:
                while True:
                    deliveries = client.claim(GROUP, consumer=name, max=20, wait_ms=200, stream="events", start="beginning")
                    if not deliveries:
                        if harness.lag_of(client.group(GROUP)) == (0, 0, 0):
                            return
                        continue
                    stale = client.settle(GROUP, "ack", deliveries)["stale"]
                    with lock:
                        got.update(d["event"]["id"] for d in deliveries)
                        problems.extend(stale)
            except AssertionError as error:
                problems.append(str(error))
        threads = [threading.Thread(target=consume, args=(daemons[n % 2], f"c{n}"), daemon=True) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(problems, [])
        self.assertEqual(got, collections.Counter(ids))


class RedisCli(harness.Case):
    """What the guide prints works as printed."""

    def test_the_stream_and_its_groups_are_seen_by_redis_cli(self):
        server = self.redis()
        client = self.daemon(store=server.url()).client()
        client.claim("readers", max=1, stream="events", start="beginning")
        client.publish(*[harness.event(f"e{n}", partitionkey="k" if n < 2 else f"k{n}", data={"n": n},
                                       datacontenttype="application/json") for n in range(7)])
        self.assertEqual(server.cli("XLEN", "events:all:stream"), "7")
        entry = server.cli("XRANGE", "events:all:stream", "-", "+", "COUNT", "1").splitlines()
        fields = dict(zip(entry[1::2], entry[2::2]))
        self.assertEqual((fields["id"], fields["source"], fields["type"], fields["ce_partitionkey"], fields["n"]),
                         ("e0", "/judge", "test.happened", "k", "1"))
        self.assertEqual(json.loads(fields["data"]), {"n": 0})

        held = client.claim("readers", consumer="alice", max=4)
        client.settle("readers", "ack", held[:1])
        (group,) = [dict(zip(g[::2], g[1::2])) for g in server.ask("XINFO", "GROUPS", "events:all:stream")]
        self.assertEqual((group[b"name"], group[b"pending"]), (b"readers", len(held) - 1))
        self.assertEqual(group[b"last-delivered-id"].decode(), held[-1]["position"])
        self.assertEqual(group[b"lag"], 7 - len(held))
        pending = server.ask("XPENDING", "events:all:stream", "readers", "-", "+", 10)
        self.assertEqual([p[0].decode() for p in pending], [d["position"] for d in held[1:]])
        for _, consumer, _, _ in pending:
            self.assertTrue(consumer.decode().startswith("alice#"), consumer)
        client.settle("readers", "ack", held[1:])
        self.assertEqual(server.cli("XPENDING", "events:all:stream", "readers").splitlines()[0], "0")


if __name__ == "__main__":
    harness.main()
