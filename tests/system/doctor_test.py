# SPDX-License-Identifier: Apache-2.0
"""Doctor: what it says of this machine, of bad places for a store, and of stores that cannot be opened."""

import json
import os
import subprocess
import threading

import harness
from harness import event

ROOT = os.geteuid() == 0


class Doctor(harness.Case):
    def examine(self, *where, code=None):
        """The findings by name, and the exit code that must fit them."""
        found, out, err = harness.run("doctor", "--json", *where)
        self.assertIn(found, (0, 1), err)
        answer = json.loads(out)
        self.assertEqual(found, 1 if answer["level"] == "fail" else 0)
        if code is not None:
            self.assertEqual(found, code, out)
        for finding in answer["findings"]:
            self.assertIn(finding["level"], ("ok", "warn", "fail"))
            self.assertTrue(finding["found"], finding)
            for member in ("at_risk", "to_do"):
                self.assertEqual(finding[member] is None, finding["level"] == "ok", finding)
        return {finding["check"]: finding for finding in answer["findings"]}

    def mounted(self, *options):
        if not ROOT:
            self.skipTest("mounting needs root")
        folder = harness.temp_folder()
        done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"cannot mount here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], capture_output=True)
        return folder

    def test_it_looks_at_everything_and_leaves_nothing_behind(self):
        d = self.daemon()
        before = sorted(os.listdir(d.folder))
        found = self.examine("--url", d.url)
        self.assertEqual(list(found), ["store", "owner", "file_system", "device", "sync", "disk", "permissions", "clock",
                                       "descriptors", "file_size", "memory"])
        self.assertRegex(found["sync"]["found"], r"p50 .*, p99 .*, longest .* \(\d+ times\)")
        self.assertIn(f"pid {d.pid}", found["owner"]["found"])
        self.assertEqual(found["permissions"]["level"], "ok", found)
        self.assertEqual(sorted(os.listdir(d.folder)), before)

    def test_it_does_not_disturb_a_store_that_serves(self):
        d = self.daemon()
        c = d.client()
        stop, failed, stored = threading.Event(), [], []

        def publish():
            while not stop.is_set():
                try:
                    stored.extend(r["status"] for r in c.publish(event(f"e{len(stored)}")))
                except AssertionError as error:
                    failed.append(error)

        thread = threading.Thread(target=publish)
        thread.start()
        self.addCleanup(stop.set)  # whatever fails, it ends
        for where in (["--url", d.url], ["--store", d.store]):
            self.assertEqual(self.examine(*where)["store"]["level"], "ok")
        stop.set()
        thread.join()
        self.assertEqual(failed, [])
        self.assertEqual(set(stored), {"stored"})
        self.assertEqual(len(c.read()), len(stored))

    def test_it_speaks_for_a_person_too(self):
        d = self.daemon()
        code, out, err = harness.run("doctor", "--url", d.url)
        self.assertIn(code, (0, 1), err)
        self.assertRegex(out, r"(?m)^ok +store +sqlite:.*opens")
        self.assertNotIn("\033", out)

    def test_a_store_that_nobody_serves(self):
        d = self.daemon()
        self.assertEqual(d.terminate(), 0)
        found = self.examine("--store", d.store)
        self.assertEqual((found["store"]["level"], found["owner"]["found"]), ("ok", "nobody serves it"))
        self.assertEqual(harness.run("doctor", "--url", d.url)[0], 3)

    def test_a_store_that_cannot_be_opened_says_why(self):
        path = os.path.join(harness.temp_folder(), "events.db")
        with open(path, "wb") as file:
            file.write(os.urandom(50_000))
        found = self.examine("--store", "sqlite:" + path, code=1)
        self.assertEqual(found["store"]["level"], "fail")
        self.assertRegex(found["store"]["found"], "(?i)not a millrace store|not a database|corrupt")
        self.assertIn("sync", found, "the machine is looked at all the same")

    def test_a_store_that_is_not_there_is_not_made(self):
        folder = harness.temp_folder()
        found = self.examine("--store", f"sqlite:{folder}/deep/events.db")
        self.assertEqual(found["store"]["level"], "warn")
        self.assertIn("no store yet", found["store"]["found"])
        self.assertEqual(os.listdir(folder), [])

    def test_a_disk_that_is_memory(self):
        folder = self.mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs")
        d = harness.Daemon(folder).start()
        self.addCleanup(d.__exit__)
        for where in (["--url", d.url], ["--store", d.store]):
            found = self.examine(*where, code=1)
            self.assertEqual(found["file_system"]["level"], "fail")
            self.assertIn("tmpfs", found["file_system"]["found"])
            self.assertIn("acknowledged", found["file_system"]["at_risk"])

    def test_a_disk_below_the_floor(self):
        folder = self.mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs")
        store = f"sqlite:{folder}/events.db"
        self.assertEqual(self.examine("--store", store, code=1)["disk"]["level"], "ok")
        with open(os.path.join(folder, "ballast"), "wb") as file:
            file.write(b"x" * ((16 << 20) - (600 << 10)))
        disk = self.examine("--store", store, code=1)["disk"]
        self.assertEqual(disk["level"], "fail", disk)
        self.assertIn("store_full", disk["at_risk"])

    def test_a_read_only_directory(self):
        d = self.daemon()
        d.client().publish(event(1))
        self.assertEqual(d.terminate(), 0)
        if not ROOT:
            self.skipTest("a read-only mount needs root")
        bound = subprocess.run(["mount", "--bind", d.folder, d.folder], capture_output=True, text=True)
        self.addCleanup(subprocess.run, ["umount", "-l", d.folder], capture_output=True)
        done = subprocess.run(["mount", "-o", "remount,bind,ro", d.folder], capture_output=True, text=True)
        if bound.returncode != 0 or done.returncode != 0:
            self.skipTest(f"cannot mount read-only here: {bound.stderr.strip()} {done.stderr.strip()}")
        found = self.examine("--store", d.store, code=1)
        self.assertEqual(found["permissions"]["level"], "fail", found)
        self.assertEqual(found["file_system"]["level"], "fail", found)
        self.assertRegex(found["sync"]["found"], "(?i)not measured.*read-only")

    def test_files_that_others_can_read(self):
        d = self.daemon()
        os.chmod(d.path, 0o644)
        found = self.examine("--url", d.url)["permissions"]
        self.assertEqual(found["level"], "warn")
        self.assertIn("644", found["found"])
        self.assertIn("chmod 600", found["to_do"])

    def test_limits_of_the_process(self):
        # --fsize stands for any limit that a service manager sets.
        d = self.daemon(wrap=["prlimit", "--nofile=512:512", f"--fsize={1 << 30}"])
        found = self.examine("--url", d.url)
        self.assertEqual((found["descriptors"]["level"], found["file_size"]["level"]), ("warn", "warn"))
        self.assertIn("512 open files", found["descriptors"]["found"])


if __name__ == "__main__":
    harness.main()
