# SPDX-License-Identifier: Apache-2.0
"""Stores and configurations of every version that was released, opened by the program of today (data/golden/README.md)."""

import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess

import harness
from make_golden import look, metrics_of

GOLDEN = sorted(path for path in (harness.CHECKOUT / "tests/system/data/golden").iterdir() if path.is_dir())
SHIM = str(harness.BUILD / "lib/libmillrace_disk_shim.so")


def expected_of(golden):
    return json.loads((golden / "expected.json").read_text(encoding="utf-8"))


def unpack(golden, folder=None):
    path = os.path.join(folder or harness.temp_folder(), "events.db")
    with open(path, "wb") as file:
        file.write(gzip.decompress((golden / "events.db.gz").read_bytes()))
    return path


def shape(path):
    """Each table and view with its columns, each index with what it is on: what a program depends on. The text of a
    CREATE statement does not count, ALTER TABLE edits it."""
    found = {}
    for kind, name in harness.rows_of(path, "SELECT type, name FROM sqlite_master ORDER BY name"):
        pragma = "index_xinfo" if kind == "index" else "table_xinfo"
        found[kind, name] = harness.rows_of(path, f'SELECT * FROM pragma_{pragma}(\'{name}\')')
    # A primary key's and a UNIQUE's own index is a row of its table.
    for kind, name in [key for key in found if key[0] == "table"]:
        found["indexes of", name] = sorted(row[2:] for row in harness.rows_of(path, f"SELECT * FROM pragma_index_list('{name}')"))
    return found


