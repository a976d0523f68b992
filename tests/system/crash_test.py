# SPDX-License-Identifier: Apache-2.0
"""Kills the daemon with SIGKILL at random moments and checks the one promise against a journal of its own.

Publishers and consumers are threads with connections of their own; each writes down what it sent, what it was told and
when. Nothing is judged while it happens: at the end the whole journal is read against these rules.

  * acknowledged ⇒ delivered; delivered ⇒ issued; the bytes and attributes are the ones issued
  * an event has one position for ever; a publisher's events stand in the order it was acknowledged
  * a batch whose outcome was unknown is there whole or not at all
  * per key: when an event was handed out, every earlier one of its key had been settled, or stands before it in the
    same claim
  * what was settled is not handed out again
  * at the end nothing is pending, and the file is sound and holds the events, read by Python's own sqlite3

    crash_test.py [--rounds N]      N kills, default MILLRACE_CRASH_ROUNDS or 20
"""

import base64
import collections
import hashlib
import json
import os
import random
import sqlite3
import sys
import threading
import time
from urllib.parse import quote

import harness
from harness import NoAnswer, NotSent

PUBLISHERS = 4
CONSUMERS = 5
KEYS = 24
BACKLOG = 1500  # publishers wait while more than this is not acknowledged by the group
GROUP = "judge"


class Journal:
    """Everything that happened, in one order. Appending is atomic under the interpreter's lock."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.file = open(path, "w", encoding="utf-8")
        self.path = path
        self.entries = []

    def write(self, what, **fields):
        entry = {"at": time.monotonic(), "what": what, **fields}
        with self.lock:
            self.entries.append(entry)
            self.file.write(json.dumps(entry) + "\n")
        return entry


def fingerprint(event):
    """One hash over all attributes and the payload, however the payload is carried."""
    attributes = {name: value for name, value in event.items() if name not in ("data", "data_base64")}
    data = harness.data_of(event)
    attributes[" data"] = None if data is None else hashlib.sha256(data).hexdigest()
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()[:24]


class Position(tuple):
    """Compares as positions do: embedded stores write "42", Redis "1526919030474-55"."""

    def __new__(cls, text):
        return super().__new__(cls, map(int, str(text).split("-")))

    def __str__(self):
        return "-".join(map(str, self))


def dump(value):
    """One way to write JSON: data counts as bytes, and the same event must be the same in every mode."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class World:
    def __init__(self, folder, seed):
        self.folder = folder
        self.seed = seed
        self.daemon = harness.Daemon(folder)
        self.journal = Journal(os.path.join(folder, "journal.jsonl"))
        self.publishing = True
        self.consuming = True
        self.calm = False
        self.issued = 0
        self.settled = set()
        self.failures = []

    def guard(self, work, *args):
        """A thread that fails makes the test fail, not just itself."""
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001 - reported, whatever it is
            import traceback
            self.failures.append(f"{work.__qualname__}{args}: {error}\n{traceback.format_exc()}")

    def healthy(self):
        return not self.failures


