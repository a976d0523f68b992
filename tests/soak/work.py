# SPDX-License-Identifier: Apache-2.0
"""The load of a soak: two publishing and four consuming processes, each with the judge's books of what it did.

Every key counts its events from 1, and a publisher repeats a batch with the same ids until it is answered. So what was
published is one number per key, and a group has lost nothing when all numbers up to it were acknowledged; nothing else
must be remembered, however long it runs.
"""

import json
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
from harness import Client, NoAnswer, NotSent  # noqa: E402

KEYS = 400
BATCH = 500
PUBLISHERS = 2  # one alone waits for one commit after the other, and a slow disk then decides how much is published

CLAIM = 1000
# A consumer claims, then settles, then claims, and each waits for a commit: one alone would fall behind 20,000/s for no
# reason of the daemon's.
CONSUMERS = {"everything": 4}

# name → (types, order, of the keys these, share of failures, wait per claim in s)
GROUPS = {
    "everything": (["*"], "none", 1, 0.0, 0.0),
    "quarter": (["soak.a"], "key", 4, 0.0, 0.0),
    "slow": (["soak.b"], "key", 20, 0.0, 0.05),
    "failing": (["soak.c"], "key", 10, 0.01, 0.0),
}


def type_of(key):
    if key % 4 == 0:
        return "soak.a"
    if key % 20 == 1:
        return "soak.b"
    return "soak.c" if key % 10 == 3 else "soak.d"


def wanted(group, key):
    types = GROUPS[group][0]
    return types == ["*"] or type_of(key) in types


def patiently(client, path, body, content_type="application/json", stop=None):
    """The JSON of the answer to a request that may be repeated, and whether every earlier try is surely void."""
    clean = True
    while True:
        try:
            answer = client.post(path, body, headers={"Content-Type": content_type})
            if answer.status == 200:
                return answer.json, clean
            if answer.status not in (429, 503, 507):
                raise AssertionError(f"POST {path}: {answer}")
        except NotSent:
            pass
        except NoAnswer:
            clean = False
        if stop is not None and stop.is_set():
            return None, clean
        time.sleep(0.05)


def publish(port, index, rate, stop, latencies, result):
    """Batches at a steady rate, of this publisher's share of the keys; a batch that is late is sent at once, one after
    the other."""
    client = Client(port)
    counts = [0] * KEYS
    key, total, repeated = index, 0, 0
    # Only the number differs between the events of a key: all else is put together once. Ids grow with time, as UUIDv7
    # do; `./dev bench growth` shows what random ones cost.
    head = '{"specversion":"1.0","id":"'
    tails = [f'-{key}","source":"/soak","type":"{type_of(key)}","partitionkey":"{key}","data":{{"pad":"{"x" * 100}"}}}}'
             for key in range(KEYS)]
    begin = due = time.monotonic()
    while not stop.is_set():
        due += BATCH / rate
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        elif wait < -5:
            due = time.monotonic()  # what was not sent during a restart is not caught up with for ever
        events = []
        for _ in range(BATCH):
            key = (key + PUBLISHERS) % KEYS
            counts[key] += 1
            events.append(f"{head}{counts[key]:012d}{tails[key]}")
        sent = time.monotonic()
        answer, clean = patiently(client, "/v1/streams/events/events", "[" + ",".join(events) + "]",
                                  "application/cloudevents-batch+json")
        if clean:
            latencies.put((time.monotonic() - sent) * 1000)
        for status in (one["status"] for one in answer["results"]):
            if status == "duplicate":
                repeated += 1
                assert not clean, "a duplicate though nothing was repeated"
            else:
                assert status == "stored", status
        total += BATCH
    result.put(("published", counts, {"total": total, "repeated": repeated, "seconds": time.monotonic() - begin}))


class Book:
    """Which numbers of a key were acknowledged: all up to one, and those after it that came early."""

    def __init__(self):
        self.up_to, self.early = 0, set()

    def has(self, number):
        return number <= self.up_to or number in self.early

    def add(self, number):
        self.early.add(number)
        while self.up_to + 1 in self.early:
            self.up_to += 1
            self.early.discard(self.up_to)


def take_part(port, group, consumer, stop, books, told, one_at_a_time):
    """One consumer of the group. The books are everybody's."""
    types, order, _, failures, pause = GROUPS[group]
    client, chance = Client(port), random.Random(f"{group} {consumer}")
    names = {"stream": "events", "start": "beginning", "types": types, "order": order}
    quiet_since = None
    while True:
        answer, _ = patiently(client, f"/v1/groups/{group}/claim",
                              json.dumps({"consumer": f"{group}-{consumer}", "max": CLAIM, "wait_ms": 500, "lease_ms": 5000, **names}))
        deliveries = answer["deliveries"]
        if not deliveries:
            # Events whose claim was never answered come back after their lease, those that failed after their wait.
            info = client.ok("GET", f"/v1/groups/{group}") if stop.is_set() else None
            if info and not any(info["lag"][part] for part in ("ahead", "in_flight", "waiting")):
                break
            quiet_since = quiet_since or time.monotonic()
            if stop.is_set() and time.monotonic() - quiet_since > 90:
                break  # the judge tells what is missing
            continue
        quiet_since = None
        ack, retry, seen, failed = [], [], {}, set()
        with one_at_a_time:
            for delivery in deliveries:
                number, key = map(int, delivery["event"]["id"].split("-"))
                if order == "key" and number > seen.get(key, books[key].up_to) + 1:
                    told["out of order"] += 1
                seen[key] = max(number, seen.get(key, 0))
                told["again"] += books[key].has(number)
                if order == "key" and key in failed:
                    continue  # withdrawn by the retry of the earlier one
                if chance.random() < failures:
                    failed.add(key)
                    retry.append((delivery["lease"], key, number))
                else:
                    ack.append((delivery["lease"], key, number))
        if pause:
            time.sleep(pause)
        # The earlier of a key must be settled first, and all that is acknowledged here stands before what is retried.
        for how, leases in (("ack", ack), ("retry", retry)):
            if not leases:
                continue
            body = {"leases": [lease for lease, _, _ in leases]}
            if how == "retry":
                body.update(after_ms=100, reason="one of a hundred")
            answer, clean = patiently(client, f"/v1/groups/{group}/{how}", json.dumps(body))
            done = set(answer["done"])
            with one_at_a_time:
                told["stale"] += len(answer["stale"])
                told["retried" if how == "retry" else "acked"] += len(done)
                for lease, key, number in leases if how == "ack" else ():
                    # Stale after a try nobody answered: it was acknowledged then, or it comes again. If neither is so,
                    # the judge sees it in the server's own count.
                    if lease in done or not clean:
                        told["unsure"] += lease not in done
                        books[key].add(number)


def consume(port, group, stop, result):
    """Until told to stop and nothing more is there."""
    books = {key: Book() for key in range(KEYS)}
    told = {"acked": 0, "again": 0, "retried": 0, "unsure": 0, "stale": 0, "out of order": 0}
    one_at_a_time, failures = threading.Lock(), []

    def work(number):
        try:
            take_part(port, group, number, stop, books, told, one_at_a_time)
        except BaseException as error:  # or its end would go unseen
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(CONSUMERS.get(group, 1))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    result.put((group, {key: (book.up_to, sorted(book.early)) for key, book in books.items()}, told))
