#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A long run under load: `./dev soak --minutes N [--rate N]`. What it does and how it judges: docs/proof.md.

Exit code: 0 nothing grows and nothing was lost · 1 something grows, or something was lost · 3 too short or too noisy to
tell. `soak.py --judge FOLDER` judges the samples of an earlier run once more.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import queue
import random
import shutil
import socket
import statistics
import sys
import time
from pathlib import Path

import report
import work

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
import harness  # noqa: E402

# Sizes are steady and are judged to the limit itself. Latencies and lags vary by the half from one second to the next;
# what twenty minutes can exclude there is a growth by a third in ten.
JUDGED = [
    report.Series("memory", "rss_kib", 1.0, warm_up=30.0),
    report.Series("memory within lives", "rss_kib", 5.0, warm_up=30.0, within_lives=True),
    report.Series("file", "file_bytes", 1.0),
    report.Series("append p50", "append_p50_ms", 30.0),
    report.Series("append p99", "append_p99_ms", 30.0),
    *(report.Series("lag of " + group, "lag_" + group, 30.0) for group in work.GROUPS),
]
SHOWN = [*dict.fromkeys(series.column for series in JUDGED), "wal_bytes", "free_pages", "published_per_s",
         "daemon_cores", "load_cores"]
KEEP_SECONDS = 50  # of events; and ids and history as long: all of it is turned over many times before it is judged
POLLS = 5  # of the lags in a second; their mean is the sample's
SETTLING = 10  # seconds after a restart that are not judged


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def drained(source):
    found = []
    while True:
        try:
            found.append(source.get_nowait())
        except queue.Empty:
            return found


