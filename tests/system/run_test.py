# SPDX-License-Identifier: Apache-2.0
"""`./dev run --once` twice on a clone: the second time all are duplicates and nothing is delivered twice. Other
histories: odd ones, shallow ones, none."""

import json
import os
import shutil
import subprocess
import sys

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


class Histories(harness.Case):
    EVENTS = str(harness.CHECKOUT / "tools/git_events.py")
    ODD = [  # name, address, message, seconds and zone
        (b'Ann "Q" O\'Neil', b"ann@example.org", b'a "quoted" \\ subject', "@1700000000 +0000"),
        ("\U0001F980 Łukasz".encode(), b"crab@example.org", "emoji \U0001F980".encode(), "@1700000001 +0530"),
        (b"Esc\x1b[31m", b"esc\x1b[31m@example.org", b"no UTF-8: \xff\xfe", "@1700000002 +0000"),
        (b"Non", "non\ufdd0\x80@example.org".encode(), b"neither characters nor UTF-8", "@1700000003 +0000"),
        (b"Zone", b"zone@example.org", b"a zone that RFC 3339 has not", "@1700000004 +5130"),
        (b"Epoch", b"epoch@example.org", b"1970", "@0 +0000"),
        (b"Empty", b"", b"", "@1700000006 -1100"),
    ]

    def setUp(self):
        super().setUp()
        self.folder = harness.temp_folder()
        self.env = harness.clean_environment(self.folder, GIT_CONFIG_NOSYSTEM="1")

    def git(self, *args, stdin=b"", **env):
        done = subprocess.run(["git", *args], input=stdin, capture_output=True, env={**self.env, **env})
        self.assertEqual(done.returncode, 0, done.stderr)

    def odd_history(self):
        repository = os.path.join(self.folder, "odd")
        self.git("init", "--quiet", repository)
        for name, address, message, date in self.ODD:
            who = {f"GIT_{role}_{field}": os.fsdecode(value) for role in ("AUTHOR", "COMMITTER")
                   for field, value in (("NAME", name), ("EMAIL", address), ("DATE", date))}
            self.git("-C", repository, "commit", "--quiet", "--allow-empty", "--allow-empty-message", "--no-gpg-sign", "-F", "-",
                     stdin=message, **who)
        return repository

    def events_of(self, repository):
        done = subprocess.run([sys.executable, self.EVENTS, repository], capture_output=True, text=True, env=self.env)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def test_odd_names_dates_and_bytes_are_published(self):
        lines = self.events_of(self.odd_history())
        daemon = self.daemon()
        code, out, err = harness.run("publish", "-", "--url", daemon.url, stdin="\n".join(lines) + "\n")
        self.assertEqual(code, 0, out + err)
        events = [event for _, event in daemon.client().read()]
        self.assertEqual([event["data"]["author"] for event in events],
                         [name.decode() for name, *_ in self.ODD], "each as git has it, in order")
        self.assertEqual(events[4]["time"][:19], "2023-11-14T22:13:24")

    def test_a_shallow_clone_has_the_same_event_of_the_same_commit(self):
        repository = self.odd_history()
        shallow = os.path.join(self.folder, "shallow")
        self.git("clone", "--quiet", "--depth", "1", "file://" + repository, shallow)
        self.assertEqual(self.events_of(shallow), self.events_of(repository)[-1:])

    def test_an_archive_without_history_is_told_so_before_anything_is_built(self):
        place = os.path.join(self.folder, "archive")
        os.makedirs(os.path.join(place, "tools"))
        self.git("init", "--quiet", self.folder)  # a repository around it is not its own
        shutil.copy2(harness.CHECKOUT / "dev", place)
        shutil.copy2(self.EVENTS, os.path.join(place, "tools"))
        done = subprocess.run(["./dev", "run", "--once"], cwd=place, env=self.env, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("git clone", done.stderr)
        self.assertFalse(os.path.exists(os.path.join(place, "build/release")))


if __name__ == "__main__":
    harness.main()
