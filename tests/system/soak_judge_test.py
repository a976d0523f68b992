# SPDX-License-Identifier: Apache-2.0
"""The soak's judge is judged: series and books that are made up, each with one thing wrong, which must be found; and some
that are only noisy, which must be acquitted. Fixed seeds: what is decided here is decided the same each time."""

import copy
import json
import random
import subprocess
import sys
from pathlib import Path

import harness

sys.path.insert(0, str(harness.CHECKOUT / "tests/soak"))
import report  # noqa: E402
import soak  # noqa: E402
import work  # noqa: E402

SEEDS = range(20)
MINUTES = 20
LIFE = 120  # seconds between restarts


def flat(seed, minutes=MINUTES, noise=1.0):
    """What a good run looks like: memory warms up in every life, the file breathes with retention, all else is noise."""
    chance = random.Random(seed)
    samples = []
    for t in range(int(minutes * 60)):
        age = t % LIFE + 1.0
        warming = max(0.0, 1 - age / 20)
        sample = {"t": t + 1.0, "life": t // LIFE, "age": age, "restarting": int(t >= LIFE and age < soak.SETTLING),
                  "rss_kib": 90_000 * (1 - 0.3 * warming) * chance.gauss(1, 0.002 * noise),
                  "file_bytes": 600e6 * (1 + 0.01 * (t % 10) / 10) * chance.gauss(1, 0.001 * noise),
                  "append_p50_ms": 6 * chance.lognormvariate(0, 0.2 * noise),
                  "append_p99_ms": 20 * chance.lognormvariate(0, 0.3 * noise)}
        sample.update({f"lag_{group}": float(int(400 * chance.lognormvariate(0, 0.3 * noise))) for group in work.GROUPS})
        if sample["restarting"]:
            sample["append_p99_ms"] = 2500.0
            sample["lag_slow"] = 30_000.0
        if t >= LIFE and age < 2:
            sample["rss_kib"] = sample["append_p50_ms"] = None  # it was just being started
        samples.append(sample)
    return samples


def growing(samples, column, per_cent, since=0.0):
    """The same, with a column that grows by so much of its mean in ten minutes."""
    for sample in samples:
        if sample[column] is not None:
            sample[column] *= 1 + per_cent / 100 * max(0.0, sample["t"] - since) / 600
    return samples


class Slopes(harness.Case):
    def words(self, samples):
        return {name: word for name, (_, word) in report.verdicts(samples, soak.JUDGED).items()}

    def assert_condemned(self, name, make):
        for seed in SEEDS:
            found = report.verdicts(make(seed), soak.JUDGED)
            self.assertEqual(found[name][1], "growing", (seed, found))
            self.assertEqual(report.exit_code([], found), 1)

    def test_flat_and_noisy_is_acquitted(self):
        for seed in SEEDS:
            words = self.words(flat(seed))
            self.assertTrue(set(words.values()) <= {"flat", "no trend"}, (seed, words))
            self.assertEqual(report.exit_code([], report.verdicts(flat(seed), soak.JUDGED)), 0)

    def test_nothing_at_all_is_flat(self):
        samples = flat(0)
        for sample in samples:
            sample["lag_slow"] = 0.0
        self.assertEqual(self.words(samples)["lag of slow"], "flat")

    def test_memory(self):
        self.assert_condemned("memory", lambda seed: growing(flat(seed), "rss_kib", 4))

    def test_memory_that_a_restart_hides(self):
        def make(seed):
            samples = flat(seed)
            for sample in samples:
                if sample["rss_kib"] is not None:
                    sample["rss_kib"] *= 1 + 0.15 * sample["age"] / 600
            return samples
        self.assert_condemned("memory within lives", make)
        for seed in SEEDS:
            self.assertNotEqual(self.words(make(seed))["memory"], "growing", "looked at from afar it is a flat saw")

    def test_file(self):
        self.assert_condemned("file", lambda seed: growing(flat(seed), "file_bytes", 3))

    def test_latency(self):
        self.assert_condemned("append p50", lambda seed: growing(flat(seed), "append_p50_ms", 50))
        self.assert_condemned("append p99", lambda seed: growing(flat(seed), "append_p99_ms", 100))

    def test_lag(self):
        for group in work.GROUPS:
            self.assert_condemned("lag of " + group, lambda seed, group=group: growing(flat(seed), "lag_" + group, 100))

    def test_a_lag_that_is_never_made_up(self):
        def make(seed):
            samples = flat(seed)
            for sample in samples:
                sample["lag_slow"] += 50 * sample["t"]
            return samples
        self.assert_condemned("lag of slow", make)

    def test_growth_that_begins_late(self):
        self.assert_condemned("file", lambda seed: growing(flat(seed), "file_bytes", 10, since=15 * 60))

    def test_warming_up_is_no_growth(self):
        for seed in SEEDS:
            samples = flat(seed)
            for sample in samples:
                sample["file_bytes"] *= min(1.0, sample["t"] / 500)
            self.assertEqual(report.exit_code([], report.verdicts(samples, soak.JUDGED)), 0)

    def test_too_short_is_never_acquitted(self):
        for minutes in (0.1, 0.5, 1):
            for seed in SEEDS:
                self.assertEqual(report.exit_code([], report.verdicts(flat(seed, minutes), soak.JUDGED)), 3)

    def test_too_noisy_is_never_acquitted(self):
        for seed in SEEDS:
            self.assertNotEqual(report.exit_code([], report.verdicts(flat(seed, noise=20), soak.JUDGED)), 0)

    def test_a_column_without_values_is_never_acquitted(self):
        samples = flat(1)
        for sample in samples:
            sample["lag_failing"] = None
        self.assertEqual(self.words(samples)["lag of failing"], "undecided")

    def test_samples_that_were_kept_are_judged_the_same(self):
        folder = Path(harness.temp_folder())
        samples = growing(flat(3), "file_bytes", 3)
        report.write_csv(folder / "samples.csv", samples)
        self.assertEqual(report.verdicts(report.read_csv(folder / "samples.csv"), soak.JUDGED),
                         report.verdicts(samples, soak.JUDGED))


