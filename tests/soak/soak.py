#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A long run under load: `./dev soak --minutes N [--rate N]`. What it does and how it judges: docs/proof.md.

Exit code: 0 all flat and nothing lost · 1 something grows, or something was lost · 3 too short or too noisy to tell.
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

JUDGED = ["rss_kib", "file_bytes", "append_p50_ms", "append_p99_ms", *(f"lag_{group}" for group in work.GROUPS)]
SHOWN = [*JUDGED, "wal_bytes", "free_pages", "published_per_s"]


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


def take_sample(daemon, client, begin, latencies, restarting):
    sample = {"t": round(time.monotonic() - begin, 2), "restarting": int(restarting), "rss_kib": None,
              "file_bytes": size_of(daemon.path), "wal_bytes": size_of(daemon.path + "-wal"), "free_pages": None,
              "published_per_s": len(latencies) * work.BATCH, "append_p50_ms": None, "append_p99_ms": None,
              **{f"lag_{group}": None for group in work.GROUPS}}
    with open(daemon.path, "rb") as file:
        file.seek(36)  # the header's count, as of the last checkpoint
        sample["free_pages"] = int.from_bytes(file.read(4), "big")
    if latencies:
        values = sorted(latencies)
        sample["append_p50_ms"] = round(statistics.median(values), 3)
        sample["append_p99_ms"] = round(values[min(len(values) - 1, int(len(values) * 0.99))], 3)
    try:
        with open(f"/proc/{daemon.pid}/status", encoding="ascii") as status:
            sample["rss_kib"] = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
        for group in client.ok("GET", "/v1/groups")["groups"]:
            if group["name"] in work.GROUPS:
                lag = group["lag"]
                sample["lag_" + group["name"]] = lag["ahead"] + lag["in_flight"] + lag["waiting"]
    except (OSError, StopIteration, harness.NotSent, harness.NoAnswer):
        sample["restarting"] = 1  # it was just being stopped
    return sample


