# SPDX-License-Identifier: Apache-2.0
"""Bad days: each is either a clear error that names its object and what to do, or work goes on; nothing is ever lost."""

import glob
import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import time

import harness
from harness import event

EVENTS = "/v1/streams/events/events"
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
ROOT = os.geteuid() == 0


def filled(folder, count=200):
    """A store of `count` events, closed in good order. Returns its daemon, not running."""
    daemon = harness.Daemon(folder).start()
    client = daemon.client()
    client.publish(*[event(n, data="x" * 200, datacontenttype="text/plain") for n in range(count)])
    client.close()
    assert daemon.terminate() == 0, daemon.log()
    return daemon


class BadDay(harness.Case):
    def setUp(self):
        super().setUp()
        self.folder = harness.temp_folder()

    def assert_refused(self, daemon, codes, *words):
        code, log = daemon.refused()
        self.assertIn(code, codes, log)
        for word in words:
            self.assertRegex(log, word)
        self.assertNotRegex(log.lower(), "terminate called|segmentation|assert")
        return log

    def publish_until_refused(self, client, size=20_000, most=4000):
        """Publishes until the store says it is full. Returns the acknowledged ids and the problem."""
        stored = []
        for n in range(most):
            id = f"full-{n}"
            response = client.post(EVENTS, json.dumps([event(id, data="x" * size, datacontenttype="text/plain")]), headers=BATCH)
            if response.status != 200:
                return stored, response
            stored.append(id)
        self.fail("the disk never got full")

    def assert_all_there(self, client, ids):
        there = [e["id"] for _, e in client.read(limit=200)]
        self.assertEqual([id for id in ids if id not in set(there)], [], "acknowledged events are lost")
        self.assertEqual(len(there), len(set(there)))


class Disk(BadDay):
    def full(self, daemon, make_room):
        client = daemon.client()
        client.claim("g", stream="events", start="beginning", max=1)
        client.publish(*[event(n) for n in range(20)])
        held = client.claim("g", max=5)
        stored, refusal = self.publish_until_refused(client)
        self.assertEqual(refusal.status, 507, refusal)
        problem = refusal.json
        self.assertEqual((problem["code"], problem["retryable"]), ("store_full", True))
        self.assertGreater(len(stored), 3)
        self.assert_all_there(client, stored)
        self.assertEqual(client.get("/health").status in (200, 503), True)
        make_room()
        harness.wait_until(lambda: client.post(EVENTS, json.dumps([event("after", data="x" * 20_000)]), headers=BATCH).status == 200,
                           15, "publishing works again once there is room")
        self.assertEqual(client.settle("g", "ack", held)["stale"], [])
        self.assert_all_there(client, stored + ["after"])
        self.assertEqual(daemon.terminate(), 0)
        connection = sqlite3.connect(daemon.path)
        self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        connection.close()
        daemon.start()
        self.assert_all_there(daemon.client(), stored + ["after"])

    def mount(self, size):
        if not ROOT:
            self.skipTest("mounting a tmpfs needs root")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.folder], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"cannot mount a tmpfs here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", self.folder])

    def test_a_full_disk(self):
        self.mount("8m")
        daemon = harness.Daemon(self.folder, store=f"sqlite:{self.folder}/events.db?min_free=0").start()
        self.addCleanup(daemon.__exit__)
        self.full(daemon, lambda: subprocess.run(["mount", "-o", "remount,size=32m", self.folder], check=True))

    def test_claims_and_acks_go_on_below_the_floor(self):
        self.mount("64m")
        # min_free beyond what is there, and below 5 % never counts on so small a disk: the smaller of both is the floor
        ballast = os.path.join(self.folder, "ballast")
        daemon = harness.Daemon(self.folder, store=f"sqlite:{self.folder}/events.db?min_free={4 << 20}").start()
        self.addCleanup(daemon.__exit__)
        client = daemon.client()
        client.publish(*[event(n) for n in range(50)])
        free = shutil.disk_usage(self.folder).free
        with open(ballast, "wb") as file:
            file.write(b"x" * (free - (2 << 20)))
        status = harness.wait_until(lambda: (r := client.post(EVENTS, json.dumps([event("no")]), headers=BATCH)).status != 200 and r,
                                    10, "publishing is refused below the floor")
        self.assertEqual((status.status, status.json["code"], status.json["retryable"]), (507, "store_full", True))
        held = client.claim("g", stream="events", start="beginning")
        self.assertGreaterEqual(len(held), 50)
        self.assertEqual(client.settle("g", "ack", held)["stale"], [])
        os.remove(ballast)
        harness.wait_until(lambda: client.post(EVENTS, json.dumps([event("yes")]), headers=BATCH).status == 200, 15,
                           "publishing is taken again")

    def test_a_file_that_may_not_grow(self):
        """The same without root: a limit on file size makes every longer write fail with EFBIG."""
        daemon = harness.Daemon(self.folder, store=f"sqlite:{self.folder}/events.db?min_free=0", wrap=["prlimit", f"--fsize={3 << 20}"])
        daemon.start()
        self.addCleanup(daemon.__exit__)
        client = daemon.client()
        stored, refusal = self.publish_until_refused(client)
        self.assertIn(refusal.status, (503, 507), refusal)
        self.assertIn(refusal.json["code"], ("store_full", "unavailable", "outcome_unknown"))
        self.assertTrue(refusal.json["retryable"])
        self.assert_all_there(client, stored)
        daemon.kill()
        daemon.wrap = []
        daemon.start()
        self.assert_all_there(daemon.client(), stored)
        daemon.client().publish(event("after"))

    def test_a_disk_that_fills_while_the_store_is_made(self):
        self.mount("16k")
        daemon = harness.Daemon(self.folder)
        daemon.folder = harness.temp_folder()  # its own output goes elsewhere
        daemon.store = f"sqlite:{self.folder}/events.db?min_free=0"
        self.assert_refused(daemon, (1, 3), "events.db", "(?i)full|space")