class Publisher:
    def __init__(self, world, number):
        self.world, self.number = world, number
        self.random = random.Random(f"{world.seed} publisher {number}")
        self.client = world.daemon.client(timeout=20)
        self.count = 0
        self.known = collections.deque(maxlen=200)  # acknowledged, to be sent again

    def make(self):
        r = self.random
        self.count += 1
        event = harness.event(f"p{self.number}-{self.count}", source=f"/crash/{self.number}",
                              type=r.choice(["crash.a", "crash.b"]))
        kind = r.random()
        if kind < 0.8:
            event[r.choice(["partitionkey", "subject"])] = f"key {r.randrange(KEYS)} ü"
        if r.random() < 0.3:
            event["note"] = "".join(r.choice('abc %"é€𐍈') for _ in range(r.randrange(1, 20))) + "."
        payload = r.random()
        if payload < 0.1:
            pass
        elif payload < 0.2:
            event["data_base64"], event["datacontenttype"] = "", "application/octet-stream"
        elif payload < 0.5:
            event["data"] = {"n": self.count, "text": "ünïcode \\ \" \n", "list": [1, None, True]}
            event["datacontenttype"] = "application/json"
        else:
            size = r.randrange(200_000, 700_000) if r.random() < 0.01 else r.randrange(1, 1500)
            event["data_base64"] = base64.b64encode(r.randbytes(size)).decode()
            event["datacontenttype"] = "application/octet-stream"
        return event

    def send(self, events, mode, durability):
        path = "/v1/streams/events/events?durability=" + durability
        if mode == "binary":
            (event,) = events
            headers = {f"ce-{name}": quote(str(value), safe="!#$&'()*+,/:;=?@[]^_`{|}~.-<>\\") for name, value in event.items()
                       if name not in ("data", "data_base64", "datacontenttype")}
            body = harness.data_of(event)
            if body is not None:
                headers["Content-Type"] = event["datacontenttype"]
            return self.client.post(path, body, headers=headers)
        if mode == "structured":
            return self.client.post(path, dump(events[0]), headers={"Content-Type": "application/cloudevents+json"})
        if mode == "batch":
            return self.client.post(path, dump(events), headers={"Content-Type": "application/cloudevents-batch+json"})
        return self.client.post(path, "\n".join(map(dump, events)), headers={"Content-Type": "application/x-ndjson"})

    def deliver(self, events, mode, fresh):
        """Repeats until acknowledged. Returns the results."""
        ids = [event["id"] for event in events]
        unknown = False
        # Relaxed survives the death of the process too, and takes other ways through the store.
        durability = "relaxed" if self.random.random() < 0.2 else "durable"
        while self.world.healthy():
            sent = self.world.journal.write("publish", by=self.number, ids=ids, mode=mode)["at"]
            try:
                response = self.send(events, mode, durability)
            except NotSent:
                time.sleep(0.02)
                continue
            except NoAnswer:
                unknown = True
                self.world.journal.write("no answer", by=self.number, ids=ids)
                continue
            if response.status == 503:
                unknown = unknown or response.json["code"] == "outcome_unknown"
                time.sleep(0.02)
                continue
            if response.status != 200:
                raise AssertionError(f"publish of {ids}: {response}")
            results = response.json["results"]
            if [result["id"] for result in results] != ids:
                raise AssertionError(f"publish of {ids}: results for {results}")
            states = {result["status"] for result in results}
            if not states <= {"stored", "duplicate"}:
                raise AssertionError(f"publish of {ids}: {results}")
            if fresh and not unknown and states != {"stored"}:
                raise AssertionError(f"new events, sent once, are said to be duplicates: {results}")
            if fresh and unknown and len(states) != 1:
                raise AssertionError(f"a batch was torn: {results}")
            if not fresh and states != {"duplicate"}:
                raise AssertionError(f"acknowledged events were stored again: {results}")
            reached = {result["durability"] for result in results}
            if not reached <= {"durable", durability}:
                raise AssertionError(f"asked for {durability}: {results}")
            self.world.journal.write("published", by=self.number, sent=sent,
                                     positions={result["id"]: result["position"] for result in results})
            return results
        return []

    def run(self):
        r = self.random
        while self.world.publishing and self.world.healthy():
            if self.world.issued - len(self.world.settled) > BACKLOG:
                time.sleep(0.01)
                continue
            mode = r.choice(["binary", "structured", "batch", "ndjson"])
            count = 1 if mode in ("binary", "structured") else r.randrange(1, 25)
            events = [self.make() for _ in range(count)]
            for event in events:
                self.world.journal.write("issued", id=event["id"], by=self.number, hash=fingerprint(event),
                                         key=event.get("partitionkey") or event.get("subject"))
            self.world.issued += count
            if self.deliver(events, mode, fresh=True):
                self.known.extend(events)
            if r.random() < 0.1 and len(self.known) > 10:
                again = r.sample(list(self.known), r.randrange(1, 5))
                self.deliver(again, r.choice(["batch", "ndjson"]), fresh=False)
            if r.random() < 0.3:
                time.sleep(r.random() * 0.02)


