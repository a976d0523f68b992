# SPDX-License-Identifier: Apache-2.0
"""A daemon under the preloaded library, clients that use all of it, and what each of them knows afterwards.

Every client writes down what it sent and when, and what it was told and when, on the clock the journal uses. So for any
moment of the run it can be said what the outside world had been promised by then.
"""

import os
import random
import threading
import time

import harness
from crash_test import fingerprint
from harness import NoAnswer, NotSent

SHIM = str(harness.BUILD / "lib/libmillrace_disk_shim.so")
NEVER = float("inf")
LEASE_MS = 1200
GROUPS = {  # name → how it is made; "late" comes in the middle of the run
    "all": {"stream": "events", "start": "beginning"},
    "some": {"stream": "events", "start": "beginning", "types": ["loss.a"], "order": "none"},
    "late": {"stream": "events", "start": "beginning", "order": "attribute:lane"},
}


class History:
    """What was sent and answered, in the order of sending. An entry without an answer has `at` = NEVER."""

    def __init__(self, entries=(), events=None):
        self.entries = list(entries)
        self.events = dict(events or {})  # id → {"hash", "key", "lane", "type"}
        self.lock = threading.Lock()

    def begin(self, what, **fields):
        entry = {"what": what, "sent": time.monotonic(), "at": NEVER, "status": None, "answer": None, **fields}
        with self.lock:
            self.entries.append(entry)
        return entry

    def until(self, moment, generation):
        """What was known when the power went at `moment` of that generation; later answers never arrived."""
        kept = []
        for entry in self.entries:
            if entry["generation"] == generation:
                if entry["sent"] >= moment:
                    continue
                if entry["at"] >= moment:
                    entry = {**entry, "at": NEVER, "status": None, "answer": None}
            kept.append(entry)
        return History(kept, self.events)


