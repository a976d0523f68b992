# SPDX-License-Identifier: Apache-2.0
"""A redis-server killed in the middle of a write leaves a torn transaction at the end of its file of commands.

Redis 7.0 with `aof-load-truncated yes` cuts such a file within the transaction: the start after the next one executes what
is left of it (valkey-io/valkey pull request 4342 describes and mends it). docs/stores.md says what to do about it; here is
that it helps, and that the daemon says so.
"""

import glob
import json
import os

import harness
from harness import event

LOG = "events:all:stream"


class TornFile(harness.Case):
    def tear(self):
        """Cuts the file in the middle of its last transaction, as a kill in the middle of a write does."""
        (path,) = glob.glob(os.path.join(self.server.data, "appendonlydir", "*.incr.aof"))
        with open(path, "rb") as file:
            text = file.read()
        begin = text.rindex(b"MULTI\r\n")
        cut = text.rindex(b"XADD\r\n") + 20
        self.assertGreater(cut, begin, "the last transaction appended")
        os.truncate(path, cut)

    def stored_ids(self):
        found = []
        for _, words in self.server.ask("XRANGE", LOG, "-", "+"):
            found.append(dict(zip(words[::2], words[1::2]))[b"id"].decode())
        return found

    def test_what_was_cut_off_does_not_come_back(self):
        self.server = self.redis()
        daemon = self.daemon(store=self.server.url())
        client = daemon.client()
        client.publish(event("before"))
        client.claim("g", max=1, stream="events", start="beginning")
        torn = [event(f"torn-{n}") for n in range(5)]
        client.publish(*torn)
        daemon.kill()  # so that its own writes are not what stands last in the file
        self.server.kill()
        self.tear()
        self.server.start()
        self.assertEqual(self.stored_ids(), ["before"])
        client = self.daemon(store=self.server.url()).client()
        self.assertEqual([r["status"] for r in client.publish(*torn)], ["stored"] * 5)
        for _ in range(2):
            self.server.terminate()
            self.server.start()
            self.assertEqual(self.stored_ids(), ["before"] + [e["id"] for e in torn])

    def test_a_server_that_would_load_it_is_warned_of(self):
        self.server = self.redis()
        daemon = self.daemon(store=self.server.url())
        self.assertNotIn("aof-load-truncated", daemon.log())
        self.server.ask("CONFIG", "SET", "aof-load-truncated", "yes")
        daemon = self.daemon(store=self.server.url())
        (line,) = [json.loads(line) for line in daemon.log().splitlines() if "aof-load-truncated" in line]
        self.assertEqual((line["level"], line["code"]), ("warn", "server_settings"))
        self.assertIn("redis-check-aof --fix", line["message"])


if __name__ == "__main__":
    harness.main()