class Consumer:
    def __init__(self, world, number):
        self.world, self.number = world, number
        self.random = random.Random(f"{world.seed} consumer {number}")
        self.client = world.daemon.client(timeout=20)

    def call(self, what, body, sent=None):
        """One attempt: the answer, or None when there was none."""
        try:
            response = self.client.post(f"/v1/groups/{GROUP}/{what}", body)
        except NotSent:
            time.sleep(0.02)
            return None
        except NoAnswer:
            if sent:
                sent()
            return None
        if response.status == 503:
            if sent:
                sent()
            time.sleep(0.02)
            return None
        if response.status != 200:
            raise AssertionError(f"{what}: {response}")
        return response.json

    def settle(self, how, deliveries, **more):
        """Repeats until answered: what a careful consumer does. A first try without an answer may have worked, so the
        leases of it count as possibly settled even when the repetition says stale."""
        leases = {d["lease"]: d["event"]["id"] for d in deliveries}
        while self.world.healthy():
            begun = time.monotonic()
            answer = self.call(how, {"leases": list(leases), **more},
                               lambda: self.world.journal.write("maybe " + how, leases=list(leases), sent=begun))
            if answer is None:
                continue
            if sorted(answer["done"] + answer["stale"]) != sorted(leases):
                raise AssertionError(f"{how} of {list(leases)}: {answer}")
            self.world.journal.write(how, by=self.number, done=answer["done"], stale=answer["stale"], sent=begun)
            if how == "ack":
                self.world.settled.update(leases[lease] for lease in answer["done"])
            return answer

    def run(self):
        r = self.random
        while self.world.consuming and self.world.healthy():
            lease_ms = 10_000 if self.world.calm else r.choice([400, 800, 2000, 10_000])
            body = {"consumer": f"c{self.number}", "max": r.randrange(1, 40), "wait_ms": r.choice([0, 100, 400]),
                    "lease_ms": lease_ms, "stream": "events", "start": "beginning"}
            begun = time.monotonic()
            answer = self.call("claim", body)
            if not answer or not answer["deliveries"]:
                time.sleep(0.005)
                continue
            deliveries = answer["deliveries"]
            self.world.journal.write("claimed", by=self.number, sent=begun, lease_ms=lease_ms, deliveries=[
                [d["lease"], d["position"], d["attempt"], d["event"]["id"], fingerprint(d["event"])] for d in deliveries])
            self.treat(deliveries, lease_ms)

    def treat(self, deliveries, lease_ms):
        r = self.random
        # From the third hand-out on no more games, or the event would rightly die.
        tired = self.world.calm or any(d["attempt"] >= 3 for d in deliveries)
        fate = 1.0 if tired else r.random()
        if fate < 0.06:
            time.sleep(lease_ms / 1000 * 1.1 if lease_ms < 3000 else 0)  # the lease runs out in our hands
            if lease_ms >= 3000:
                self.settle("release", deliveries)
        elif fate < 0.12:
            self.settle("release", deliveries)
        elif fate < 0.18:
            cut = r.randrange(len(deliveries))
            if cut:
                self.settle("ack", deliveries[:cut])
            self.settle("retry", deliveries[cut:], after_ms=r.randrange(1, 300), reason="a game")
        elif fate < 0.24:
            self.settle("extend", deliveries, lease_ms=lease_ms)
            self.settle("ack", deliveries)
        elif fate < 0.5:
            while deliveries and self.world.healthy():
                count = r.randrange(1, 8)
                self.settle("ack", deliveries[:count])
                deliveries = deliveries[count:]
        else:
            self.settle("ack", deliveries)


