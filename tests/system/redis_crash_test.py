# SPDX-License-Identifier: Apache-2.0
"""The crash test on Redis: SIGKILL hits the daemon, the redis-server (`appendfsync always`), or both at once.

The journal and its judge are those of crash_test.py; what was left behind is read from the server by a client of
Python's own.

    redis_crash_test.py [--rounds N]      N kills, default MILLRACE_CRASH_ROUNDS or 20
"""

import collections
import os
import sys
import time

import crash_test
import harness


class RedisKiller(crash_test.Killer):
    def __init__(self, world):
        super().__init__(world)
        self.server = harness.RedisServer(folder=world.folder)
        world.daemon.store = self.server.url()

    def start(self):
        self.server.start()
        super().start()

    def round(self):
        kind = self.chance.random()
        if kind < 0.4:
            super().round()
            return
        self.world.journal.write("kill redis-server")
        self.server.kill()
        if kind < 0.6:  # once more while it is reading its file
            self.server.spawn()
            time.sleep(self.chance.random() * 0.1)
            self.server.kill()
        if kind > 0.8:
            self.world.journal.write("kill")
            self.world.daemon.kill()
        else:
            time.sleep(self.chance.random() * 0.3)
        self.server.start()
        if kind > 0.8:
            self.world.daemon.start()
        self.world.journal.write("up")

    def examine(self, issued):
        complaints = []
        if self.server.process.poll() is not None:
            return [f"redis-server ended with {self.server.process.returncode}"]
        entries = self.server.ask("XRANGE", "events:all:stream", "-", "+")
        ids = collections.Counter()
        for _, words in entries:
            fields = dict(zip(words[::2], words[1::2]))
            ids[fields[b"id"].decode()] += 1
        for id in issued:
            if ids[id] != 1:
                complaints.append(f"{id} is {ids[id]} times in the stream")
        if len(ids) != len(issued):
            complaints.append(f"the stream holds {len(ids)} events, {len(issued)} were issued")
        for group in self.server.ask("XINFO", "GROUPS", "events:all:stream"):
            told = dict(zip(group[::2], group[1::2]))
            if told[b"name"] == crash_test.GROUP.encode() and told[b"pending"] != 0:
                complaints.append(f"the native group shows {told[b'pending']} pending events, and there are none")
        self.server.terminate()
        return complaints[:20]


if __name__ == "__main__":
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("MILLRACE_CRASH_ROUNDS") or 20))
    rounds = parser.parse_args().rounds
    if missing := harness.RedisServer.missing():
        print(f"{missing} is missing" + (", and CI must have it" if harness.IN_CI else ": skipped"))
        sys.exit(1 if harness.IN_CI else 77)  # 77: ctest shows it as skipped
    crash_test.main(rounds, RedisKiller)
