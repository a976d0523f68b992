# SPDX-License-Identifier: Apache-2.0
"""One event that kills whoever touches it must cost one dead letter and nothing else; restarts must cost nothing.

Run with `consume …` this file is a consumer: a process of its own that reads the daemon's port from a file, works in
order, dies by SIGKILL on the poison, and on SIGTERM gives back what it holds.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import harness
from harness import NoAnswer, NotSent

EVENTS = 1000
POISON = "event-499"  # the 500th


class Stop(Exception):
    pass


class Consumer:
    """A careful consumer. Everything it is given is acknowledged, given back, or lost with the process."""

    def __init__(self, port_file, group, name, max, lease_ms, ack_every):
        def port():
            try:
                with open(port_file, encoding="ascii") as file:
                    return int(file.read() or 0) or None
            except FileNotFoundError:
                return None
        self.client = harness.Client(port, timeout=30)
        self.group, self.name, self.max, self.lease_ms, self.ack_every = group, name, max, lease_ms, ack_every
        self.stopping = False

    def call(self, what, body):
        """Repeats until answered: the daemon may be restarting."""
        while True:
            try:
                response = self.client.post(f"/v1/groups/{self.group}/{what}", body)
                if response.status == 200:
                    return response.json
                if response.status != 503:
                    sys.exit(f"{what}: {response}")
            except (NotSent, NoAnswer):
                pass
            if self.stopping and what == "claim":
                return {"deliveries": []}
            time.sleep(0.02)

    def run(self):
        while not self.stopping:
            deliveries = self.call("claim", {"consumer": self.name, "max": self.max, "wait_ms": 300,
                                             "lease_ms": self.lease_ms, "stream": "events", "start": "beginning"})["deliveries"]
            if deliveries:
                print(f"claimed {len(deliveries)}", flush=True)
            worked = []
            while deliveries and not self.stopping:
                delivery = deliveries.pop(0)
                if delivery["event"]["id"] == POISON:
                    os.kill(os.getpid(), signal.SIGKILL)
                worked.append(delivery["lease"])
                if len(worked) == self.ack_every:
                    self.call("ack", {"leases": worked})
                    worked = []
            if worked:
                self.call("ack", {"leases": worked})
            if deliveries:
                self.call("release", {"leases": [d["lease"] for d in deliveries]})


def consume(port_file, group, name, max, lease_ms, ack_every):
    consumer = Consumer(port_file, group, name, int(max), int(lease_ms), int(ack_every))

    def stop(*_):
        consumer.stopping = True
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    consumer.run()


class Poison(harness.Case):
    def spawn(self, daemon, name, max=EVENTS, lease_ms=1000, ack_every=100):
        with open(os.path.join(daemon.folder, f"{name}.out"), "ab") as log:
            child = harness.spawn([sys.executable, __file__, "consume", daemon.port_file, "judge", name, str(max),
                                   str(lease_ms), str(ack_every)], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self.addCleanup(lambda: child.poll() is None and (child.kill(), child.wait()))
        self.starts[name] = self.starts.get(name, 0) + 1
        return child

    def stop(self, daemon, name, process):
        """SIGTERM, once it can be heard."""
        harness.wait_until(lambda: process.poll() is not None or self.output(daemon, name).count("ready") == self.starts[name], 20,
                           f"consumer {name} is up")
        process.terminate()

    @staticmethod
    def output(daemon, name):
        with open(os.path.join(daemon.folder, f"{name}.out"), encoding="utf-8") as file:
            return file.read().splitlines()

    def start(self):
        self.starts = {}
        daemon = self.daemon()
        daemon.port_file = os.path.join(daemon.folder, "port")
        self.announce(daemon)
        return daemon

    @staticmethod
    def announce(daemon):
        with open(daemon.port_file + ".new", "w", encoding="ascii") as file:
            file.write(str(daemon.port))
        os.rename(daemon.port_file + ".new", daemon.port_file)

    def through_the_poison(self, names, ack_every, keys):
        daemon = self.start()
        client = daemon.client()
        extra = (lambda n: {"partitionkey": f"k{n % keys}"}) if keys else (lambda n: {})
        results = client.publish(*[harness.event(f"event-{n}", **extra(n)) for n in range(EVENTS)])
        self.assertEqual({r["status"] for r in results}, {"stored"})
        processes = {name: self.spawn(daemon, name, ack_every=ack_every) for name in names}
        deaths = 0
        end = time.monotonic() + 120

        def group():
            response = client.get("/v1/groups/judge")
            return response.json if response.status == 200 else None
        while not (info := group()) or harness.lag_of(info) != (0, 0, 0):
            for name, process in processes.items():
                if process.poll() is not None:
                    self.assertEqual(process.returncode, -signal.SIGKILL, f"consumer {name} failed")
                    deaths += 1
                    processes[name] = self.spawn(daemon, name, ack_every=ack_every)
            self.assertLess(time.monotonic(), end, f"not through: {info}")
            time.sleep(0.05)
        dead = client.dead_letters("judge")
        self.assertEqual([letter["event"]["id"] for letter in dead], [POISON])
        self.assertIn("crash", dead[0]["reason"])
        info = client.group("judge")
        self.assertEqual(info["crashes"], 3, "only the poison is charged, max_crashes times")
        self.assertEqual(info["failures"], 0)
        self.assertEqual(info["processed"], EVENTS - 1)
        self.assertEqual(info["rejected"], 1)
        # The first death hit a claim of many and charges nobody; three lonely ones kill the event.
        self.assertGreaterEqual(deaths, 3)
        self.assertLessEqual(deaths, 3 + len(names))
        for name, process in processes.items():
            self.stop(daemon, name, process)
            self.assertEqual(process.wait(20), 0)
        return daemon

    def test_one_event_of_a_thousand_kills_its_consumer_each_time(self):
        daemon = self.through_the_poison(["worker"], ack_every=100, keys=0)
        self.assertEqual(self.output(daemon, "worker")[1], f"claimed {EVENTS}", "all were claimed together")

    def test_nothing_was_acknowledged_before_the_death_and_events_have_keys(self):
        self.through_the_poison(["worker"], ack_every=EVENTS + 1, keys=7)

    def test_three_consumers_share_the_work(self):
        self.through_the_poison(["one", "two", "three"], ack_every=10, keys=0)

    def test_fifty_graceful_restarts_under_load_charge_nobody(self):
        daemon = self.start()
        stop = threading.Event()
        published, problems = [], []

        def publish():
            client = daemon.client(timeout=20)
            number = 0
            while not stop.is_set():
                events = [harness.event(f"load-{number}-{n}", partitionkey=f"k{n}") for n in range(10)]
                body = harness.json.dumps(events)
                while True:  # the daemon may be restarting: the same ids again
                    try:
                        response = client.post("/v1/streams/events/events", body,
                                               headers={"Content-Type": "application/cloudevents-batch+json"})
                    except (NotSent, NoAnswer):
                        time.sleep(0.01)
                        continue
                    if response.status == 200:
                        published.extend(event["id"] for event in events)
                        break
                    if response.status != 503:
                        problems.append(repr(response))
                        return
                number += 1
                time.sleep(0.01)
        names = ["one", "two", "three"]
        processes = {name: self.spawn(daemon, name, max=50, lease_ms=20_000, ack_every=7) for name in names}
        publisher = threading.Thread(target=publish, daemon=True)
        publisher.start()
        try:
            for turn in range(50):
                time.sleep(self.random.random() * 0.2)
                name = names[turn % len(names)]
                self.stop(daemon, name, processes[name])
                self.assertEqual(daemon.terminate(), 0, f"SIGTERM under load: exit code\n{daemon.log()[-2000:]}")
                daemon.start()
                self.announce(daemon)
                self.assertEqual(processes[name].wait(20), 0)
                processes[name] = self.spawn(daemon, name, max=50, lease_ms=20_000, ack_every=7)
        finally:
            stop.set()
            publisher.join(20)
        self.assertEqual(problems, [])
        client = daemon.client()
        harness.wait_until(lambda: harness.lag_of(client.group("judge")) == (0, 0, 0), 30, "the group is through")
        info = client.group("judge")
        self.assertEqual((info["failures"], info["crashes"], info["rejected"]), (0, 0, 0), info)
        self.assertEqual(client.dead_letters("judge"), [])
        self.assertEqual(info["processed"], len(published), "each event settled once")
        self.assertGreater(len(published), 500, "there was load")
        for name, process in processes.items():
            self.stop(daemon, name, process)
            self.assertEqual(process.wait(20), 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["consume"]:
        consume(*sys.argv[2:])
    else:
        harness.main()
