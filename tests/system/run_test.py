# SPDX-License-Identifier: Apache-2.0
"""`./dev run --once` twice on a clone: the second time all are duplicates and nothing is delivered twice."""

import json
import os
import shutil
import subprocess

import harness


class Run(harness.Case):
    def setUp(self):
        super().setUp()
        if not (harness.CHECKOUT / ".git").exists():
            self.skipTest("this checkout is no git repository")
        self.clone = os.path.join(harness.temp_folder(), "clone")
        self.git("clone", "--quiet", "--no-hardlinks", str(harness.CHECKOUT), self.clone)
        self.commits = int(self.git("-C", self.clone, "rev-list", "--count", "HEAD"))
        # The build is what every other test runs on. Here the program is put where the build would put it, and the
        # build's one tool is answered with "done": everything else of the command is real.
        place = os.path.join(self.clone, "build/release/bin")
        os.makedirs(place)
        shutil.copy2(harness.PROGRAM, os.path.join(place, "millrace"))
        tools = harness.temp_folder()
        with open(os.path.join(tools, "cmake"), "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(os.path.join(tools, "cmake"), 0o755)
        home = harness.temp_folder()
        self.env = {**harness.clean_environment(home), "PATH": tools + ":" + os.environ["PATH"]}

    def git(self, *args):
        done = subprocess.run(["git", "-c", "safe.directory=*", *args], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def run_once(self):
        done = subprocess.run(["./dev", "run", "--once", "--port", "0"], cwd=self.clone, env=self.env, capture_output=True, text=True,
                              timeout=240, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def state(self):
        store = "sqlite:" + os.path.join(self.clone, "build/run/events.db")
        code, out, err = harness.run("stats", "--json", "--store", store)
        self.assertEqual(code, 0, err)
        stats = json.loads(out)
        (group,) = [g for g in stats["groups"] if g["name"] == "commits"]
        return stats["store"]["total_events"], group

    def test_the_second_run_delivers_nothing_twice(self):
        first = self.run_once()
        self.assertIn(f"{self.commits} acknowledged: {self.commits} stored, 0 duplicates", first)
        events, group = self.state()
        self.assertEqual((events, group["processed"]), (self.commits, self.commits))
        self.assertEqual((harness.lag_of(group), group["failures"], group["crashes"], group["dead"]), ((0, 0, 0), 0, 0, 0))
        second = self.run_once()
        self.assertIn(f"{self.commits} acknowledged: 0 stored, {self.commits} duplicates", second)
        events, group = self.state()
        self.assertEqual((events, group["processed"]), (self.commits, self.commits), "nothing was delivered twice")
        changed = self.git("-C", self.clone, "status", "--porcelain")
        self.assertEqual(changed, "", "it changes nothing but build/")


if __name__ == "__main__":
    harness.main()