class Verdict:
    """Reads the journal against the rules. Complaints are sentences."""

    def __init__(self, entries, dead):
        self.complaints = []
        self.dead = dead
        self.issued, self.position = {}, {}
        self.by_position = {}
        self.deliveries = []  # (time received, time sent, claim number, lease, position, id, hash)
        self.settled_from = {}   # lease → earliest moment at which a settling request for it had been sent
        self.settled_by = {}     # id → moment at which the consumer knew that it was acknowledged
        leases = {}
        for entry in entries:
            if entry["what"] == "claimed":
                for lease, *_, id, _ in entry["deliveries"]:
                    leases[lease] = id
        self.lease_id = leases
        for number, entry in enumerate(entries):
            self.take(number, entry)

    def complain(self, text):
        if len(self.complaints) < 50:
            self.complaints.append(text)

    def take(self, number, entry):
        what = entry["what"]
        if what == "issued":
            self.issued[entry["id"]] = entry
        elif what == "published":
            for id, position in entry["positions"].items():
                position = Position(position)
                if self.position.setdefault(id, position) != position:
                    self.complain(f"{id} was at {self.position[id]} and is at {position}")
                if self.by_position.setdefault(position, id) != id:
                    self.complain(f"position {position} belongs to {self.by_position[position]} and to {id}")
        elif what == "claimed":
            for lease, position, _, id, digest in entry["deliveries"]:
                self.deliveries.append((entry["at"], entry["sent"], number, lease, Position(position), id, digest))
        elif what == "maybe ack":
            for lease in entry["leases"]:
                self.settled_from.setdefault(lease, entry["sent"])
        elif what == "ack":
            for lease in entry["done"]:
                self.settled_from.setdefault(lease, entry["sent"])
                self.settled_by.setdefault(self.lease_id[lease], entry["at"])

    def judge(self):
        self.judge_sets()
        self.judge_publishers()
        self.judge_order()
        return self.complaints

    def judge_sets(self):
        delivered = {}
        for at, sent, _, lease, position, id, digest in self.deliveries:
            delivered[id] = True
            if id not in self.issued:
                self.complain(f"{id} was delivered and never issued")
                continue
            if self.issued[id]["hash"] != digest:
                self.complain(f"{id} was changed on its way (lease {lease})")
            if self.position.get(id, position) != position:
                self.complain(f"{id} is at {self.position[id]} and was delivered at {position}")
            if id in self.settled_by and sent > self.settled_by[id]:
                self.complain(f"{id} was handed out again (lease {lease}) after its acknowledgement was answered")
        for id in self.position:
            if id not in delivered and id not in self.dead:
                self.complain(f"{id} was acknowledged at {self.position[id]} and never delivered")
        maybe = {self.lease_id[lease] for lease in self.settled_from}
        for id in self.position:
            if id not in maybe and id not in self.dead:
                self.complain(f"{id} was never acknowledged by a consumer, though the group says it is through")

    def judge_publishers(self):
        last = {}
        for id, entry in self.issued.items():  # in the order of issue
            if id not in self.position:
                self.complain(f"{id} was issued and its publisher never got an answer")
                continue
            by = entry["by"]
            if by in last and self.position[last[by]] >= self.position[id]:
                self.complain(f"{last[by]} was issued before {id} and stands behind it")
            last[by] = id

    def judge_order(self):
        """For each hand-out of (key, p): every earlier q of that key was sent for settling before, or precedes it in
        the same claim. Along the time axis it is enough to look at the first hand-out of each p against the earliest
        settling of each q < p, and the largest such moment can be carried along the key."""
        by_key = collections.defaultdict(list)
        for id, position in self.position.items():
            key = self.issued[id]["key"]
            if key is not None:
                by_key[key].append((position, id))
        settle_moments = collections.defaultdict(lambda: float("inf"))
        for lease, moment in self.settled_from.items():
            id = self.lease_id[lease]
            settle_moments[id] = min(settle_moments[id], moment)
        claims = collections.defaultdict(dict)   # claim number → id → index in it
        handed = collections.defaultdict(list)   # id → [(at, claim number)]
        for at, _, number, _, _, id, _ in self.deliveries:
            claims[number].setdefault(id, len(claims[number]))
            handed[id].append((at, number))
        for key, events in by_key.items():
            events.sort()
            latest = []  # earlier ones of this key, by the moment of their settling, latest first in time
            for position, id in events:
                for at, number in handed[id]:
                    for moment, other in reversed(latest):
                        if moment <= at:
                            break
                        if other in claims[number] and claims[number][other] < claims[number][id]:
                            continue
                        if other in self.dead:
                            continue
                        self.complain(f"key {key!r}: {id} at {position} was handed out while {other} at "
                                      f"{self.position[other]} was not settled")
                latest.append((settle_moments[id], id))
                latest.sort()


def check_file(path, issued):
    """The same file, read by somebody else's code."""
    complaints = []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    answer = connection.execute("PRAGMA integrity_check").fetchall()
    if answer != [("ok",)]:
        complaints.append(f"integrity_check: {answer}")
    ids = collections.Counter(row[0] for row in connection.execute('SELECT id FROM "log:events"'))
    for id in issued:
        if ids[id] != 1:
            complaints.append(f"{id} is {ids[id]} times in the file")
    if len(ids) != len(issued):
        complaints.append(f"the file holds {len(ids)} events, {len(issued)} were issued")
    connection.close()
    return complaints[:20]