def size_of(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def cpu_seconds(pid):
    """User and system time of a process, all threads; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load:
    """The publishing and the consuming processes."""

    def __init__(self, port, rate):
        make = multiprocessing.get_context("fork")
        self._stop_publishing, self._stop_consuming = make.Event(), make.Event()
        self._latencies, self._results = make.Queue(), make.Queue()
        self._processes = [make.Process(target=work.publish, daemon=True,
                                        args=(port, index, rate / work.PUBLISHERS, self._stop_publishing,
                                              self._latencies, self._results))
                           for index in range(work.PUBLISHERS)]
        self._processes += [make.Process(target=work.consume, daemon=True,
                                         args=(port, group, self._stop_consuming, self._results))
                            for group in work.GROUPS]
        for process in self._processes:
            process.start()

    def latencies(self):
        return drained(self._latencies)

    def pids(self):
        return [process.pid for process in self._processes]

    def check(self):
        if any(process.exitcode for process in self._processes):
            sys.exit("a client ended, see above: what it was answered breaks the contract")

    def end(self):
        """Stops publishing, lets the groups get everything, and gives (published, figures, books, told)."""
        self._stop_publishing.set()
        published, figures = [0] * work.KEYS, {"total": 0, "repeated": 0, "seconds": 0.0}
        books, told, publishing, end = {}, {}, work.PUBLISHERS, time.monotonic() + 300
        while publishing or len(books) < len(work.GROUPS):
            try:
                name, book, more = self._results.get(timeout=1)
            except queue.Empty:
                self.check()
                if time.monotonic() > end:
                    sys.exit(f"the clients do not end; those that did: {sorted(books)}")
                continue
            if name != "published":
                books[name], told[name] = book, more
                continue
            published = [a + b for a, b in zip(published, book)]
            figures["total"] += more["total"]
            figures["repeated"] += more["repeated"]
            figures["seconds"] = max(figures["seconds"], more["seconds"])
            publishing -= 1
            if not publishing:
                self._stop_consuming.set()
        return published, figures, books, told


class Run:
    """One run: the daemon, its load, and a sample each second."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.store = folder / "store"
        self.store.mkdir()
        self.samples, self.kills = [], {"SIGTERM": 0, "SIGKILL": 0}
        self.keep_events = KEEP_SECONDS * options.rate
        config = self.store / "millrace.toml"
        config.write_text(f'[[stream]]\nname = "events"\nmax_events = {self.keep_events}\nmax_age = "2m"\ninterval = "10s"\n')
        port = free_port()
        self.daemon = harness.Daemon(
            str(self.store), store=f"sqlite:{self.store}/events.db?dedup_keep={KEEP_SECONDS}&history={KEEP_SECONDS}",
            args=["--config", str(config), "--server-listen", f"127.0.0.1:{port}"]).start()
        self.load = Load(port, options.rate)
        self.client = harness.Client(port, timeout=10)
        self.begin = self.born = time.monotonic()
        self.life, self._restarting_until, self._cpu = 1, 0.0, {}

    def go(self):
        """Load for the time asked for, with restarts."""
        chance = random.Random(harness.SEED)
        pause = self.options.restart_every
        restart_at = self.begin + pause * chance.uniform(0.2, 1.8)
        while time.monotonic() - self.begin < self.options.minutes * 60:
            lags = self._lags()
            if time.monotonic() >= restart_at:
                self._restart(chance.choice(list(self.kills)))
                restart_at = time.monotonic() + pause * chance.uniform(0.2, 1.8)
            self.load.check()
            self.samples.append(self._sample(lags))
            if len(self.samples) % 30 == 0:
                print(json.dumps(self.samples[-1]), flush=True)

    def _restart(self, how):
        self.kills[how] += 1
        self.daemon.kill() if how == "SIGKILL" else self.daemon.terminate()
        self.daemon.start()
        self.client.close()  # its connection led to the one before
        self.born = time.monotonic()
        self.life += 1
        self._restarting_until = self.born + SETTLING

    def _cores(self, name, pids):
        """How many cores these took since the last time."""
        now, used = time.monotonic(), sum(map(cpu_seconds, pids))
        then, before = self._cpu.get(name, (now, used))
        self._cpu[name] = now, used
        return round((used - before) / (now - then), 2) if now > then and used >= before else None

    def _lags(self):
        """Waits for the next second and gives the mean lag of each group, or {} when one could not be asked for."""
        polls, end = [], self.begin + len(self.samples) + 1
        for left in range(POLLS - 1, -1, -1):
            time.sleep(max(0, end - left / POLLS - time.monotonic()))
            try:
                polls.append({group["name"]: group["lag"] for group in self.client.ok("GET", "/v1/groups")["groups"]})
            except (harness.NotSent, harness.NoAnswer) as error:
                # A daemon that was not told to end is a finding, not a gap in the samples.
                if self.daemon.process.poll() is not None:
                    sys.exit(f"the daemon ended by itself: {error}\n{self.daemon.log()[-4000:]}")
                return {}
        if not all(set(work.GROUPS) <= poll.keys() for poll in polls):
            return {}  # they are made by their first claim
        return {group: round(statistics.mean(sum(poll[group][part] for part in ("ahead", "in_flight", "waiting"))
                                             for poll in polls), 1) for group in work.GROUPS}

    def _sample(self, lags):
        daemon, latencies, now = self.daemon, self.load.latencies(), time.monotonic()
        sample = {"t": round(now - self.begin, 2), "life": self.life, "age": round(now - self.born, 2),
                  "restarting": int(now < self._restarting_until), "rss_kib": None,
                  "file_bytes": size_of(daemon.path), "wal_bytes": size_of(daemon.path + "-wal"), "free_pages": None,
                  "published_per_s": len(latencies) * work.BATCH, "append_p50_ms": None, "append_p99_ms": None,
                  "daemon_cores": self._cores("daemon", [daemon.pid]),
                  "load_cores": self._cores("load", [*self.load.pids(), os.getpid()]),
                  **{f"lag_{group}": lags.get(group) for group in work.GROUPS}}
        with open(daemon.path, "rb") as file:
            file.seek(36)  # the header's count, as of the last checkpoint
            sample["free_pages"] = int.from_bytes(file.read(4), "big")
        if latencies:
            values = sorted(latencies)
            sample["append_p50_ms"] = round(statistics.median(values), 3)
            sample["append_p99_ms"] = round(values[min(len(values) - 1, int(len(values) * 0.99))], 3)
        with open(f"/proc/{daemon.pid}/status", encoding="ascii") as status:
            sample["rss_kib"] = next((int(line.split()[1]) for line in status if line.startswith("VmRSS:")), None)
        return sample

    def end(self):
        """Everything is published and delivered: what came of it, and what is wrong with it."""
        published, figures, books, told = self.load.end()
        stream = next(s for s in self.client.ok("GET", "/v1/streams")["streams"] if s["name"] == "events")
        infos = {group["name"]: group for group in self.client.ok("GET", "/v1/groups")["groups"]}
        self.daemon.terminate()
        wrong = judge(published, books, told, infos)
        wrong += judge_load(figures, self.options.rate, stream["events"], self.keep_events)
        checked = sum(book[0] for group in books.values() for book in group.values())
        return {"published": figures["total"], "repeated": figures["repeated"], "checked": checked,
                "reached": round(figures["total"] / figures["seconds"]), "kept": stream["events"], "groups": told}, wrong

    def keep_data(self):
        if self.samples:
            report.write_csv(self.folder / "samples.csv", self.samples)
            report.write_svg(self.folder / "plot.svg", self.samples, SHOWN)


def judge(published, books, told, infos):
    """Everything that is wrong with the deliveries, as lines."""
    wrong = []
    for group in work.GROUPS:
        missing, example = 0, ""
        for key in range(work.KEYS):
            up_to, early = books[group][key]
            if not work.wanted(group, key):
                if up_to or early:
                    wrong.append(f"{group}: got key {key}, which its filter leaves out")
                continue
            if up_to > published[key] or any(number > published[key] for number in early):
                wrong.append(f"{group}: key {key} has more events than were published")
            elif up_to != published[key]:
                missing += published[key] - up_to - len(early)
                example = example or f"{up_to + 1:012d}-{key}"
        if missing:
            wrong.append(f"{group}: {missing} events or more were never acknowledged, the first is {example}")
        # What the books take for acknowledged because an answer was lost, the server must have counted, once each.
        expected = sum(number for key, number in enumerate(published) if work.wanted(group, key))
        if infos[group]["processed"] != expected or infos[group]["dead"]:
            wrong.append(f"{group}: the server counts {infos[group]['processed']} acknowledged and "
                         f"{infos[group]['dead']} dead, {expected} were published for it")
        if told[group]["out of order"]:
            wrong.append(f"{group}: {told[group]['out of order']} events came before an earlier one of their key")
    return wrong


def judge_load(figures, rate, kept, keep_events):
    wrong = []
    reached = figures["total"] / figures["seconds"]
    if reached < 0.95 * rate:
        wrong.append(f"load: {reached:.0f} events/s reached, not {rate}: this machine cannot show what was asked")
    if kept > 2 * keep_events:
        wrong.append(f"retention: {kept} events are kept, {keep_events} were asked for")
    return wrong


def print_verdicts(samples, found):
    for series in JUDGED:
        line, word = found[series.name]
        values = [s[series.column] for s in samples if s[series.column] is not None]
        mean = f"{statistics.mean(values):14,.1f} mean" if values else f"{'':14} none"
        slope = f"{line[0]:+9.2f} ± {line[1]:.2f} % in 10 min" if line else f"{'no slope':>9}"
        print(f"{series.name:20} {mean} {slope}: {word}")


def judge_again(folder):
    samples = report.read_csv(folder / "samples.csv")
    found = report.verdicts(samples, JUDGED)
    print_verdicts(samples, found)
    return report.exit_code([], found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=int, default=20_000, help="events per second (20000)")
    parser.add_argument("--restart-every", type=float, help="seconds between restarts, on average (a tenth of the run)")
    parser.add_argument("--folder", type=Path, help="where data and plot go (build/soak/<date>)")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="only judge the samples there once more")
    options = parser.parse_args()
    if options.judge:
        return judge_again(options.judge)
    options.restart_every = options.restart_every or max(20.0, options.minutes * 6)
    if options.minutes <= 0 or options.rate < work.BATCH or options.restart_every < 5:
        parser.error(f"--minutes is above 0, --rate at least {work.BATCH}, --restart-every at least 5")
    stamp = datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    folder = options.folder or harness.CHECKOUT / "build/soak" / stamp
    folder.mkdir(parents=True)
    before = os.getloadavg()[0]
    print(f"seed {harness.SEED}; {options.minutes:g} minutes, {options.rate} events/s, keeping {KEEP_SECONDS} s of them, "
          f"a restart every {options.restart_every:g} s; load of the machine before: {before:.1f} on {os.cpu_count()} cores",
          flush=True)
    run = Run(options, folder)
    try:
        run.go()
        came, wrong = run.end()
    finally:
        run.keep_data()
        print(f"data and plot: {folder}", flush=True)

    found = report.verdicts(run.samples, JUDGED)
    code = report.exit_code(wrong, found)
    cores = {name: round(statistics.mean(s[name] for s in run.samples if s[name] is not None), 2)
             for name in ("daemon_cores", "load_cores")}
    summary = {"seed": harness.SEED, "minutes": options.minutes, "rate": options.rate, **came, "restarts": run.kills,
               "load_before": round(before, 1), **cores, "wrong": wrong, "exit_code": code,
               "slopes": {name: {"per_cent_in_10_min": line and round(line[0], 2), "give_or_take": line and round(line[1], 2),
                                 "verdict": word} for name, (line, word) in found.items()}}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in summary.items() if name != "slopes"}, indent=2))
    print_verdicts(run.samples, found)
    print(f"{came['published']:,} events published at {came['reached']:,}/s through {sum(run.kills.values())} restarts; "
          f"{came['checked']:,} deliveries to {len(work.GROUPS)} groups checked one by one")
    for line in wrong:
        print("WRONG:", line)
    if not wrong:
        shutil.rmtree(run.store)  # of a run in which nothing was lost nobody looks at the store
    return code


if __name__ == "__main__":
    sys.exit(main())
