# SPDX-License-Identifier: Apache-2.0
"""Takes the power away at random moments and checks what is left of every promise (docs/proof.md).

A daemon lives under a preloaded library that journals every change and sync of its files; clients use all of it. For
random moments of that life the disk is made that a power cut would have left, opened anew and judged. A life may begin
on such a disk, so that recovery is cut off too, and syncs may fail on the way.

    power_loss_test.py [--rounds N] [--jobs J]   N power cuts, default MILLRACE_POWER_ROUNDS or 20
    power_loss_test.py --chain SEED --rounds N   the lives of one seed again (the choices; not the interleaving)
    power_loss_test.py --again FOLDER            judges a kept failing cut again, exactly
"""

import argparse
import concurrent.futures
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
import disk_image
import power_judge
import power_workload

ROUNDS_PER_CHAIN = 10
CUTS_PER_LIFE = 5


def choose_cut(chance, entries):
    """Where: anywhere, while it rises, at its end, or right beside a sync."""
    kind = chance.random()
    if kind < 0.15:
        return chance.randrange(min(len(entries), 200) + 1)
    if kind < 0.3:
        return len(entries) - chance.randrange(min(len(entries), 40) + 1)
    if kind < 0.6:
        syncs = [i for i, entry in enumerate(entries) if entry.what in "se"]
        if syncs:
            return min(len(entries), chance.choice(syncs) + chance.randrange(3))
    return chance.randrange(len(entries) + 1)


def judge_cut(folder, files, history, seed):
    disk_image.write_image(files, os.path.join(folder, "store"))
    return power_judge.Judge(folder, history, seed).judge()