class Killer:
    """What is killed each round: here the daemon, sometimes once more while it is still rising."""

    def __init__(self, world):
        self.world = world
        self.chance = random.Random(f"{world.seed} kills")

    def start(self):
        self.world.daemon.start()

    def round(self):
        self.world.journal.write("kill")
        self.world.daemon.kill()
        if self.chance.random() < 0.25:
            self.world.daemon.spawn()
            time.sleep(self.chance.random() * 0.15)
            self.world.daemon.kill()
        self.world.daemon.start()
        self.world.journal.write("up")

    def examine(self, issued):
        """Complaints about what was left behind."""
        return check_file(self.world.daemon.path, issued)


class Load:
    """Publishers and consumers at work, and what is to be said of them at the end."""

    def __init__(self, world):
        self.world = world
        self.begun = time.monotonic()
        self.publishers = [threading.Thread(target=world.guard, args=(Publisher(world, n).run,)) for n in range(PUBLISHERS)]
        self.consumers = [threading.Thread(target=world.guard, args=(Consumer(world, n).run,)) for n in range(CONSUMERS)]
        for thread in self.publishers + self.consumers:
            thread.daemon = True
            thread.start()

    def finish(self):
        """Lets it run dry. Returns the complaints, and the verdict."""
        world, complaints = self.world, []
        world.publishing = False
        for thread in self.publishers:
            thread.join(60)
            if thread.is_alive():
                complaints.append("a publisher gets no answer any more")
        world.calm = True
        client = world.daemon.client()

        def ask(question):
            """A store that is away for a moment says so, and is asked again."""
            for last in range(100):
                try:
                    return question()
                except AssertionError as error:
                    if " <503 " not in str(error) or last == 99:
                        raise
                    time.sleep(0.1)

        def through():
            return not world.healthy() or harness.lag_of(ask(lambda: client.group(GROUP))) == (0, 0, 0)
        harness.wait_until(through, 120, "the group is through", every=0.1)
        world.consuming = False
        for thread in self.consumers:
            thread.join(30)
        info = ask(lambda: client.group(GROUP))
        dead = {letter["event"]["id"] for letter in ask(lambda: client.dead_letters(GROUP))}
        if world.daemon.terminate() != 0:
            complaints.append("SIGTERM at the end: not exit code 0")
        world.journal.file.close()
        verdict = Verdict(world.journal.entries, dead)
        complaints += verdict.judge()
        if len(dead) > len(verdict.issued) // 200:
            complaints.append(f"{len(dead)} of {len(verdict.issued)} events died, though nobody wanted them to")
        print(f"{len(verdict.issued)} events, {len(verdict.deliveries)} deliveries, {len(dead)} dead letters, failures "
              f"{info['failures']}, crashes {info['crashes']}, {time.monotonic() - self.begun:.0f} s, seed {world.seed}")
        return complaints, verdict


def main(rounds, make_killer=Killer):
    folder = harness.temp_folder()
    world = World(folder, harness.SEED)
    killer = make_killer(world)
    killer.start()
    load = Load(world)
    complaints = []
    try:
        done = 0
        while done < rounds and world.healthy():
            time.sleep(killer.chance.choice([killer.chance.random() * 0.3, 0.3 + killer.chance.random() * 2.2]))
            killer.round()
            done += 1
        complaints, verdict = load.finish()
        if len(verdict.issued) < 20 * rounds:
            complaints.append(f"only {len(verdict.issued)} events in {rounds} rounds: this proves nothing")
        complaints += killer.examine(verdict.issued)
        print(f"{done} kills")
    except AssertionError as error:
        complaints.append(str(error))
    complaints += world.failures
    if complaints:
        if not world.journal.file.closed:
            world.journal.file.flush()
        harness.keep(folder)
        print("FAILED", *complaints, sep="\n  ")
        print(f"seed {harness.SEED}; journal {world.journal.path}; its last entries:")
        for entry in world.journal.entries[-40:]:
            print("  ", json.dumps(entry)[:300])
        print(world.daemon.log()[-3000:])
        sys.stdout.flush()
        sys.exit(1)


if __name__ == "__main__":
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("MILLRACE_CRASH_ROUNDS") or 20))
    main(parser.parse_args().rounds)
