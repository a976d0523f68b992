# SPDX-License-Identifier: Apache-2.0
"""Replay and redrive, judged from outside: what was delivered is read from stdout, from the other stream, and by
consumers of the groups, never from what a replay says of itself."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import unittest
from datetime import datetime

import harness

EVENTS = 10_000


def command(daemon, *args, direct=False):
    where = ["--store", daemon.store] if direct else ["--url", daemon.url]
    return [harness.PROGRAM, *map(str, args), *where]


class ReplayCase(harness.Case):
    def run_command(self, *args, code=0, direct=False):
        done = subprocess.run(command(self.server, *args, direct=direct), capture_output=True, text=True, timeout=120,
                              env=harness.clean_environment(self.server.folder))
        self.assertEqual(done.returncode, code, f"{args}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout, done.stderr

    def json_of(self, *args, code=0):
        return json.loads(self.run_command(*args, "--json", code=code)[0])

    def publish(self, count, **attributes):
        client = self.server.client()
        for start in range(0, count, 1000):
            client.publish(*(harness.event(n, type=f"kind.{n % 2}", subject=f"s{n % 7}", data={"n": n}, **attributes)
                             for n in range(start, min(start + 1000, count))))

    def kill_when(self, args, condition, out=subprocess.DEVNULL):
        """Starts a replay and ends it with SIGKILL as soon as `condition` holds; answers its exit code."""
        process = harness.spawn(command(self.server, *args), stdout=out, stderr=subprocess.DEVNULL,
                                env=harness.clean_environment(self.server.folder))
        while process.poll() is None and not condition():
            time.sleep(0.002)
        process.kill()
        return process.wait(30)

    def stored_at(self, position, stream="events"):
        page = self.server.client().ok("GET", f"/v1/streams/{stream}/events?after={position - 1}&limit=1")
        return datetime.fromisoformat(page["events"][0]["stored_at"].replace("Z", "+00:00")).timestamp()

    def record(self, replayid):
        response = self.server.client().get(f"/v1/replays/{replayid}")
        return response.json if response.status == 200 else None

    def delivered_at_least(self, replayid, count):
        return lambda: (self.record(replayid) or {"delivered": 0})["delivered"] >= count

    def consumer(self, group, deliveries, stop):
        """Takes and acknowledges until told to stop; (position, replayid) of each delivery."""
        client = self.server.client()
        while not stop.is_set():
            batch = client.claim(group, max=1000, wait_ms=50)
            if batch:
                deliveries += [(d["event"]["id"], d["event"].get("replayid")) for d in batch]
                client.settle(group, "ack", batch)

    def consume_all(self, group):
        deliveries, client = [], self.server.client()
        while batch := client.claim(group, max=1000):
            deliveries += [(d["event"]["id"], d["event"].get("replayid")) for d in batch]
            client.settle(group, "ack", batch)
        return deliveries


class Interrupted(ReplayCase):
    """10,000 events; each replay is killed several times and resumed."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Daemon().start()
        cls.addClassCleanup(cls.server.__exit__)
        ReplayCase.publish(cls, EVENTS)
        cls.ids = [str(n) for n in range(EVENTS)]

    def resumed_until_done(self, first, replayid, cuts, out=subprocess.DEVNULL):
        """Kills it whenever the next of the conditions holds; the last run ends by itself."""
        killed, args = 0, first
        for cut in cuts:
            code = self.kill_when(args, cut, out)
            if self.record(replayid) is not None:
                args = ["replay", "--resume", replayid]
            killed += code == -signal.SIGKILL
        done = subprocess.run(command(self.server, *args), stdout=out, stderr=subprocess.PIPE, timeout=120,
                              env=harness.clean_environment(self.server.folder))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.record(replayid)["state"], "finished")
        self.assertGreater(killed, 1, "it was hardly killed: this showed nothing")

    def test_into_a_stream_each_copy_is_there_exactly_once(self):
        client = self.server.client()
        client.request("POST", "/v1/streams", {"name": "copies"})

        def there(count):
            return lambda: next(s for s in client.ok("GET", "/v1/streams")["streams"] if s["name"] == "copies")["events"] >= count
        self.resumed_until_done(["replay", "--into", "copies", "--replayid", "c"], "c", [there(n) for n in (1, 3000, 6000)])
        copies = client.read("copies")
        self.assertEqual([event["id"] for _, event in copies], [f"c:{n}" for n in self.ids])
        for (_, copy), n in zip(copies, range(EVENTS)):
            self.assertEqual((copy["replayid"], copy["type"], copy["data"]), ("c", f"kind.{n % 2}", {"n": n}))

    def test_to_stdout_it_is_complete_and_in_order(self):
        path = os.path.join(self.server.folder, "out.ndjson")
        first, last = (self.stored_at(position) for position in (1, EVENTS))
        pace = (last - first) / 5  # it takes 5 s, so that some records are written on the way
        with open(path, "wb") as out:
            cuts = [self.delivered_at_least("o", n) for n in (1, 3500, 6500)]
            self.resumed_until_done(["replay", "--replayid", "o", "--pace", f"{pace:.6f}"], "o", cuts, out)
        got = []
        with open(path, "rb") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # cut by a kill; it comes again whole
                self.assertEqual(event["replayid"], "o")
                got.append(int(event["id"]))
        self.assertEqual(sorted(set(got)), list(range(EVENTS)))
        self.assertLess(len(got), 2 * EVENTS)  # what was recorded did not come again

    def test_to_a_group_each_comes_at_least_once_and_no_other_group_sees_any(self):
        client = self.server.client()
        for group in ("mail", "other"):
            client.request("POST", "/v1/groups", {"name": group, "stream": "events", "start": "beginning"})
            self.assertEqual(len(self.consume_all(group)), EVENTS)
        before = client.group("other")
        deliveries, stop = [], threading.Event()
        thread = threading.Thread(target=self.consumer, args=("mail", deliveries, stop))
        thread.start()
        try:
            self.resumed_until_done(["replay", "--to-group", "mail", "--replayid", "g"], "g",
                                    [self.delivered_at_least("g", n) for n in (1, 3000, 6000)])
            harness.wait_until(lambda: harness.lag_of(client.group("mail")) == (0, 0, 0), 60, "all is through")
        finally:
            stop.set()
            thread.join()
        self.assertEqual({replayid for _, replayid in deliveries}, {"g"})
        self.assertEqual({id for id, _ in deliveries}, set(self.ids))
        self.assertLessEqual(len(deliveries), EVENTS + 3 * 500)  # at most one batch again for each kill
        self.assertEqual(client.claim("other"), [])
        self.assertEqual({**client.group("other"), "last_seen": None}, {**before, "last_seen": None})