def judge(published, books, told, infos):
    """Everything that is wrong, as lines."""
    wrong = []
    for group in work.GROUPS:
        missing = 0
        for key in range(work.KEYS):
            up_to, early = books[group][key]
            if not work.wanted(group, key):
                if up_to or early:
                    wrong.append(f"{group}: got key {key}, which its filter leaves out")
            elif up_to != published[key]:
                missing += published[key] - up_to
                if up_to > published[key]:
                    wrong.append(f"{group}: key {key} has more events than were published")
        if missing:
            wrong.append(f"{group}: {missing} events were never acknowledged")
        # What the books take for acknowledged because an answer was lost, the server must have counted, once each.
        expected = sum(number for key, number in enumerate(published) if work.wanted(group, key))
        if infos[group]["processed"] != expected or infos[group]["dead"]:
            wrong.append(f"{group}: the server counts {infos[group]['processed']} acknowledged and "
                         f"{infos[group]['dead']} dead, {expected} were published for it")
        if told[group]["out of order"]:
            wrong.append(f"{group}: {told[group]['out of order']} events came before an earlier one of their key")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=20_000, help="events per second (20000)")
    parser.add_argument("--restart-every", type=float, default=60, help="seconds between restarts, on average (60)")
    parser.add_argument("--folder", type=Path, help="where data and plot go (build/soak/<date>)")
    options = parser.parse_args()
    if options.minutes <= 0 or options.rate < work.BATCH or options.restart_every < 5:
        parser.error(f"--minutes is above 0, --rate at least {work.BATCH}, --restart-every at least 5")
    stamp = datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    folder = options.folder or harness.CHECKOUT / "build/soak" / stamp
    folder.mkdir(parents=True)
    store = folder / "store"
    store.mkdir()
    keep_events = 50 * options.rate
    config = store / "millrace.toml"
    config.write_text(f'[[stream]]\nname = "events"\nmax_events = {keep_events}\nmax_age = "2m"\ninterval = "10s"\n')
    port, chance = free_port(), random.Random(harness.SEED)
    print(f"seed {harness.SEED}; {options.minutes:g} minutes, {options.rate} events/s, keeping {keep_events}; load of "
          f"the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    daemon = harness.Daemon(str(store), args=["--config", str(config), "--server-listen", f"127.0.0.1:{port}"]).start()

    make = multiprocessing.get_context("fork")
    stop_publishing, stop_consuming = make.Event(), make.Event()
    latencies, results = make.Queue(), make.Queue()
    processes = [make.Process(target=work.publish, args=(port, options.rate, stop_publishing, latencies, results), daemon=True)]
    processes += [make.Process(target=work.consume, args=(port, group, stop_consuming, results), daemon=True)
                  for group in work.GROUPS]
    for process in processes:
        process.start()

    client, samples, kills = harness.Client(port, timeout=10), [], {"SIGTERM": 0, "SIGKILL": 0}
    begin = time.monotonic()
    restart_at = begin + options.restart_every * chance.uniform(0.5, 1.5)
    restarted = -60.0
    while time.monotonic() - begin < options.minutes * 60:
        time.sleep(max(0, begin + len(samples) + 1 - time.monotonic()))
        if time.monotonic() >= restart_at:
            how = chance.choice(list(kills))
            kills[how] += 1
            daemon.kill() if how == "SIGKILL" else daemon.terminate()
            daemon.start()
            restarted = time.monotonic()
            restart_at = restarted + options.restart_every * chance.uniform(0.5, 1.5)
        if any(process.exitcode for process in processes):
            sys.exit("a client ended, see above: what it was answered breaks the contract")
        samples.append(take_sample(daemon, client, begin, [ms for _, ms in drained(latencies)],
                                   time.monotonic() - restarted < 5))
        if len(samples) % 30 == 0:
            print(json.dumps(samples[-1]), flush=True)

    load = os.getloadavg()[0]
    stop_publishing.set()
    books, told, published, figures = {}, {}, None, None
    for index in range(len(processes)):
        name, book, more = results.get(timeout=300)
        if name == "published":
            published, figures = book, more
            stop_consuming.set()
        else:
            books[name], told[name] = book, more
    info = next(s for s in client.ok("GET", "/v1/streams")["streams"] if s["name"] == "events")
    infos = {group["name"]: group for group in client.ok("GET", "/v1/groups")["groups"]}
    daemon.terminate()
    if published is None:
        sys.exit("the publisher ended without its books")

    wrong = judge(published, books, told, infos)
    if info["events"] > 2 * keep_events:
        wrong.append(f"retention: {info['events']} events are kept, {keep_events} were asked for")
    lines = {name: report.slope(samples, name) for name in JUDGED}
    verdicts = {name: report.verdict(line) for name, line in lines.items()}
    report.write_csv(folder / "samples.csv", samples)
    report.write_svg(folder / "plot.svg", samples, SHOWN)
    rate = figures["total"] / figures["seconds"]
    if rate < 0.95 * options.rate:
        wrong.append(f"load: {rate:.0f} events/s reached, not {options.rate}: this machine cannot show what was asked")
    summary = {"minutes": options.minutes, "rate": options.rate, "reached": round(rate), "published": figures["total"],
               "repeated": figures["repeated"], "restarts": kills, "kept": info["events"], "load_at_end": round(load, 1),
               "groups": told, "wrong": wrong,
               "slopes": {name: {"per_cent_in_10_min": line and round(line[0], 2), "give_or_take": line and round(line[1], 2),
                                 "verdict": verdicts[name]} for name, line in lines.items()}}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=2))
    for line in wrong:
        print("WRONG:", line)
    for name, line in lines.items():
        if line:
            print(f"{name:20} {statistics.mean(s[name] for s in samples if s[name] is not None):14.1f} mean "
                  f"{line[0]:+9.2f} ± {line[1]:.2f} % in 10 min: {verdicts[name]}")
    print(f"data and plot: {folder}")
    if wrong or "growing" in verdicts.values():
        return 1
    shutil.rmtree(store)  # of a run in which all was well nobody looks at the store
    return 3 if "undecided" in verdicts.values() else 0


if __name__ == "__main__":
    sys.exit(main())
