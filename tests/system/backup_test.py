# SPDX-License-Identifier: Apache-2.0
"""Backups of a store in use, and what a store made from one may and may not do (docs/adr/0007-backup-and-restore.md).

The crash test's publishers and consumers make the load, and its journal is the judge's. MILLRACE_RESTORE_ROUNDS says how
often a daemon under load is backed up, killed and restored somewhere else (3).
"""

import json
import os
import random
import signal
import subprocess
import threading
import time

import harness
from crash_test import CONSUMERS, GROUP, PUBLISHERS, Consumer, Publisher, World, fingerprint

GAP = 1_000_000_000
ROUNDS = int(os.environ.get("MILLRACE_RESTORE_ROUNDS") or 3)
SHIM = str(harness.BUILD / "lib/libmillrace_disk_shim.so")


class DoomedWorld(World):
    """One whose daemon is killed and does not come back: then its people stop."""
    gone = False

    def healthy(self):
        return super().healthy() and not self.gone


def files_of(folder):
    return sorted(os.listdir(folder))


class RestoreAfterACrash(harness.Case):
    def test_what_was_acknowledged_before_the_backup_is_there_and_nothing_is_invented(self):
        for number in range(ROUNDS):
            with self.subTest(round=number):
                self.round(random.Random(f"{harness.SEED} restore {number}"))

    def round(self, chance):
        world = DoomedWorld(harness.temp_folder(), chance.random())
        world.daemon.start()
        threads = [threading.Thread(target=world.guard, args=(Publisher(world, n).run,), daemon=True) for n in range(PUBLISHERS)]
        threads += [threading.Thread(target=world.guard, args=(Consumer(world, n).run,), daemon=True) for n in range(CONSUMERS)]
        for thread in threads:
            thread.start()
        time.sleep(0.5 + chance.random())
        client = world.daemon.client()
        client.claim("holder", stream="events", start="beginning", max=5, lease_ms=600_000)
        held = client.pending("holder")
        to = os.path.join(harness.temp_folder(), "backup.db")
        begun = time.monotonic()
        answer = client.ok("POST", "/v1/backup", {"to": to})
        done = time.monotonic()
        self.assertEqual((answer["path"], answer["bytes"]), (to, os.path.getsize(to)))
        time.sleep(chance.random() * 0.5)
        world.daemon.kill()
        world.gone = True
        for thread in threads:
            thread.join(30)
        world.journal.file.close()
        self.assertEqual(world.failures, [])
        self.assertEqual(files_of(os.path.dirname(to)), ["backup.db"])
        self.assertEqual(harness.rows_of(to, "PRAGMA integrity_check"), [("ok",)])
        self.assertGreater(harness.rows_of(to, "SELECT count(*) FROM claim")[0][0], 0, "nothing was claimed: this proves nothing")
        self.judge(world.journal.entries, held, begun, done, to)

    def judge(self, entries, held, begun, done, backup):
        issued = {e["id"]: e for e in entries if e["what"] == "issued"}
        published = {id: (int(position), e["at"]) for e in entries if e["what"] == "published"
                     for id, position in e["positions"].items()}
        leases = {d[0]: d[3] for e in entries if e["what"] == "claimed" for d in e["deliveries"]}
        used = {p for p, _ in published.values()} | {int(d[1]) for e in entries if e["what"] == "claimed" for d in e["deliveries"]}
        settled = {leases[lease] for e in entries if e["what"] == "ack" and e["at"] < begun for lease in e["done"]}
        maybe_settled = {leases[lease] for e in entries if e["what"] in ("ack", "maybe ack") and e["sent"] < done
                         for lease in e.get("done", e.get("leases"))}
        before = {id for id, (_, at) in published.items() if at < begun}
        self.assertTrue(before and settled, "too little happened before the backup: this proves nothing")
        crashes = harness.rows_of(backup, f"SELECT crashes FROM consumer_group WHERE name = '{GROUP}'")[0][0]

        folder = harness.temp_folder()
        store = os.path.join(folder, "restored", "events.db")
        code, out, err = harness.run("restore", backup, "--store", store, "--json")
        self.assertEqual((code, json.loads(out or "null")), (0, {"backup": backup, "store": store}), err)
        self.assertEqual(files_of(os.path.dirname(store)), ["events.db", "events.db.lock"])
        self.assertEqual(harness.rows_of(store, "PRAGMA integrity_check"), [("ok",)])
        daemon = self.daemon(folder=folder, store=store)
        client = daemon.client()

        there = {event["id"]: (int(position), event) for position, event in client.read()}
        self.assertEqual(before - set(there), set(), "acknowledged before the backup began, and not in it")
        self.assertEqual(set(there) - set(issued), set(), "invented")
        for id, (position, event) in there.items():
            self.assertEqual(fingerprint(event), issued[id]["hash"], id)
            self.assertEqual(position, published.get(id, (position,))[0], id)
        last = max(position for position, _ in there.values())
        torn = [id for id, (position, _) in published.items() if position <= last and id not in there]
        self.assertEqual(torn, [], "a backup is the store of one moment: all up to the last one is in it")

        info = client.group(GROUP)
        self.assertEqual((info["lag"]["in_flight"], info["crashes"]), (0, crashes), "open again, and nobody charged")
        old = list(leases)
        for how in ("ack", "extend", "release"):
            answer = client.settle(GROUP, how, old)
            self.assertEqual(answer["done"], [], "a lease from before holds")
        self.assertEqual(client.settle("holder", "ack", [p["lease"] for p in held])["done"], [])
        again = client.claim("holder", max=len(held))
        # Of different keys in any order.
        self.assertEqual(sorted((d["position"], d["attempt"]) for d in again), [(p["position"], p["attempt"]) for p in held])

        new = [int(r["position"]) for r in client.publish(*[harness.event(f"after-{n}") for n in range(50)])]
        self.assertEqual(used & set(new), set(), "a position from before is used again")
        self.assertGreater(min(new), last + GAP)
        self.assertGreater(min(new), max(used))

        delivered = set()
        end = time.monotonic() + 60
        while harness.lag_of(client.group(GROUP)) != (0, 0, 0):
            self.assertLess(time.monotonic(), end, f"the group gets not through: {client.group(GROUP)['lag']}")
            deliveries = client.claim(GROUP, max=500, wait_ms=100)
            delivered |= {d["event"]["id"] for d in deliveries}
            if deliveries:
                self.assertEqual(client.settle(GROUP, "ack", deliveries)["stale"], [])
        dead = {letter["event"]["id"] for letter in client.dead_letters(GROUP)}
        self.assertEqual(delivered & settled, set(), "settled before the backup began, and handed out again")
        self.assertEqual(set(there) - maybe_settled - dead - delivered, set(), "open in the backup, and never handed out")
        self.assertEqual(daemon.terminate(), 0)
        self.assertEqual(harness.rows_of(store, "PRAGMA integrity_check"), [("ok",)])


