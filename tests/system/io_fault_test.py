# SPDX-License-Identifier: Apache-2.0
"""Lets every system call of every operation of a store fail, one per case, and judges what was answered (docs/proof.md).

For each operation the calls are counted first; then each of them fails in turn, with each errno it can have, once and
from then on. The operation must tell the truth:

  * success: afterwards the world is as after the operation; `unavailable`, `store_full`, `busy`: as before it;
    `outcome_unknown`: one of the two; nothing else may be answered
  * so it is while the store stays open, when it was opened again, and in the file, which is sound
  * no process dies; once the faults end everything works again without a restart, within five seconds
  * an append while the faults last tells the truth as well

    io_fault_test.py [--every] [--step NAME] [--seconds S]    a sample of about S seconds (35), or every case
    io_fault_test.py --case "STEP N ERROR PERSISTENT"         one again; its folder is kept
"""

import argparse
import collections
import concurrent.futures
import errno
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

import harness

DRIVER = str(harness.BUILD / "bin/io_fault_driver")
SHIM = str(harness.BUILD / "lib/libmillrace_disk_shim.so")
SHORT = -1
LEAST = 6   # cases per step, whatever the time
MOST = 400  # cases per kind of call and step; beyond it even --every takes a sample (the checkpoint writes 2000 pages)

# What each kind of call can answer, and whether it makes sense for ever.
ERRORS = {
    "o": [errno.EIO, errno.EMFILE], "c": [errno.EIO, errno.ENOSPC, errno.EMFILE], "r": [errno.EIO],
    "w": [errno.EIO, errno.ENOSPC, errno.EDQUOT, SHORT], "t": [errno.EIO], "a": [errno.EIO, errno.ENOSPC],
    "s": [errno.EIO, errno.ENOSPC, errno.EDQUOT], "m": [errno.ENOMEM], "i": [errno.EIO], "l": [errno.EIO, errno.ENOLCK],
    "n": [errno.EIO, errno.ENOSPC], "u": [errno.EIO],
}
NOTHING_DONE = {"unavailable", "store_full", "busy"}
MORE = ("after", "meanwhile")  # events of the driver's own


