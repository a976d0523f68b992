# SPDX-License-Identifier: Apache-2.0
"""What must be true after a power cut, given what the outside world had been told by then.

The store is opened anew by an ordinary daemon on the disk that was left, read, published to and consumed to the end, and
at last the file is read by Python's own sqlite3. Complaints are sentences; none means that every promise held:

  * the log holds what was acknowledged as durable, at the position it was acknowledged at, byte for byte; and every
    relaxed event before it
  * it holds nothing that was not sent, nothing twice, no part of a batch without the rest, and nothing whose every
    sending was answered "unavailable" or "store_full"
  * no position that was ever told to anybody is given to another event
  * what is sent again is a duplicate where it is, and new where it was lost
  * an acknowledged trim stays done, and no other was made
  * groups that were acknowledged exist, as they were made
  * what was acknowledged as settled does not come back; a retry that was answered is remembered; a dead letter stays
    until it is redriven; an acknowledged redrive is delivered
  * a lease from before is held still or stale, never another event's
  * every other event of each group is delivered, in order per key, and the group comes to its end
"""

import collections
import os
import random
import sqlite3
import time

import harness
from crash_test import fingerprint
from power_workload import GROUPS


def key_in(group, event):
    order = GROUPS[group].get("order", "key")
    if order == "none":
        return None
    if order.startswith("attribute:"):
        return event.get(order[len("attribute:"):])
    return event.get("partitionkey") or event.get("subject")


class Known:
    """The history, read: what was promised, what is possible."""

    def __init__(self, history):
        self.events = history.events
        self.complaints = []
        self.position = {}                           # id → the position told
        self.durable = set()                         # ids acknowledged as durable
        self.told = {}                               # position → id
        self.lives = collections.defaultdict(set)    # id → the lives in which it was told to be there
        self.newest_durable = collections.Counter()  # life → the last position acknowledged as durable in it
        self.sendings = collections.defaultdict(list)  # id → "written", "nothing" or "unknown", one per sending
        self.batches = []                            # ids sent together, for the first time
        self.groups, self.maybe_groups = set(), set()
        self.leases = collections.defaultdict(dict)  # group → lease → id
        self.settled = collections.defaultdict(dict)  # (group, how) → id → moment of sending
        self.maybe = collections.defaultdict(dict)    # (group, how) → id → latest moment of sending, answered or not
        self.redriven = collections.defaultdict(list)  # group → (sent, answered or None)
        self.trimmed, self.maybe_trimmed = 0, 0
        sent_before = set()
        for entry in history.entries:
            if entry["status"] != "not sent":
                getattr(self, "take_" + entry["what"])(entry, sent_before)

    def tell(self, id, position, life):
        position = int(position)
        self.lives[id].add(life)
        if self.position.setdefault(id, position) != position:
            self.complaints.append(f"{id} was told to be at {self.position[id]} and at {position}")
        if self.told.setdefault(position, id) != id:
            self.complaints.append(f"position {position} was given to {self.told[position]} and to {id}")

    def take_publish(self, entry, sent_before):
        ids = entry["ids"]
        if not sent_before & set(ids) and len(ids) > 1:
            self.batches.append(ids)
        sent_before.update(ids)
        if entry["status"] == "ok":
            for result in entry["answer"]["results"]:
                if result["status"] not in ("stored", "duplicate"):
                    self.complaints.append(f"{result['id']}: {result}")
                    continue
                self.tell(result["id"], result["position"], entry["generation"])
                self.sendings[result["id"]].append("written")
                if result["durability"] == "durable":
                    self.durable.add(result["id"])
                    life = entry["generation"]
                    self.newest_durable[life] = max(self.newest_durable[life], int(result["position"]))
                elif entry["durability"] == "durable":
                    self.complaints.append(f"{result['id']} was asked to be durable: {result}")
            return
        for id in ids:
            self.sendings[id].append("nothing" if entry["status"] in ("unavailable", "store_full", "busy") else "unknown")

    def take_group(self, entry, _):
        (self.groups if entry["status"] in ("ok", "already_exists") else self.maybe_groups).add(entry["group"])

    def take_claim(self, entry, _):
        for d in entry["answer"]["deliveries"] if entry["status"] == "ok" else ():
            if d["id"] not in self.events:
                self.complaints.append(f"{d['id']} was delivered and never sent")
                continue
            if self.events[d["id"]]["hash"] != d["hash"]:
                self.complaints.append(f"{d['id']} was delivered changed")
            self.tell(d["id"], d["position"], entry["generation"])
            if self.leases[entry["group"]].setdefault(d["lease"], d["id"]) != d["id"]:
                self.complaints.append(f"lease {d['lease']} names {d['id']} and {self.leases[entry['group']][d['lease']]}")

    def take_settle(self, entry, _):
        group, how = entry["group"], entry["how"]
        names = self.leases[group]
        possible = entry["leases"] if entry["status"] != "ok" else entry["answer"]["done"]
        if entry["status"] in ("unavailable", "store_full", "busy"):
            return
        for lease in possible:
            self.maybe[group, how][names[lease]] = entry["sent"]
            if entry["status"] == "ok":
                self.settled[group, how][names[lease]] = entry["sent"]

    def take_redrive(self, entry, _):
        if entry["status"] not in ("unavailable", "store_full", "busy"):
            self.redriven[entry["group"]].append((entry["sent"], entry["at"] if entry["status"] == "ok" else None))

    def take_trim(self, entry, _):
        if entry["status"] == "ok":
            self.trimmed = max(self.trimmed, int(entry["answer"]["trimmed_to"] or 0))
            self.maybe_trimmed = max(self.maybe_trimmed, self.trimmed)
        elif entry["status"] not in ("unavailable", "store_full", "busy"):
            self.maybe_trimmed = 1 << 62