class Chain:
    """Some lives one after the other, each on the disk the one before left."""

    def __init__(self, seed, rounds, *, saboteur=None, calm=False):
        self.seed, self.rounds = seed, rounds
        self.saboteur = saboteur
        self.calm = calm or saboteur is not None
        self.folder = harness.temp_folder()
        self.found = []  # (description, complaints)
        self.cuts = self.lives = self.entries = 0

    def life(self, number, base, history, rounds):
        """Lives once, is cut `rounds` times; gives a disk and a history to go on with."""
        chance = random.Random(f"{self.seed} life {number}")
        folder = os.path.join(self.folder, f"life-{number}")
        shutil.copytree(base, os.path.join(folder, "store"))
        shim = {"MILLRACE_SHIM_SYNC_US": str(chance.choice([0, 300, 2000]))}
        if self.saboteur in ("file", "directory"):
            shim["MILLRACE_SHIM_SWALLOW"] = self.saboteur
        failing = not self.calm and chance.random() < 0.3
        if failing:
            shim["MILLRACE_SHIM_FAIL_SYNC"] = ",".join(str(chance.randrange(30, 200)) for _ in range(chance.randrange(1, 4)))
        elif not self.calm and chance.random() < 0.4:
            shim["MILLRACE_SHIM_KILL_AT"] = str(chance.choice([chance.randrange(200), chance.randrange(3000)]))
        seconds = 0.6 + chance.random() * 1.2
        complaints = power_workload.run_daemon(folder, history, f"{self.seed} life {number}", number, seconds, shim)
        self.lives += 1
        if complaints:
            self.found.append((f"life {number} in {folder} ({shim})", complaints))
        journal = os.path.join(folder, "journal")
        entries = disk_image.read_journal(journal) if os.path.exists(journal) else []
        self.entries += len(entries)
        lose = 0.02 if self.saboteur == "lose" else 0.0
        disk = disk_image.Disk(os.path.join(folder, "store"), base, entries, self.seed, lose)
        going_on = (base, history)
        cuts = sorted(choose_cut(chance, entries) for _ in range(rounds))
        if self.calm:  # late enough that there is something to lose
            cuts = sorted(chance.randrange(len(entries) // 2, len(entries)) for _ in range(rounds)) if entries else []
        for index, cut in enumerate(cuts):
            mode = "none" if self.calm else chance.choice(disk_image.MODES)
            disk.advance(cut)
            moment = entries[cut].at if cut < len(entries) else power_workload.NEVER
            files = disk.image(mode, f"{self.seed} {number} {index}")
            known = history.until(moment, number)
            place = os.path.join(self.folder, f"cut-{number}-{index}")
            os.makedirs(place)
            complaints = judge_cut(place, files, known, f"{self.seed} {number} {index}")
            self.cuts += 1
            if complaints:
                self.keep(place, files, known, f"{self.seed} {number} {index}", complaints,
                          f"life {number}, cut {cut} of {len(entries)}, mode {mode}")
            else:
                shutil.rmtree(place)
            if chance.random() < 0.5 or index == 0:
                going_on = (os.path.join(self.folder, f"base-{number}-{index}"), known)
                disk_image.write_image(files, going_on[0])
        disk.advance(len(entries))
        if os.path.exists(os.path.join(folder, "ended")):  # a killed one may have done one thing more than it wrote down
            wrong = disk.check_against(os.path.join(folder, "store"))
            if wrong:
                self.found.append((f"life {number} in {folder}", wrong))
        if not self.found:
            shutil.rmtree(folder)
        return going_on

    def keep(self, place, files, known, seed, complaints, what):
        with open(os.path.join(place, "cut.pickle"), "wb") as out:
            pickle.dump((files, known.entries, known.events, seed), out)
        self.found.append((f"{what}: again with {sys.argv[0]} --again {place}", complaints))

    def run(self):
        empty = os.path.join(self.folder, "empty")
        os.makedirs(empty, mode=0o700)
        base, history = empty, power_workload.History()
        chance = random.Random(f"{self.seed} chain")
        number = 0
        while self.cuts < self.rounds and not (self.found and not self.saboteur):
            if number and (number % 3 == 0 or chance.random() < 0.3):
                base, history = empty, power_workload.History()
            base, history = self.life(number, base, history, min(CUTS_PER_LIFE, self.rounds - self.cuts))
            number += 1
        return self


def chain(seed, rounds):
    begun = time.monotonic()
    made = Chain(seed, rounds).run()
    for what, complaints in made.found:
        print(f"FAILED chain {seed}: {what}", *complaints, sep="\n    ")
    print(f"chain {seed}: {made.cuts} power cuts in {made.lives} lives, {made.entries} journal entries, "
          f"{time.monotonic() - begun:.0f} s", flush=True)
    if made.found:
        harness.keep(made.folder)
        print(f"  kept: {made.folder}; the same choices: {sys.argv[0]} --chain {seed} --rounds {rounds}")
        return 1
    return 0


def saboteurs():
    """Each must be condemned, or the judge is asleep; and nobody else, or it dreams. Gives what is wrong with the judge."""
    wrong = []
    for saboteur in (None, "file", "directory", "lose"):
        found, cuts = [], 0
        for attempt in range(1 if saboteur is None else 4):
            made = Chain(f"{harness.SEED} {saboteur} {attempt}", 3, saboteur=saboteur, calm=True).run()
            found += [complaint for _, complaints in made.found for complaint in complaints]
            cuts += made.cuts
            if any(word in complaint for complaint in found for word in ("is lost", "not a Millrace store", "comes again")):
                break
        else:
            if saboteur:
                wrong.append(f"saboteur {saboteur!r} is not condemned: {found[:3]}")
        if saboteur is None and found:
            wrong.append(f"an honest life is condemned: {found[:3]}; {made.folder}")
            harness.keep(made.folder)
        print(f"{saboteur and 'saboteur ' + saboteur or 'honest'}: {len(found)} complaints in {cuts} cuts"
              + (f", such as: {found[0][:120]!r}" if found else ""), flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("MILLRACE_POWER_ROUNDS") or 20))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--chain")
    parser.add_argument("--again")
    options = parser.parse_args()
    if "MILLRACE_SANITIZE:STRING=\n" not in (harness.BUILD / "CMakeCache.txt").read_text():
        print("power loss ... skipped 'preloading does not go together with sanitizers'")
        return 0
    if not os.path.exists(power_workload.SHIM):
        sys.exit(f"{power_workload.SHIM} is not built")
    if options.again:
        with open(os.path.join(options.again, "cut.pickle"), "rb") as kept:
            files, entries, events, seed = pickle.load(kept)
        folder = harness.temp_folder()
        complaints = judge_cut(folder, files, power_workload.History(entries, events), seed)
        print(*complaints or ["no complaints"], sep="\n")
        return 1 if complaints else 0
    if options.chain:
        return chain(options.chain, options.rounds)
    begun = time.monotonic()
    wrong = saboteurs()
    if wrong:
        print(f"FAILED: {wrong}; seed {harness.SEED}")
        return 1
    size = min(ROUNDS_PER_CHAIN, max(1, -(-options.rounds // options.jobs)))
    plans = [(f"{harness.SEED}-{n}", min(size, options.rounds - n * size)) for n in range(-(-options.rounds // size))]

    def one(plan):
        return subprocess.run([sys.executable, __file__, "--chain", plan[0], "--rounds", str(plan[1])],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(one, plans):
            print(result.stdout, end="", flush=True)
            failed += result.returncode != 0
    print(f"{options.rounds} power cuts, {failed} of {len(plans)} chains failed, {time.monotonic() - begun:.0f} s, seed {harness.SEED}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