class Workload:
    def __init__(self, daemon, history, seed, generation):
        self.daemon, self.history = daemon, history
        self.seed, self.generation = seed, generation
        self.stop = False
        self.failures = []
        self.big = random.Random(f"{seed} big").random() < 0.4  # enough data for checkpoints
        self.tired = 0

    def call(self, client, method, path, body, headers=None, **fields):
        """One request, never repeated; its entry."""
        entry = self.history.begin(generation=self.generation, **fields)
        try:
            response = client.request(method, path, body, headers=headers)
        except NotSent:
            entry["status"], entry["at"] = "not sent", time.monotonic()
            time.sleep(0.01)
            return entry
        except NoAnswer:
            time.sleep(0.01)
            return entry
        answer = response.json if response.body else None
        if response.status >= 400:
            code = (answer or {}).get("code")
            if response.status not in (503, 507) and not (fields["what"] == "group" and code == "already_exists"):
                raise AssertionError(f"{method} {path}: {response}")
            entry["answer"], entry["status"] = answer, code
            entry["at"] = time.monotonic()
            time.sleep(0.02)
            return entry
        # The answer first, then the moment: `at` says that all of it is there.
        entry["answer"], entry["status"] = answer, "ok"
        entry["at"] = time.monotonic()
        return entry

    def publisher(self, number):
        chance = random.Random(f"{self.seed} publisher {number}")
        client = self.daemon.client(timeout=20)
        count, known = 0, []
        while not self.stop:
            events = []
            for _ in range(chance.choice([1, 1, 3, 12])):
                count += 1
                event = harness.event(f"g{self.generation}-p{number}-{count}", source=f"/loss/{number}",
                                      type=chance.choice(["loss.a", "loss.b"]))
                if chance.random() < 0.7:
                    event["subject"] = f"key {chance.randrange(12)}"
                if chance.random() < 0.5:
                    event["lane"] = f"l{chance.randrange(3)}"
                size = chance.randrange(1, 1500)
                if self.big and chance.random() < 0.05:
                    size = chance.randrange(100_000, 400_000)
                event["data_base64"] = harness.base64.b64encode(chance.randbytes(size)).decode()
                event["datacontenttype"] = "application/octet-stream"
                self.history.events[event["id"]] = {"event": event, "hash": fingerprint(event)}
                events.append(event)
            if known and chance.random() < 0.15:
                events = [self.history.events[chance.choice(known)]["event"]]  # once more: a duplicate, or found lost
            durability = "relaxed" if chance.random() < 0.4 else "durable"
            self.call(client, "POST", "/v1/streams/events/events?durability=" + durability, harness.json.dumps(events),
                      {"Content-Type": "application/cloudevents-batch+json"}, what="publish",
                      ids=[event["id"] for event in events], durability=durability)
            known += [event["id"] for event in events]
            if chance.random() < 0.3:
                time.sleep(chance.random() * 0.01)

    def consumer(self, number):
        chance = random.Random(f"{self.seed} consumer {number}")
        client = self.daemon.client(timeout=20)
        while not self.stop:
            group = chance.choice(list(GROUPS))
            if not any(e["what"] == "group" and e["group"] == group and e["status"] in ("ok", "already_exists")
                       for e in self.history.entries):
                time.sleep(0.01)
                continue
            entry = self.call(client, "POST", f"/v1/groups/{group}/claim",
                              {"consumer": f"c{number}", "max": chance.randrange(1, 40), "wait_ms": 50, "lease_ms": LEASE_MS},
                              what="claim", group=group)
            if entry["status"] != "ok" or not entry["answer"]["deliveries"]:
                continue
            deliveries = entry["answer"]["deliveries"]
            for delivery in deliveries:  # the events themselves are known
                event = delivery.pop("event")
                delivery["id"], delivery["hash"] = event["id"], fingerprint(event)
            worn = any(int(d["failures"]) >= 2 for d in deliveries)
            fate = 0.0 if worn else chance.random()
            leases = [d["lease"] for d in deliveries]
            cut = chance.randrange(len(leases) + 1)
            parts = [("ack", leases)]
            if fate > 0.9:
                parts = [("ack", leases[:cut]), ("retry", leases[cut:])]
            elif fate > 0.8:
                parts = [("ack", leases[:cut]), ("reject", leases[cut:][:2]), ("release", leases[cut:][2:])]
            elif fate > 0.7:
                parts = [("extend", leases), ("ack", leases[:cut])]  # and the rest runs out, or is held when it gets dark
            elif fate > 0.5:
                parts = [("ack", leases[:cut]), ("ack", leases[cut:])]
            for how, some in parts:
                if some:
                    more = {"retry": {"after_ms": chance.randrange(1, 200), "reason": "a game"},
                            "reject": {"reason": "a game"}, "extend": {"lease_ms": LEASE_MS}}.get(how, {})
                    self.call(client, "POST", f"/v1/groups/{group}/{how}", {"leases": some, **more}, what="settle",
                              how=how, group=group, leases=some)

    def administrator(self):
        chance = random.Random(f"{self.seed} administrator")
        client = self.daemon.client(timeout=20)
        for name, spec in GROUPS.items():
            if name == "late":
                time.sleep(0.3)
            if self.stop:
                return
            self.call(client, "POST", "/v1/groups", {"name": name, **spec}, what="group", group=name)
        while not self.stop:
            time.sleep(chance.random() * 0.15)
            if chance.random() < 0.5:
                group = chance.choice(list(GROUPS))
                self.call(client, "POST", f"/v1/groups/{group}/dead-letters/redrive", {}, what="redrive", group=group)
            else:
                told = [int(r["position"]) for e in self.history.entries if e["what"] == "publish" and e["status"] == "ok"
                        for r in e["answer"]["results"] if r["position"]]
                if told:
                    self.call(client, "POST", "/v1/streams/events/trim", {"up_to": str(max(1, max(told) - chance.randrange(400)))},
                              what="trim")

    def guard(self, work, *args):
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001 - reported, whatever it is
            import traceback
            self.failures.append(f"{work.__name__}{args}: {error}\n{traceback.format_exc()}")

    def run(self, seconds, ended):
        """Until `seconds` have passed or the daemon has ended."""
        threads = [threading.Thread(target=self.guard, args=work, daemon=True) for work in
                   [(self.administrator,), *[(self.publisher, n) for n in range(3)], *[(self.consumer, n) for n in range(3)]]]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not ended() and not self.failures:
            time.sleep(0.02)
        return threads

    def finish(self, threads):
        self.stop = True
        for thread in threads:
            thread.join(25)
            if thread.is_alive():
                self.failures.append("a client hangs")


def run_daemon(folder, history, seed, generation, seconds, shim):
    """One life of a daemon whose store lies in `<folder>/store`. Returns complaints (empty: none). A file "ended" says
    that it ended by itself, so that its journal is complete."""
    chance = random.Random(f"{seed} life")
    store = os.path.join(folder, "store")
    env = {"LD_PRELOAD": SHIM, "MILLRACE_SHIM_DIR": store, "MILLRACE_SHIM_JOURNAL": os.path.join(folder, "journal"), **shim}
    daemon = harness.Daemon(folder, store=f"sqlite:{store}/events.db", env=env)
    work = Workload(daemon, history, seed, generation)
    killed = "MILLRACE_SHIM_KILL_AT" in shim
    ending = chance.choice(["term", "kill"])
    try:
        daemon.start()
    except AssertionError as error:
        code = daemon.process.poll()
        if (killed and code == -9) or ("MILLRACE_SHIM_FAIL_SYNC" in shim and code == 1):  # 1: it refuses, and says why
            return []
        return [str(error)]
    threads = work.run(seconds, lambda: daemon.process.poll() is not None)
    if daemon.process.poll() is None:
        if ending == "term" and not killed:
            daemon.process.terminate()
            try:
                code = daemon.process.wait(25)
            except harness.subprocess.TimeoutExpired:
                code = "no end"
                daemon.kill()
            if code == 0:
                open(os.path.join(folder, "ended"), "w").close()
            else:
                work.failures.append(f"SIGTERM: {code}\n{daemon.log()[-2000:]}")
        else:
            daemon.kill()
    elif not (killed and daemon.process.returncode == -9):
        work.failures.append(f"the daemon died by itself with {daemon.process.returncode}\n{daemon.log()[-3000:]}")
    work.finish(threads)
    return work.failures