class Golden(harness.Case):
    def assert_contains(self, found, expected, where=""):
        """All that was said then is said now; more may be said."""
        if isinstance(expected, dict):
            self.assertIsInstance(found, dict, where)
            for name, value in expected.items():
                self.assertIn(name, found, where)
                self.assert_contains(found[name], value, f"{where}.{name}")
        elif isinstance(expected, list):
            self.assertEqual(len(found), len(expected), where)
            for index, value in enumerate(expected):
                self.assert_contains(found[index], value, f"{where}[{index}]")
        else:
            self.assertEqual(found, expected, where)

    def each(self):
        self.assertTrue(GOLDEN)
        for golden in GOLDEN:
            print(golden.name, end=" ", flush=True)  # which one it was, should it fail
            yield golden

    def current_format(self):
        path = os.path.join(harness.temp_folder(), "new.db")
        self.assertEqual(harness.run("store", "init", "--store", path)[0], 0)
        return harness.rows_of(path, "PRAGMA user_version")[0][0], path

    def test_says_what_was_said_then(self):
        current, fresh = self.current_format()
        for golden in self.each():
            expected = expected_of(golden)
            path = unpack(golden)
            daemon = self.daemon(folder=os.path.dirname(path))
            found = look(daemon.client())
            for part in ("streams", "events", "groups", "pending", "dead_letters"):
                self.assert_contains(found[part], expected[part], part)
            self.assertEqual("store_migrated" in daemon.log(), expected["format"] < current)
            self.assertEqual(set(expected["metrics"]) - set(metrics_of(daemon.client())), set(), "metrics of then")
            self.go_on(daemon.client(), expected)
            self.assertEqual(daemon.terminate(), 0)
            self.assertEqual(harness.rows_of(path, "PRAGMA user_version"), [(current,)])
            self.assertEqual(harness.rows_of(path, "PRAGMA integrity_check"), [("ok",)])
            for key, value in shape(fresh).items():
                self.assertEqual(shape(path).get(key), value, key)

    def go_on(self, client, expected):
        """It is a store like any other: ids are known, leases hold, groups go on where they were."""
        for stream, found in expected["events"].items():
            # What the store itself put into an erased event is not anybody's to publish.
            again = [{name: value for name, value in event.items() if name != "erasedtime"} for _, event in found]
            results = client.publish(*again, stream=stream)
            for result, (position, event) in zip(results, found, strict=True):
                self.assertEqual((result["status"], result["position"]), ("duplicate", position), event["id"])
        changed = {**expected["events"]["events"][1][1], "type": "golden.other"}
        self.assertEqual(client.publish(changed)[0]["status"], "conflict")
        last = int(expected["events"]["events"][-1][0])
        self.assertGreater(int(client.publish(harness.event("of today"))[0]["position"]), last)

        held = [p["lease"] for p in expected["pending"]["held"]]
        self.assertEqual(client.settle("held", "ack", held), {"done": held, "stale": []})
        for group in expected["groups"]:
            name = group["name"]
            if group["paused"]:
                self.assertEqual(client.claim(name), [])
                client.ok("POST", f"/v1/groups/{name}/resume")
            before = client.group(name)["lag"]
            due = before["ahead"] + before["waiting"] - sum(p["state"] in ("parked", "waiting") for p in client.pending(name))
            through = 0
            while deliveries := client.claim(name):
                through += len(deliveries)
                self.assertEqual(client.settle(name, "ack", deliveries)["stale"], [])
            if not group["types"]:
                self.assertGreaterEqual(through, due if name != "retried" and name != "parked" else 1, name)
            self.assertEqual(client.group(name)["lag"]["ahead"], 0, name)
        self.assertIn("of today", [event["id"] for _, event in client.read()])
        redriven = client.ok("POST", "/v1/groups/dead/dead-letters/redrive", {})["redriven"]
        self.assertEqual(redriven, len(expected["dead_letters"]["dead"]))
        again = [d["event"] for d in client.claim("dead")]
        self.assertEqual(again, [letter["event"] for letter in expected["dead_letters"]["dead"]])

    def test_configuration_is_still_good(self):
        for golden in self.each():
            code, out, err = harness.run("config", "check", "--config", golden / "millrace.toml")
            self.assertEqual(code, 0, out + err)

    def older(self):
        current, _ = self.current_format()
        older = [golden for golden in GOLDEN if expected_of(golden)["format"] < current]
        if not older:
            self.skipTest("there is no older format")
        return current, older

    def test_a_tool_refuses_an_older_format_and_says_what_to_do(self):
        current, older = self.older()
        for golden in older:
            path = unpack(golden)
            then = expected_of(golden)["format"]
            with open(path, "rb") as file:
                bytes_before = file.read()
            code, _, err = harness.run("streams", "list", "--store", path)
            self.assertEqual(code, 1, err)
            self.assertIn("unsupported_version", err)
            self.assertIn(f"millrace store migrate --store sqlite:{path}", err)
            code, out, err = harness.run("store", "migrate", "--dry-run", "--json", "--store", path)
            self.assertEqual((code, json.loads(out or "null")), (0, {"store": path, "from": then, "to": current, "dry_run": True}), err)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), bytes_before, "refusing and a dry run change nothing")
            code, out, err = harness.run("store", "migrate", "--json", "--store", path)
            self.assertEqual((code, json.loads(out or "null")["from"]), (0, then), err)
            self.assertEqual(harness.run("streams", "list", "--store", path)[0], 0)
            code, out, _ = harness.run("store", "migrate", "--store", path)
            self.assertEqual(code, 0)
            self.assertIn("nothing to do", out)

    def test_killed_on_the_way_it_is_old_or_new(self):
        """At every single write, sync and rename of a migration."""
        if not os.path.exists(SHIM):
            self.refuse_or_skip(SHIM)
        current, older = self.older()
        fresh = shape(self.current_format()[1])
        golden = older[-1]
        before = shape(unpack(golden))
        seen, at = set(), 0
        while True:
            folder = harness.temp_folder()
            path = unpack(golden, folder)
            done = subprocess.run([harness.PROGRAM, "store", "migrate", "--store", path], capture_output=True, check=False,
                                  env=harness.clean_environment(folder, LD_PRELOAD=SHIM, MILLRACE_SHIM_DIR=folder,
                                                                MILLRACE_SHIM_JOURNAL=os.path.join(folder, "journal"),
                                                                MILLRACE_SHIM_KILL_AT=str(at)))
            if done.returncode == 0:
                break
            self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
            version = harness.rows_of(path, "PRAGMA user_version")[0][0]
            seen.add(version)
            found = shape(path)
            if version == current:
                for key, value in fresh.items():
                    self.assertEqual(found.get(key), value, (at, key))
            else:
                self.assertEqual(version, expected_of(golden)["format"])
                self.assertEqual(found, before, at)
            code, _, err = harness.run("store", "migrate", "--store", path)
            self.assertEqual(code, 0, (at, err))
            shutil.rmtree(folder, ignore_errors=True)
            at += 1
        self.assertGreater(at, 5, "it was killed at no write at all")
        self.assertEqual(seen, {expected_of(golden)["format"], current}, "the kills did not reach both sides of the commit")

    def test_a_newer_format_is_refused_even_if_only_the_log_says_so(self):
        folder = harness.temp_folder()
        path = os.path.join(folder, "events.db")
        self.assertEqual(harness.run("store", "init", "--store", path)[0], 0)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
        copy = os.path.join(harness.temp_folder(), "events.db")
        for suffix in ("", "-wal"):
            shutil.copy(path + suffix, copy + suffix)
        connection.close()
        for args in (["streams", "list"], ["store", "migrate"]):
            code, _, err = harness.run(*args, "--store", copy)
            self.assertEqual(code, 1, err)
            self.assertIn("format version 99", err)
            self.assertIn("upgrade Millrace", err)


if __name__ == "__main__":
    harness.main()
