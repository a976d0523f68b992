# SPDX-License-Identifier: Apache-2.0
"""`./dev run --once` twice: the first delivers every commit, the second delivers none again."""

import re
import subprocess
import unittest

import harness


@unittest.skipUnless(harness.BUILD == harness.CHECKOUT / "build/release", "./dev run builds in build/release, this is another build")
class DevRun(unittest.TestCase):
    def run_once(self, folder):
        done = subprocess.run([str(harness.CHECKOUT / "dev"), "run", "--once", "--folder", folder], capture_output=True, text=True,
                              timeout=300, env=harness.clean_environment(folder))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_the_second_run_delivers_nothing_twice(self):
        folder = harness.temp_folder()
        first = self.run_once(folder)
        commits = int(re.search(r"^(\d+) acknowledged: \1 stored, 0 duplicates", first, re.MULTILINE)[1])
        self.assertGreater(commits, 0)
        self.assertIn(f"\n{commits} new; the group has acknowledged {commits} in all", first)
        self.assertIn("commits per author", first)
        self.assertIn("all is well", first)
        second = self.run_once(folder)
        self.assertIn(f"{commits} acknowledged: 0 stored, {commits} duplicates", second)
        self.assertIn(f"\n0 new; the group has acknowledged {commits} in all", second)


if __name__ == "__main__":
    unittest.main()