class Judge:
    def __init__(self, folder, history, seed):
        self.folder = folder
        self.known = Known(history)
        self.complaints = list(self.known.complaints)
        self.random = random.Random(f"{seed} judge")
        self.daemon = harness.Daemon(folder, store=f"sqlite:{folder}/store/events.db")
        self.retried = collections.Counter()
        for entry in history.entries:
            if entry["what"] == "settle" and entry["how"] == "retry" and entry["status"] == "ok":
                self.retried.update((entry["group"], self.known.leases[entry["group"]][lease]) for lease in entry["answer"]["done"])

    def complain(self, text):
        self.complaints.append(text)

    def judge(self):
        try:
            self.daemon.start()
        except AssertionError as error:
            self.complain(f"the store does not open: {error}")
            return self.complaints[:30]
        try:
            self.client = self.daemon.client(timeout=30)
            self.judge_log()
            self.publish_again()
            for group in GROUPS:
                self.judge_group(group)
            if self.daemon.terminate() != 0:
                self.complain("the daemon does not end with 0")
            self.judge_file()
        except (AssertionError, harness.NoAnswer, harness.NotSent) as error:
            self.complain(f"{error}\n{self.daemon.log()[-2000:]}")
        finally:
            self.daemon.__exit__()
        return self.complaints[:30]

    def judge_log(self):
        known = self.known
        self.log = {}
        last = 0
        for position, event in self.client.read():
            position, id = int(position), event["id"]
            if position <= last:
                self.complain(f"position {position} stands behind {last}")
            last = position
            if id in self.log:
                self.complain(f"{id} is there twice, at {self.log[id]} and {position}")
            self.log[id] = position
            if id not in known.events or not known.sendings[id]:
                self.complain(f"{id} at {position} was never sent")
                continue
            if fingerprint(event) != known.events[id]["hash"]:
                self.complain(f"{id} at {position} is not what was sent")
            if known.position.get(id, position) != position:
                self.complain(f"{id} was at {known.position[id]} and is at {position}")
            if known.told.get(position, id) != id:
                self.complain(f"position {position} was {known.told[position]}'s and is {id}'s")
            if set(known.sendings[id]) == {"nothing"}:
                self.complain(f"{id} is at {position}, though every answer said that nothing was written")
        (stream,) = [s for s in self.client.ok("GET", "/v1/streams")["streams"] if s["name"] == "events"]
        self.trimmed_to = int(stream["trimmed_to"] or 0)
        if self.trimmed_to < known.trimmed:
            self.complain(f"was trimmed to {known.trimmed} and says {self.trimmed_to}")
        if self.trimmed_to > known.maybe_trimmed:
            self.complain(f"is trimmed to {self.trimmed_to}, and nobody asked for more than {known.maybe_trimmed}")
        for id, position in known.position.items():
            if id in self.log or position <= self.trimmed_to:
                continue
            if id in known.durable:
                self.complain(f"{id}, durable at {position}, is lost")
            elif position < max(known.newest_durable[life] for life in known.lives[id]):
                self.complain(f"{id} at {position} is lost, though something behind it was durable")
        for ids in known.batches:
            if any(len(known.sendings[id]) > 1 for id in ids):
                continue  # one of them was sent again alone
            there = [id in self.log or known.position.get(id, 1 << 62) <= self.trimmed_to for id in ids]
            # Of a batch whose answer was lost, what was trimmed cannot be told from what was never written.
            if any(there) and not all(there) and not (self.trimmed_to and not all(id in known.position for id in ids)):
                self.complain(f"of the batch {ids} only {[id for id, is_there in zip(ids, there) if is_there]} is there")

    def publish_again(self):
        known = self.known
        told = max([0, *known.told, *self.log.values()])
        again = self.random.sample(sorted(known.sendings), min(60, len(known.sendings)))
        lost = [id for id in known.position if id not in self.log and known.position[id] > self.trimmed_to]
        fresh = [harness.event(f"after-{self.random.random()}", type="loss.a", source="/loss/after") for _ in range(3)]
        for event in [*fresh, *[known.events[id]["event"] for id in [*lost[:20], *again]]]:
            id = event["id"]
            (result,) = self.client.publish(event)
            position = int(result["position"])
            if id in self.log:
                if (result["status"], position) != ("duplicate", self.log[id]):
                    self.complain(f"{id} stands at {self.log[id]}, and sent again: {result}")
            elif result["status"] == "duplicate" and position <= self.trimmed_to:
                if known.position.get(id, position) != position:
                    self.complain(f"{id} was at {known.position[id]}, and its trimmed id says {position}")
            elif id in known.position and known.position[id] <= self.trimmed_to:
                self.complain(f"{id} was trimmed at {known.position[id]} and is stored anew: {result}")
            else:
                if result["status"] != "stored":
                    self.complain(f"{id} is not there, and sent again: {result}")
                if position <= told:
                    self.complain(f"{id} gets position {position}; {told} had been told before")
                self.log[id] = position
                told = max(told, position)
                known.events.setdefault(id, {"event": event, "hash": fingerprint(event)})

    def judge_group(self, name):
        known = self.known
        if name not in known.groups:
            response = self.client.get(f"/v1/groups/{name}")
            if response.status == 200 and name not in known.maybe_groups:
                self.complain(f"group {name} is there and nobody made it")
            return
        group = self.client.group(name)
        spec = GROUPS[name]
        is_now = {"stream": group["stream"], "start": group["start"], "types": group["types"], "order": group["order"]}
        if is_now != {"types": [], "order": "key", **spec}:
            self.complain(f"group {name} was made {spec} and is {is_now}")
        settled, maybe, redriven = known.settled, known.maybe, known.redriven[name]
        acked = dict(settled[name, "ack"])
        done, dead_before = {}, {d["event"]["id"] for d in self.client.dead_letters(name)}
        for id, moment in settled[name, "reject"].items():
            was_redriven = any(answered is None or answered > moment or sent > moment for sent, answered in redriven)
            if id not in dead_before and not was_redriven and id not in acked:
                self.complain(f"{name}: {id} was rejected and is not among the dead letters")
        for id in dead_before - set(maybe[name, "reject"]):
            self.complain(f"{name}: {id} is dead, and nobody rejected it")

        # Leases from before: held or stale.
        old = [lease for lease, id in known.leases[name].items() if id not in acked]
        old = self.random.sample(old, min(len(old), 40))
        if old:
            answer = self.client.settle(name, "ack", old)
            if sorted(answer["done"] + answer["stale"]) != sorted(old):
                self.complain(f"{name}: ack of {old}: {answer}")
            for lease in answer["done"]:
                id = known.leases[name][lease]
                if id in done:
                    self.complain(f"{name}: {id} was held by two leases")
                done[id] = "by a lease from before"
        self.drain(name, acked, done, dead_before)

        dead = {d["event"]["id"] for d in self.client.dead_letters(name)}
        for id, position in self.log.items():
            event = known.events[id]["event"]
            if name == "some" and event["type"] != "loss.a":
                continue
            if id not in done and id not in dead and id not in maybe[name, "ack"]:
                self.complain(f"{name}: {id} at {position} was neither settled before nor delivered now")
        for id in set(known.durable) - set(self.log):
            event = known.events[id]["event"]
            if id not in maybe[name, "ack"] and id not in dead and id not in done and not (name == "some" and event["type"] != "loss.a"):
                self.complain(f"{name}: {id} was trimmed before the group had settled it")

    def drain(self, name, acked, done, dead_before):
        known, order = self.known, {}
        redriven = known.redriven[name]
        end = time.monotonic() + 25
        while harness.lag_of(self.client.group(name)) != (0, 0, 0):
            if time.monotonic() > end:
                self.complain(f"{name} does not come to its end: {self.client.group(name)}, {self.client.pending(name)[:5]}")
                return
            deliveries = self.client.claim(name, max=1000, wait_ms=300)
            for d in deliveries:
                event, position = d["event"], int(d["position"])
                id = event["id"]
                if self.log.get(id) != position and not (id in known.position and known.position[id] == position):
                    self.complain(f"{name}: {id} was delivered at {position}, the log has it at {self.log.get(id)}")
                if id in known.events and fingerprint(event) != known.events[id]["hash"]:
                    self.complain(f"{name}: {id} was delivered changed")
                if id in done:
                    self.complain(f"{name}: {id} was settled {done[id]} and comes again")
                if id in dead_before:
                    self.complain(f"{name}: {id} is dead and was delivered")
                if id in acked and not (redriven and id in known.maybe[name, "reject"]):
                    self.complain(f"{name}: {id} at {position} was acknowledged before and comes again")
                if int(d["failures"]) < self.retried[name, id] and id not in known.maybe[name, "reject"]:
                    self.complain(f"{name}: {id} failed {self.retried[name, id]} times, and {d['failures']} are remembered")
                key = key_in(name, event)
                if key is not None and id not in known.maybe[name, "reject"]:
                    if order.get(key, 0) > position:
                        self.complain(f"{name}: {id} at {position} comes behind {order[key]} of key {key!r}")
                    order[key] = position
            if deliveries:
                answer = self.client.settle(name, "ack", deliveries)
                if answer["stale"]:
                    self.complain(f"{name}: fresh leases are stale: {answer['stale'][:3]}")
                done.update((d["event"]["id"], "in this drain") for d in deliveries)

    def judge_file(self):
        connection = sqlite3.connect(f"file:{os.path.join(self.folder, 'store/events.db')}?mode=ro", uri=True)
        answer = connection.execute("PRAGMA integrity_check").fetchall()
        if answer != [("ok",)]:
            self.complain(f"integrity_check: {answer[:5]}")
        there = dict(connection.execute('SELECT id, position FROM "log:events"'))
        if there != {id: position for id, position in self.log.items()}:
            self.complain("the file does not hold what the daemon showed: "
                          f"{list(set(there.items()) ^ set(self.log.items()))[:5]}")
        connection.close()