def good_books():
    """A run that published seven events of every key, all of them acknowledged."""
    published = [7] * work.KEYS
    books = {group: {key: (7 if work.wanted(group, key) else 0, []) for key in range(work.KEYS)} for group in work.GROUPS}
    told = {group: {"out of order": 0} for group in work.GROUPS}
    infos = {group: {"processed": sum(7 for key in range(work.KEYS) if work.wanted(group, key)), "dead": 0}
             for group in work.GROUPS}
    return published, books, told, infos


class Books(harness.Case):
    def setUp(self):
        super().setUp()
        self.published, self.books, self.told, self.infos = copy.deepcopy(good_books())

    def judge(self):
        return soak.judge(self.published, self.books, self.told, self.infos)

    def assert_found(self, words):
        self.assertTrue(any(words in line for line in self.judge()), self.judge())

    def test_good(self):
        self.assertEqual(self.judge(), [])

    def test_lost_at_the_end(self):
        self.published[4] = 8
        self.assert_found("quarter: 1 events or more were never acknowledged, the first is 000000000008-4")

    def test_lost_in_the_middle(self):
        self.books["everything"][2] = (3, [5, 6, 7])
        self.assert_found("everything: 1 events or more were never acknowledged, the first is 000000000004-2")

    def test_invented(self):
        self.books["everything"][2] = (8, [])
        self.assert_found("more events than were published")

    def test_invented_far_behind(self):
        self.books["everything"][2] = (7, [12])
        self.assert_found("more events than were published")

    def test_acknowledged_twice(self):
        self.infos["slow"]["processed"] += 1
        self.assert_found("slow: the server counts")

    def test_acknowledgement_forgotten(self):
        self.infos["failing"]["processed"] -= 1
        self.assert_found("failing: the server counts")

    def test_dead(self):
        self.infos["failing"]["dead"] = 1
        self.assert_found("1 dead")

    def test_not_its_type(self):
        self.books["slow"][2] = (1, [])
        self.assert_found("slow: got key 2")

    def test_overtaken(self):
        self.told["quarter"]["out of order"] = 1
        self.assert_found("before an earlier one")

    def test_load_that_was_not_reached(self):
        good = {"total": 1_199_000, "seconds": 60}
        self.assertEqual(soak.judge_load(good, 20_000, 1000, 1000), [])
        self.assertIn("load", soak.judge_load({**good, "seconds": 70}, 20_000, 1000, 1000)[0])

    def test_retention_that_does_nothing(self):
        self.assertIn("retention", soak.judge_load({"total": 60_000, "seconds": 60}, 1000, 2001, 1000)[0])

    def test_whatever_is_wrong_fails_the_run(self):
        found = report.verdicts(flat(1), soak.JUDGED)
        self.assertEqual((report.exit_code([], found), report.exit_code(["lost"], found)), (0, 1))


class ShortRun(harness.Case):
    def test_counts_checks_and_keeps_its_data(self):
        folder = Path(harness.temp_folder()) / "run"
        done = subprocess.run(
            [sys.executable, str(harness.CHECKOUT / "tests/soak/soak.py"), "--minutes", "0.2", "--rate", "500",
             "--restart-every", "5", "--folder", str(folder)], capture_output=True, text=True, timeout=500, check=False)
        self.assertTrue((folder / "summary.json").exists(), done.stdout + done.stderr)
        self.assertIn(done.returncode, (1, 3), done.stdout)  # far too short to be acquitted
        summary = json.loads((folder / "summary.json").read_text())
        # A machine that is busy with other tests may not reach even this rate; nothing else may be wrong.
        self.assertEqual([line for line in summary["wrong"] if not line.startswith("load:")], [], done.stdout)
        self.assertGreater(sum(summary["restarts"].values()), 0)
        published = summary["published"]
        self.assertGreater(published, 0)
        self.assertGreater(summary["checked"], published, "everything once, and some of it by three more groups")
        self.assertIn(f"{published:,} events published", done.stdout)
        self.assertGreaterEqual(len(report.read_csv(folder / "samples.csv")), 10)
        self.assertIn("<polyline", (folder / "plot.svg").read_text())


if __name__ == "__main__":
    harness.main()