class Files(BadDay):
    def test_a_read_only_file(self):
        daemon = filled(self.folder)
        files = glob.glob(daemon.path + "*")
        if ROOT:  # root ignores modes: an immutable flag or a read-only mount does not
            subprocess.run(["mount", "--bind", self.folder, self.folder], check=False, capture_output=True)
            done = subprocess.run(["mount", "-o", "remount,bind,ro", self.folder], capture_output=True, text=True)
            self.addCleanup(subprocess.run, ["umount", "-l", self.folder], capture_output=True)
            if done.returncode != 0:
                self.skipTest(f"cannot mount read-only here: {done.stderr.strip()}")
            daemon.folder = harness.temp_folder()
        else:
            for file in files:
                os.chmod(file, 0o400)
        self.assert_refused(daemon, (1, 2, 3), "events.db", "(?i)read.?only|permission|cannot be written")
        if ROOT:
            subprocess.run(["umount", "-l", self.folder], check=True)
        else:
            for file in files:
                os.chmod(file, 0o600)
        daemon.start()
        self.addCleanup(daemon.__exit__)
        self.assertEqual(len(daemon.client().read()), 200)

    def test_a_folder_without_permission(self):
        if ROOT and not shutil.which("setpriv"):
            self.skipTest("setpriv is missing")
        closed = os.path.join(self.folder, "closed")
        os.mkdir(closed, 0o500)
        os.chmod(self.folder, 0o755)
        wrap = []
        if ROOT:
            wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            if subprocess.run([*wrap, harness.PROGRAM, "--help"], capture_output=True).returncode != 0:
                self.skipTest("another user cannot run the program here")
        daemon = harness.Daemon(self.folder, store=f"sqlite:{closed}/events.db", wrap=wrap)
        self.assert_refused(daemon, (1, 2, 3), "closed", "(?i)permission")

    def test_a_folder_that_is_a_file(self):
        path = os.path.join(self.folder, "file")
        with open(path, "w", encoding="ascii") as file:
            file.write("x")
        self.assert_refused(harness.Daemon(self.folder, store=f"sqlite:{path}/events.db"), (1, 2, 3), path)

    def test_new_files_are_private(self):
        daemon = harness.Daemon(self.folder, store=f"sqlite:{self.folder}/deep/er/events.db").start()
        self.addCleanup(daemon.__exit__)
        daemon.client().publish(event(1))
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.folder}/deep/er").st_mode), 0o700)
        for file in glob.glob(f"{self.folder}/deep/er/*"):
            self.assertEqual(stat.S_IMODE(os.stat(file).st_mode), 0o600, file)

    def test_a_truncated_file(self):
        daemon = filled(self.folder, 1000)
        size = os.path.getsize(daemon.path)
        os.truncate(daemon.path, size // 2)
        self.assert_refused(daemon, (1, 3), "events.db", "(?i)corrupt|malformed|damaged")
        self.assertEqual(os.path.getsize(daemon.path), size // 2, "a damaged file is left as it is")

    def test_an_empty_file(self):
        """It may be what is left of a lost store, so nobody pretends that it is a new one."""
        daemon = harness.Daemon(self.folder)
        open(daemon.path, "wb").close()
        self.assert_refused(daemon, (1, 3), "events.db", "empty")
        self.assertEqual(os.path.getsize(daemon.path), 0)

    def test_random_bytes(self):
        daemon = harness.Daemon(self.folder)
        rubbish = self.random.randbytes(50_000)
        with open(daemon.path, "wb") as file:
            file.write(rubbish)
        self.assert_refused(daemon, (1, 3), "events.db", "(?i)not a millrace store|not a database|corrupt")
        with open(daemon.path, "rb") as file:
            self.assertEqual(file.read(), rubbish, "a foreign file is left as it is")

    def test_somebody_elses_database(self):
        daemon = harness.Daemon(self.folder)
        other = sqlite3.connect(daemon.path)
        other.execute("CREATE TABLE events (mine TEXT)")
        other.execute("INSERT INTO events VALUES ('precious')")
        other.commit()
        other.close()
        with open(daemon.path, "rb") as file:
            before = file.read()
        self.assert_refused(daemon, (1, 3), "events.db", "(?i)not a millrace")
        with open(daemon.path, "rb") as file:
            self.assertEqual(file.read(), before, "a foreign database is left as it is")

    def test_a_newer_version(self):
        daemon = filled(self.folder)
        file = sqlite3.connect(daemon.path)
        (version,) = file.execute("PRAGMA user_version").fetchone()
        self.assertGreater(version, 0)
        file.execute(f"PRAGMA user_version = {version + 1}")
        file.close()
        self.assert_refused(daemon, (1, 3), "events.db", rf"\b{version + 1}\b", rf"\b{version}\b", "(?i)newer")
        file = sqlite3.connect(daemon.path)
        file.execute(f"PRAGMA user_version = {version}")
        file.close()
        daemon.start()
        self.addCleanup(daemon.__exit__)
        self.assertEqual(len(daemon.client().read()), 200)

    def test_only_serve_and_store_init_create_a_store(self):
        path = os.path.join(self.folder, "nothing.db")
        code, _, err = harness.run("stats", "--store", f"sqlite:{path}")
        self.assertEqual(code, 5, err)
        self.assertIn("nothing.db", err)
        self.assertEqual(glob.glob(path + "*"), [])


class Others(BadDay):
    def test_a_second_daemon_names_the_first(self):
        first = harness.Daemon(self.folder).start()
        self.addCleanup(first.__exit__)
        second = harness.Daemon(harness.temp_folder(), store=first.store)
        self.assert_refused(second, (1, 3), rf"\b{first.pid}\b", "events.db")
        self.assertEqual(first.client().publish(event(1))[0]["status"], "stored")
        first.kill()  # and a dead one holds nothing
        second.start()
        self.addCleanup(second.__exit__)
        self.assertEqual(len(second.client().read()), 1)

    def test_a_tool_beside_the_daemon(self):
        daemon = harness.Daemon(self.folder).start()
        self.addCleanup(daemon.__exit__)
        client = daemon.client()
        client.publish(*[event(n) for n in range(10)])
        code, out, err = harness.run("stats", "--store", daemon.store, "--json")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["store"]["total_events"], 10)
        line = json.dumps(event("from the tool"))
        code, out, err = harness.run("publish", "--store", daemon.store, stdin=line + "\n")
        self.assertEqual(code, 0, err)
        self.assertEqual([e["id"] for _, e in client.read()][-1], "from the tool")
        waiting = client.claim("g", stream="events", start="end", wait_ms=0)
        self.assertEqual(waiting, [])
        harness.run("publish", "--store", daemon.store, stdin=json.dumps(event("wakes")) + "\n")
        self.assertEqual([d["event"]["id"] for d in client.claim("g", wait_ms=5000)], ["wakes"])

    def test_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            self.assert_refused(harness.Daemon(self.folder, args=["--server-listen", address]), (1, 2, 3), address, "(?i)in use|taken")

    def test_an_address_that_is_not_here(self):
        daemon = harness.Daemon(self.folder, args=["--server-listen", "192.0.2.1:0", "--server-token", "x" * 20])
        self.assert_refused(daemon, (1, 2, 3), "192.0.2.1")

    def test_two_sigterms_end_at_once(self):
        daemon = harness.Daemon(self.folder).start()
        self.addCleanup(daemon.__exit__)
        client = daemon.client()
        client.publish(event(1))
        # A request that never ends keeps the first SIGTERM waiting for its grace.
        s = socket.create_connection(("127.0.0.1", daemon.port))
        self.addCleanup(s.close)
        s.sendall(b"POST /v1/streams/events/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cloudevents+json\r\n"
                  b"Content-Length: 100000\r\n\r\n{")
        time.sleep(0.1)
        begun = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        if daemon.process.poll() is None:
            daemon.process.send_signal(signal.SIGTERM)
        daemon.process.wait(3)
        self.assertLess(time.monotonic() - begun, 3)
        daemon.start()
        self.assertEqual(len(daemon.client().read()), 1)

    def test_sigint_stops_like_sigterm(self):
        daemon = harness.Daemon(self.folder).start()
        self.addCleanup(daemon.__exit__)
        daemon.process.send_signal(signal.SIGINT)
        self.assertEqual(daemon.process.wait(10), 0)


class Clock(BadDay):
    """The wall clock steps while the daemon runs; libfaketime stands in for the administrator's hand."""

    def setUp(self):
        super().setUp()
        found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
        if not found:
            self.refuse_or_skip("faketime (apt install faketime)")
        self.clock = os.path.join(self.folder, "clock")
        self.set_clock(0)
        self.d = harness.Daemon(self.folder, wrap=["env", f"LD_PRELOAD={found[0]}"], env={
            "FAKETIME_TIMESTAMP_FILE": self.clock, "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}).start()
        self.addCleanup(self.d.__exit__)
        self.c = self.d.client()

    def set_clock(self, seconds):
        with open(self.clock + ".new", "w", encoding="ascii") as file:
            file.write(f"{seconds:+d}s\n")
        os.rename(self.clock + ".new", self.clock)

    def stored_at(self, id):
        (match,) = self.c.ok("GET", f"/v1/events?id={id}&source=/judge")["matches"]
        return match["stored_at"]

    def test_the_fake_clock_reaches_the_daemon(self):
        self.set_clock(+86_400 * 400)
        self.d.restart()
        self.c.publish(event("later"))
        self.assertGreater(self.stored_at("later")[:4], time.strftime("%Y", time.gmtime()))

    def test_a_step_back_changes_no_order_and_kills_no_lease(self):
        self.c.publish(event("before", subject="k"))
        held = self.c.claim("g", lease_ms=60_000, stream="events", start="beginning")
        self.set_clock(-3600)
        self.c.publish(event("after", subject="k"))
        self.assertLessEqual(self.stored_at("before"), self.stored_at("after"), "the store's clock never goes back")
        self.assertEqual([e["id"] for _, e in self.c.read()], ["before", "after"])
        self.assertEqual(self.c.claim("g", "other"), [])
        self.assertEqual(self.c.settle("g", "ack", held)["stale"], [])
        self.assertEqual([d["event"]["id"] for d in self.c.claim("g", lease_ms=60_000)], ["after"])
        self.assertGreaterEqual(self.c.group("g")["lag"]["oldest_seconds"], 0)
        self.d.restart()  # and it starts with a clock behind what it has written
        self.c.publish(event("third"))
        self.assertLessEqual(self.stored_at("after"), self.stored_at("third"))

    def test_after_a_step_back_leases_and_retries_do_not_wait_for_the_old_time(self):
        self.c.publish(event(1), event(2, subject="x"))
        self.c.claim("g", lease_ms=500, max=1, stream="events", start="beginning")
        held = self.c.claim("g", "other", max=1)
        self.c.settle("g", "retry", held, after_ms=300)
        self.set_clock(-3600)
        got = []
        end = time.monotonic() + 10
        while len(got) < 2 and time.monotonic() < end:
            for d in self.c.claim("g", "other", wait_ms=1000):
                got.append(d["event"]["id"])
                self.c.settle("g", "ack", [d])
        self.assertEqual(sorted(got), ["1", "2"])

    def test_a_step_forward_does_not_charge_those_who_work(self):
        self.c.publish(event(1))
        held = self.c.claim("g", lease_ms=30_000, stream="events", start="beginning")
        self.set_clock(+3600)
        self.c.publish(event(2))
        self.assertEqual(self.c.settle("g", "ack", held)["stale"], [])
        self.assertEqual(self.c.group("g")["crashes"], 0)


if __name__ == "__main__":
    harness.main()