class Backup(harness.Case):
    def small_store(self):
        daemon = self.daemon()
        client = daemon.client()
        for part in range(20):
            client.publish(*[harness.event(f"{part}-{n}", data="x" * 1000) for n in range(100)])
        return daemon, client

    def test_the_command_does_it_over_http_and_on_a_store_in_use(self):
        daemon, client = self.small_store()
        folder = harness.temp_folder()
        for number, where in enumerate((["--url", daemon.url], ["--store", daemon.path])):
            to = os.path.join(folder, f"b{number}.db")
            code, out, err = harness.run("backup", to, "--json", *where)
            self.assertEqual(code, 0, err)
            self.assertEqual(json.loads(out)["path"], to)
            self.assertEqual(json.loads(out)["bytes"], os.path.getsize(to))
            self.assertEqual(os.stat(to).st_mode & 0o777, 0o600)
            self.assertEqual(harness.rows_of(to, 'SELECT count(*) FROM "log:events"'), [(2000,)])
        self.assertEqual(files_of(folder), ["b0.db", "b1.db"])

    def test_refusals_leave_nothing(self):
        daemon, client = self.small_store()
        folder = harness.temp_folder()
        taken = os.path.join(folder, "taken")
        with open(taken, "w", encoding="ascii") as file:
            file.write("mine")
        for to, status, code, exit_code in ((taken, 409, "already_exists", 1), ("relative.db", 400, "invalid_argument", None),
                                            (os.path.join(folder, "no/such/dir"), 404, "not_found", 5),
                                            (folder, 409, "already_exists", 1), ("/proc/backup.db", None, None, 1)):
            answer = client.post("/v1/backup", {"to": to})
            if status:
                self.assertEqual((answer.status, answer.json["code"]), (status, code), answer)
            else:
                self.assertGreaterEqual(answer.status, 400)
            if exit_code:
                self.assertEqual(harness.run("backup", to, "--url", daemon.url)[0], exit_code, to)
        self.assertEqual(files_of(folder), ["taken"])
        self.assertEqual(client.post("/v1/backup", {"to": taken, "also": 1}).status, 400)
        # A disk that is full on the way.
        to = os.path.join(folder, "full.db")
        done = subprocess.run(["prlimit", "--fsize=1000000", harness.PROGRAM, "backup", to, "--store", daemon.path],
                              capture_output=True, text=True, env=harness.clean_environment(folder), check=False,
                              restore_signals=False)  # SIGXFSZ stays ignored: an error and not a death
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(files_of(folder), ["taken"])
        memory = self.daemon(store="memory:")
        self.assertEqual(memory.client().post("/v1/backup", {"to": to}).status, 400)

    def test_without_room_it_is_refused_before_anything_is_written(self):
        daemon, _ = self.small_store()
        self.assertEqual(daemon.terminate(), 0)
        folder = harness.temp_folder()
        script = 'mount -t tmpfs -o size=1m none "$1" && "$2" backup "$1/b.db" --store "$3"; code=$?; ls -A "$1"; exit $code'
        done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "-", folder, harness.PROGRAM, daemon.path],
                              capture_output=True, text=True, env=harness.clean_environment(folder), check=False)
        if "unshare" in done.stderr or "mount" in done.stderr:
            self.skipTest("no file system of one's own here: " + done.stderr.strip())
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertIn("store_full", done.stderr)
        self.assertIn("free there", done.stderr)

    def test_killed_on_the_way_it_is_whole_or_has_another_name(self):
        if not os.path.exists(SHIM):
            self.refuse_or_skip(SHIM)
        daemon, _ = self.small_store()
        self.assertEqual(daemon.terminate(), 0)
        at, ended, seen = 0, False, set()
        while not ended:
            folder = harness.temp_folder()
            to = os.path.join(folder, "b.db")
            done = subprocess.run([harness.PROGRAM, "backup", to, "--store", daemon.path], capture_output=True, check=False,
                                  env=harness.clean_environment(folder, LD_PRELOAD=SHIM, MILLRACE_SHIM_DIR=folder,
                                                                MILLRACE_SHIM_JOURNAL="/dev/null", MILLRACE_SHIM_KILL_AT=str(at)))
            ended = done.returncode == 0
            if not ended:
                self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
            for name in files_of(folder):
                if name == "b.db":
                    self.assertEqual(harness.rows_of(to, "PRAGMA integrity_check"), [("ok",)])
                    self.assertEqual(harness.rows_of(to, 'SELECT count(*) FROM "log:events"'), [(2000,)])
                else:
                    self.assertTrue(name.startswith("b.db.partial-"), name)
                seen.add(name.split("-")[0])
            at += 1 + at // 8
        self.assertIn("b.db.partial", seen)
        self.assertEqual(files_of(folder), ["b.db"])