class Replay(ReplayCase):
    def setUp(self):
        super().setUp()
        self.server = self.daemon()
        self.client = self.server.client()

    def ids_of(self, *args, **options):
        out, _ = self.run_command("replay", *args, **options)
        return [int(json.loads(line)["id"]) for line in out.splitlines()]

    def test_chooses_by_type_source_key_position_time_and_limit(self):
        self.publish(20)
        (stored,) = self.client.publish(harness.event("100", source="/elsewhere", type="late"))
        late = self.client.read()[-1]
        times = self.client.ok("GET", "/v1/streams/events/events?after=19&limit=2")["events"]
        self.assertEqual(self.ids_of(), [*range(20), 100])
        self.assertEqual(self.ids_of("--types", "kind.1"), list(range(1, 20, 2)))
        self.assertEqual(self.ids_of("--source", "/else*"), [100])
        self.assertEqual(self.ids_of("--key", "s3"), [3, 10, 17])
        self.assertEqual(self.ids_of("--key", "s3", "--key", "s4", "--limit", "3"), [3, 4, 10])
        self.assertEqual(self.ids_of("--after", "18", "--up-to", "20"), [18, 19])
        self.assertEqual(self.ids_of("--since", times[1]["stored_at"]), [100])
        self.assertEqual(self.ids_of("--until", times[1]["stored_at"], "--after", "17"), [17, 18, 19])
        self.assertEqual(self.ids_of("--after", "18", direct=True), [18, 19, 100])
        self.assertEqual(late[1]["id"], "100")
        self.run_command("replay", "--stream", "nowhere", code=5)
        self.run_command("replay", "--types", "{", code=2)
        self.run_command("replay", "--pace", "slowly", code=2)
        self.run_command("replay", "--resume", "nothing", code=5)
        self.run_command("replay", "--resume", "nothing", "--limit", "3", code=2)

    def test_a_dry_run_says_what_would_happen_and_changes_nothing(self):
        self.publish(30)
        self.client.request("POST", "/v1/groups", {"name": "mail", "stream": "events", "start": "beginning", "types": ["kind.1"]})
        self.client.settle("mail", "ack", self.client.claim("mail", max=5))
        (open_one,) = self.client.claim("mail", max=1)

        def everything():
            parts = [self.client.ok("GET", path) for path in ("/v1/streams", "/v1/groups", "/v1/replays")]
            del parts[1]["groups"][0]["lag"]["oldest_seconds"]  # time goes on
            return parts
        before = everything()
        preview = self.json_of("replay", "--to-group", "mail", "--after", "2", "--dry-run")
        self.assertEqual((preview["events"], preview["types"]), (28, {"kind.0": 14, "kind.1": 14}))
        self.assertEqual((preview["first"]["position"], preview["last"]["position"]), ("3", "30"))
        self.assertEqual(sum(preview["statuses"].values()), 28)
        self.assertEqual(preview["statuses"]["open"], 1)
        out, _ = self.run_command("replay", "--dry-run", "--types", "kind.0")
        self.assertIn("would replay 15 events", out)
        self.assertEqual(everything(), before)
        real = self.json_of("replay", "--to-group", "mail", "--after", "2", "--replayid", "g")
        self.assertEqual(real["delivered"], preview["statuses"]["accepted"])
        self.client.settle("mail", "ack", [open_one])

    def test_ctrl_c_ends_it_cleanly_and_says_how_to_go_on(self):
        self.publish(2)
        time.sleep(1.5)
        self.client.publish(harness.event("later"))
        process = harness.spawn(command(self.server, "replay", "--pace", "0.05", "--replayid", "slow"),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        harness.wait_until(lambda: (self.record("slow") or {"delivered": 0})["delivered"] == 2, 20, "two are recorded")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 1)
        self.assertEqual(len(out.splitlines()), 2)
        self.assertIn("millrace replay --resume slow", err)
        self.assertEqual(self.record("slow")["state"], "interrupted")
        self.assertIn("slow", self.run_command("replay", "list")[0])
        self.assertIn("0.05", self.run_command("replay", "show", "slow")[0])
        self.run_command("replay", "forget", "slow")
        self.run_command("replay", "show", "slow", code=5)

    def test_the_original_pace_is_kept(self):
        for n in range(4):
            self.client.publish(harness.event(n))
            time.sleep(0.4)
        process = harness.spawn(command(self.server, "replay", "--pace", "original", "--into", "logs"),
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertEqual(process.wait(30), 0)
        then, now = ([self.stored_at(position, stream) for position in (1, 2, 3, 4)] for stream in ("events", "logs"))
        for before, after in zip(then, now):
            self.assertAlmostEqual(before - then[0], after - now[0], delta=0.6)  # as fast as possible: 1.2

    def test_a_paused_group_is_waited_for_and_said_so(self):
        self.publish(1600)
        self.client.request("POST", "/v1/groups", {"name": "mail", "stream": "events", "start": "beginning"})
        self.consume_all("mail")
        self.run_command("groups", "pause", "mail")
        process = harness.spawn(command(self.server, "replay", "--to-group", "mail", "--replayid", "p"),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = process.stderr.readline()
        self.assertIn("waiting: group mail is paused, 1000 open", line)
        self.assertEqual(self.client.group("mail")["lag"]["waiting"], 1000)
        self.run_command("groups", "resume", "mail")
        got = []
        while len(got) < 1600:
            got += self.consume_all("mail")
        out, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0)
        self.assertIn("1600 delivered", out)
        self.assertEqual(len(got), 1600)

    def interrupted_by_restarts(self, *args, replayid):
        """A replay over HTTP while the daemon is killed, and started again at the same address, twice."""
        process = harness.spawn(command(self.server, "replay", "--replayid", replayid, *args), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
        lines, said = [], []
        readers = [threading.Thread(target=to.extend, args=(file,), daemon=True)
                   for file, to in ((process.stdout, lines), (process.stderr, said))]
        for reader in readers:
            reader.start()
        for delivered, end in ((1, self.server.kill), (700, self.server.terminate)):
            harness.wait_until(self.delivered_at_least(replayid, delivered), 60, "the replay goes on")
            self.assertIsNone(process.poll(), "it ended before the daemon did: this shows nothing")
            end()
            before = len(said)
            harness.wait_until(lambda before=before: len(said) > before, 60, "that it waits is said")
            self.server.start()
        self.assertEqual(process.wait(120), 0, said)
        for reader in readers:
            reader.join(20)
        self.assertIn("trying again", said[0])
        record = self.record(replayid)
        self.client = self.server.client()
        self.assertEqual((record["state"], record["read"], record["delivered"]), ("finished", 1500, 1500))
        self.assertIsNone(record["first_error"])
        return lines

    def at_one_address(self, count, seconds):
        """A daemon that comes back at the same port, with so many events; the pace that spreads them."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.server = self.daemon("--server-listen", f"127.0.0.1:{port}")
        self.client = self.server.client()
        for start in range(0, count, 100):
            self.client.publish(*(harness.event(n) for n in range(start, start + 100)))
            time.sleep(0.02)  # each batch has a time of its own
        return f"{(self.stored_at(count) - self.stored_at(1)) / seconds:.6f}"

    def test_to_stdout_it_rides_out_a_restart_and_prints_nothing_twice(self):
        pace = self.at_one_address(1500, 8)
        lines = self.interrupted_by_restarts("--pace", pace, replayid="out")
        self.assertEqual([int(json.loads(line)["id"]) for line in lines], list(range(1500)))

    def test_into_a_stream_it_rides_out_a_restart(self):
        pace = self.at_one_address(1500, 8)
        self.interrupted_by_restarts("--pace", pace, "--into", "logs", replayid="copy")
        self.assertEqual([event["id"] for _, event in self.client.read("logs")], [f"copy:{n}" for n in range(1500)])

    def test_to_a_group_it_rides_out_a_restart(self):
        pace = self.at_one_address(1500, 8)
        self.client.request("POST", "/v1/groups", {"name": "mail", "stream": "events", "start": "beginning"})
        self.assertEqual(len(self.consume_all("mail")), 1500)
        deliveries, stop = [], threading.Event()

        def consume():
            client = self.server.client()
            while not stop.is_set():
                try:
                    batch = client.claim("mail", max=1000, wait_ms=50)
                    deliveries.extend(d["event"]["id"] for d in batch)
                    client.settle("mail", "ack", batch)
                except (harness.NotSent, harness.NoAnswer, AssertionError):
                    time.sleep(0.05)  # it starts again
        consumer = threading.Thread(target=consume, daemon=True)
        consumer.start()
        try:
            self.interrupted_by_restarts("--pace", pace, "--to-group", "mail", replayid="g")
            harness.wait_until(lambda: harness.lag_of(self.client.group("mail")) == (0, 0, 0), 60, "all is through")
        finally:
            stop.set()
            consumer.join(20)
        self.assertEqual(set(deliveries), {str(n) for n in range(1500)})

    def test_a_daemon_that_does_not_come_back_is_not_waited_for_after_ctrl_c(self):
        pace = self.at_one_address(300, 20)
        process = harness.spawn(command(self.server, "replay", "--pace", pace, "--replayid", "r"),
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        harness.wait_until(self.delivered_at_least("r", 1), 20, "it is under way")
        self.server.kill()
        self.assertIn("trying again", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 3)
        self.assertIn("millrace replay --resume r", err)

    def test_a_stream_replayed_into_itself_ends(self):
        self.publish(700)
        self.run_command("replay", "--into", "events", "--replayid", "again")
        ids = [event["id"] for _, event in self.client.read()]
        self.assertEqual(ids, [str(n) for n in range(700)] + [f"again:{n}" for n in range(700)])

    def test_who_resumes_it_takes_it_over(self):
        self.publish(2)
        time.sleep(1.2)
        self.client.publish(harness.event("later"))
        time.sleep(1.2)
        self.client.publish(harness.event("last"))
        first = harness.spawn(command(self.server, "replay", "--pace", "0.01", "--replayid", "one"),
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        harness.wait_until(lambda: (self.record("one") or {"delivered": 0})["delivered"] == 2, 20, "it is under way")
        second = harness.spawn(command(self.server, "replay", "--resume", "one"), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        self.assertIn("somebody else resumed", first.communicate(timeout=20)[1])
        self.assertEqual(first.returncode, 1)
        self.assertIsNone(second.poll())
        second.kill()
        self.run_command("replay", "--replayid", "one", code=1)  # the id is taken

    def test_records_are_checked(self):
        self.publish(1)
        self.run_command("replay", "--replayid", "r")
        record = self.record("r")
        path = "/v1/replays/r"
        self.assertEqual(self.client.request("PUT", path, {**record, "version": 0}).status, 409)
        self.assertEqual(self.client.request("PUT", path, {**record, "version": 1}).json["code"], "busy")
        self.assertEqual(self.client.request("PUT", path, {**record, "color": "red"}).status, 400)
        self.assertEqual(self.client.request("PUT", path, {**record, "read": -1}).status, 400)
        self.assertEqual(self.client.request("PUT", "/v1/replays/s", record).status, 400)
        huge = {**record, "query": {**record["query"], "keys": ["k" * 1000] * 100}}
        self.assertEqual(self.client.request("PUT", path, huge).status, 413)
        self.assertEqual(self.client.request("POST", "/v1/groups/none/replay", {"replayid": "r", "positions": ["1"]}).status, 404)


class Redrive(ReplayCase):
    def setUp(self):
        super().setUp()
        self.server = self.daemon()
        self.client = self.server.client()

    def kill_off(self, count, reason="no good"):
        deliveries = []
        while len(deliveries) < count:
            batch = self.client.claim("mail", max=1000)
            self.client.settle("mail", "reject", batch, reason=reason)
            deliveries += batch
        return deliveries

    def test_two_at_once_deliver_once(self):
        count = 2000
        self.publish(count)
        for group in ("mail", "other"):
            self.client.request("POST", "/v1/groups", {"name": group, "stream": "events", "start": "beginning", "order": "none"})
        self.kill_off(count)
        self.consume_all("other")
        both = [harness.spawn(command(self.server, "dlq", "redrive", "mail", "--all", "--json"), stdout=subprocess.PIPE, text=True)
                for _ in range(2)]
        redriven = [json.loads(process.communicate(timeout=60)[0])["redriven"] for process in both]
        self.assertEqual(sum(redriven), count)
        got = self.consume_all("mail")
        self.assertEqual(sorted(int(id) for id, _ in got), list(range(count)))
        self.assertEqual({replayid for _, replayid in got}, {None})
        self.assertEqual(self.client.claim("other"), [])
        self.assertEqual(self.client.dead_letters("mail"), [])

    def test_chooses_by_type_reason_and_time_and_a_dry_run_changes_nothing(self):
        self.publish(10)
        self.client.request("POST", "/v1/groups", {"name": "mail", "stream": "events", "start": "beginning", "order": "none"})
        batch = self.client.claim("mail", max=10)
        self.client.settle("mail", "reject", batch[:6], reason="too early")
        time.sleep(0.05)
        self.client.settle("mail", "reject", batch[6:], reason="too late")
        died = self.client.dead_letters("mail")[6]["died_at"]

        def count(*args, word="redriven"):
            return self.json_of("dlq", "redrive" if word == "redriven" else "purge", "mail", *args)[word]
        before = self.client.dead_letters("mail")
        self.assertEqual(count("--all", "--dry-run"), 10)
        self.assertEqual(count("--types", "kind.1", "--dry-run"), 5)
        self.assertEqual(count("--reason", "late", "--dry-run"), 4)
        self.assertEqual(count("--since", died, "--dry-run"), 4)
        self.assertEqual(count("--until", died, "--dry-run"), 6)
        self.assertEqual(count("--position", "1,2", "--dry-run", word="purged"), 2)
        self.assertIn("would be handed", self.run_command("dlq", "redrive", "mail", "--all", "--dry-run")[0])
        self.assertEqual(self.client.dead_letters("mail"), before)
        self.assertEqual(self.client.claim("mail"), [])
        self.assertEqual(len(self.json_of("dlq", "list", "mail", "--until", died)["dead_letters"]), 6)
        self.assertEqual(count("--until", died, "--types", "kind.1"), 3)
        self.assertEqual(sorted(int(id) for id, _ in self.consume_all("mail")), [1, 3, 5])
        self.assertEqual(count("--reason", "early", word="purged"), 3)
        self.assertEqual(len(self.client.dead_letters("mail")), 4)
        self.run_command("dlq", "redrive", "mail", code=2)
        self.run_command("dlq", "redrive", "mail", "--since", "yesterday", code=2)
        self.assertEqual(self.client.post("/v1/groups/mail/dead-letters/redrive", {"sinse": died}).status, 400)


if __name__ == "__main__":
    harness.main()