class Driver:
    """One process that runs cases, in a folder of its own."""

    def __init__(self):
        self.root = harness.temp_folder()
        env = harness.clean_environment(self.root, LD_PRELOAD=SHIM, MILLRACE_SHIM_DIR=self.root, MILLRACE_SHIM_SYNC_US="0")
        with open(f"{self.root}/log", "wb") as log:
            self.process = harness.spawn([DRIVER, self.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         stderr=log, env=env)
        self.ask("template")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise AssertionError(f"the driver ended at {line!r}")
        return json.loads(answer)


def seen(state):
    """A state without what the driver's own events change."""
    if state is None:
        return None
    own = [event for event in state["events"] if event[0].startswith(MORE)]
    world = {"events": [[id, size] for id, _, size in state["events"] if not id.startswith(MORE)],
             "streams": [[name, trimmed] for name, _, trimmed in state["streams"]], "kv": state["kv"], "groups": []}
    for group in state["groups"]:
        world["groups"].append({**group, "ahead": group["ahead"] - len(own)})
    return json.dumps(world, sort_keys=True)


class Reference:
    """A step without faults: its calls, and the world with and without it."""

    def __init__(self, driver, step):
        self.step = step
        without, done = driver.ask(f"{step} 0 skip 0"), driver.ask(f"{step} 0 0 0")
        self.missing = done["answer"][1] if done.get("answer", ["?", "?"])[0] != "ok" else None
        if "died" in done or "died" in without:
            raise AssertionError(f"{step} without faults: {done}, {without}")
        self.kinds = done["kinds"]
        self.before, self.after = seen(without["now"]), seen(done["now"])
        self.before_again, self.after_again = seen(without["reopened"]), seen(done["reopened"])

    def cases(self, chance):
        by_kind = collections.defaultdict(list)
        for n, kind in enumerate(self.kinds, 1):
            for error in ERRORS[kind]:
                for persistent in (0, 1):
                    by_kind[kind].append(f"{self.step} {n} {error} {persistent}")
        for cases in by_kind.values():
            yield from chance.sample(cases, min(MOST, len(cases)))


def judge(case, reference, found, folder):
    """Complaints about one case."""
    if "died" in found:
        return [f"the process died: {found['died']}"]
    complaints = []
    code, text = found["answer"]
    wanted = {"ok": [("after", reference.after, reference.after_again)],
              "outcome_unknown": [("after", reference.after, reference.after_again),
                                  ("before", reference.before, reference.before_again)]}
    if code == "busy" and reference.step == "erase":
        allowed = wanted["outcome_unknown"]  # done, and its bytes not yet out of the files: the message says so
    elif code in NOTHING_DONE:
        allowed = [("before", reference.before, reference.before_again)]
    elif code in wanted:
        allowed = wanted[code]
    else:
        allowed = wanted["outcome_unknown"]
        complaints.append(f"answered {code}: {text}")
    if found["after"][0] != "ok":
        complaints.append(f"does not work again after the faults: {found['after']}")
    if found["again"][0] != "ok":
        complaints.append(f"does not open again: {found['again']}")
    if complaints and found["reopened"] is None:
        return complaints
    if found["now"] is not None and seen(found["now"]) not in [now for _, now, _ in allowed]:
        complaints.append(f"answered {code}, and the open store shows {difference(seen(found['now']), allowed[0][1])}")
    if seen(found["reopened"]) not in [again for _, _, again in allowed]:
        complaints.append(f"answered {code}, and opened again it shows {difference(seen(found['reopened']), allowed[0][2])}")
    events = found["reopened"]["events"]
    ids = [id for id, _, _ in events]
    if (found["meanwhile"][0] == "ok" and "meanwhile1" not in ids) or \
            (found["meanwhile"][0] in NOTHING_DONE and "meanwhile1" in ids):
        complaints.append(f"an append meanwhile was answered {found['meanwhile']}, and it is {'' if 'meanwhile1' in ids else 'not '}there")
    if found["meanwhile"][0] not in ("none", "ok", "outcome_unknown", *NOTHING_DONE):
        complaints.append(f"an append meanwhile was answered {found['meanwhile']}")
    if found["after"][0] == "ok" and ids[-1:] != ["after1"]:
        complaints.append(f"the last event is not the last one appended: {ids[-3:]}")
    positions = [position for _, position, _ in events]
    if sorted(set(positions)) != positions:
        complaints.append(f"positions {positions}")
    if found["after"][0] == "ok" and found["other"] != [len(ids), 0]:
        complaints.append(f"another group settled and has left: {found['other']}, of {len(ids)}")
    connection = sqlite3.connect(f"file:{folder}/case/events.db?mode=ro", uri=True)
    answer = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    if answer != [("ok",)]:
        complaints.append(f"integrity_check: {answer[:3]}")
    left = sorted(set(os.listdir(f"{folder}/case")) - {"events.db", "events.db-wal", "events.db-shm", "events.db.lock"})
    if left and not reference.step == "create":
        complaints.append(f"left behind: {left}")
    return complaints


def difference(one, other):
    """Where two states differ, short enough to read."""
    if one is None or other is None:
        return "nothing"
    one, other = json.loads(one), json.loads(other)
    return {name: (one[name], "instead of", other[name]) for name in one if one[name] != other.get(name)}


def doubts(driver):
    """What is wrong with the judge: the same worlds with answers that fit them, and with ones that do not."""
    reference = Reference(driver, "append-durable")
    wrong = []
    for arguments, honest in (("0 0 0", "ok"), ("0 skip 0", "unavailable")):
        found = driver.ask(f"append-durable {arguments}")
        for code in ("ok", "unavailable", "store_full", "outcome_unknown", "corrupt"):
            told = {**found, "answer": [code, ""]}
            fits = code in (honest, "outcome_unknown") or (honest == "unavailable" and code == "store_full")
            if bool(judge("", reference, told, driver.root)) == fits:
                wrong.append(f"the judge takes {code!r} for {'a lie' if fits else 'the truth'} where {honest!r} is it")
        for lie in ({"reopened": {**found["reopened"], "events": found["reopened"]["events"][1:]}}, {"after": ["unavailable", ""]},
                    {"meanwhile": ["ok", ""]}, {"other": [3, 1]}, {"died": "7"}):
            if not judge("", reference, {**found, "answer": [honest, ""], **lie}, driver.root):
                wrong.append(f"the judge does not see {list(lie)}")
    return wrong


class Run:
    def __init__(self, options):
        self.options = options
        self.chance = random.Random(f"{harness.SEED} faults")
        self.lock = threading.Lock()
        self.answers = collections.Counter()
        self.failed = []
        self.done = 0
        self.unmet = 0

    def plan(self, driver):
        steps = driver.ask("steps")
        if self.options.step:
            steps = [step for step in steps if step == self.options.step]
        self.references, per_step = {}, []
        for step in steps:
            reference = Reference(driver, step)
            if reference.missing:
                print(f"{step} ... skipped '{reference.missing}'")
                continue
            self.references[step] = reference
            cases = list(reference.cases(self.chance))
            self.chance.shuffle(cases)
            per_step.append(cases)
        self.total = sum(map(len, per_step))
        self.least = LEAST * len(per_step)  # a sample that shrank to nothing on a busy machine would prove nothing
        # In turns, so that a sample has something of every step.
        self.queue = collections.deque(case for turn in range(max(map(len, per_step), default=0))
                                       for cases in per_step if turn < len(cases) for case in [cases[turn]])

    def work(self, driver, until):
        while self.queue and (time.monotonic() < until or self.done < self.least) and len(self.failed) < 40:
            try:
                case = self.queue.popleft()
            except IndexError:
                return
            found = driver.ask(case)
            complaints = judge(case, self.references[case.split()[0]], found, driver.root)
            with self.lock:
                self.done += 1
                self.unmet += found.get("struck") == 0
                self.answers[case.split()[0], found.get("answer", ["died"])[0]] += 1
                if complaints:
                    self.failed.append(case)
                    print(f"FAILED {case} (call {found.get('struck_kind')!r}); again with {sys.argv[0]} --case '{case}'",
                          *complaints, sep="\n    ", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--step")
    parser.add_argument("--case")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("MILLRACE_FAULT_SECONDS") or 35))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if "MILLRACE_SANITIZE:STRING=\n" not in (harness.BUILD / "CMakeCache.txt").read_text():
        print("I/O faults ... skipped 'preloading does not go together with sanitizers'")
        return 0
    for needed in (DRIVER, SHIM):
        if not os.path.exists(needed):
            sys.exit(f"{needed} is not built")
    begun = time.monotonic()
    run = Run(options)
    drivers = [Driver() for _ in range(1 if options.case else options.jobs)]
    if options.case:
        (driver,) = drivers
        reference = Reference(driver, options.case.split()[0])
        found = driver.ask(options.case)
        harness.keep(driver.root)
        print(json.dumps(found, indent=1), driver.root, *judge(options.case, reference, found, driver.root), sep="\n")
        return 0
    wrong = doubts(drivers[0])
    if wrong:
        print("FAILED", *wrong, sep="\n    ")
        return 1
    run.plan(drivers[0])
    until = float("inf") if options.every else begun + options.seconds
    with concurrent.futures.ThreadPoolExecutor(len(drivers)) as pool:
        list(pool.map(lambda driver: run.work(driver, until), drivers))
    for step, reference in run.references.items():
        answers = {answer: n for (name, answer), n in run.answers.items() if name == step}
        print(f"{step}: {len(reference.kinds)} calls, {answers}")
    print(f"{run.done} of {run.total} cases ({run.unmet} met no fault), {len(run.failed)} failed, "
          f"{time.monotonic() - begun:.0f} s, seed {harness.SEED}")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