class Restore(harness.Case):
    def backup(self):
        daemon = self.daemon()
        daemon.client().publish(harness.event("one"), harness.event("two"))
        to = os.path.join(harness.temp_folder(), "backup.db")
        daemon.client().ok("POST", "/v1/backup", {"to": to})
        return daemon, to

    def refused(self, backup, store, exit_code, *words):
        folder = os.path.dirname(store) or harness.temp_folder()
        before = files_of(folder)
        code, _, err = harness.run("restore", backup, "--store", store)
        self.assertEqual(code, exit_code, err)
        for word in words:
            self.assertIn(word, err)
        self.assertEqual([name for name in files_of(folder) if not name.endswith(".lock")],
                         [name for name in before if not name.endswith(".lock")])

    def test_refuses_what_is_no_whole_backup_and_where_a_store_is(self):
        daemon, backup = self.backup()
        folder = harness.temp_folder()
        new = os.path.join(folder, "events.db")
        self.refused(backup, daemon.path, 1, "already_exists")
        self.refused(daemon.path, new, 2, "in use", "millrace backup")
        self.refused(os.path.join(folder, "nothing"), new, 5, "not_found")
        self.refused(backup, "memory:", 2, "memory:")
        self.assertEqual(harness.run("restore", backup)[0], 2)
        with open(backup, "rb") as file:
            good = file.read()

        def other(content):
            path = os.path.join(harness.temp_folder(), "bad.db")
            with open(path, "wb") as file:
                file.write(content)
            return path
        self.refused(other(good[: len(good) // 2 // 4096 * 4096]), new, 1, "corrupt")
        self.refused(other(good[:8192] + os.urandom(8192) + good[16384:]), new, 1, "corrupt")
        self.refused(other(b"not a database, but long enough to be looked at" * 10), new, 1, "corrupt")
        self.refused(other(good[:60] + (99).to_bytes(4, "big") + good[64:]), new, 1, "unsupported_version", "99")
        with open(new + "-wal", "wb") as file:
            file.write(b"left over")
        self.refused(backup, new, 1, "already_exists", "-wal")
        os.unlink(new + "-wal")
        self.assertEqual(harness.run("restore", backup, "--store", new)[0], 0)
        self.refused(backup, new, 1, "already_exists")

    def test_a_backup_is_not_opened_as_a_store(self):
        _, backup = self.backup()
        code, _, err = harness.run("streams", "list", "--store", backup)
        self.assertEqual(code, 2, err)
        self.assertIn("millrace restore", err)
        with open(backup, "rb") as file:
            self.assertEqual(file.read(16), b"SQLite format 3\0")

    def test_store_init_makes_one_and_only_one(self):
        store = os.path.join(harness.temp_folder(), "deep/events.db")
        code, out, err = harness.run("store", "init", "--store", store, "--json")
        self.assertEqual((code, json.loads(out or "null")), (0, {"store": store, "streams": ["events", "logs"]}), err)
        code, _, err = harness.run("store", "init", "--store", store)
        self.assertEqual(code, 1)
        self.assertIn("already_exists", err)
        self.assertEqual(harness.run("store", "init")[0], 2)
        self.assertEqual(harness.run("store", "migrate", "--store", store + "x")[0], 5)
        self.assertEqual(harness.run("store", "migrate", "--store", "memory:")[0], 2)


if __name__ == "__main__":
    harness.main()
