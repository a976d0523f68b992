# SPDX-License-Identifier: Apache-2.0
"""Makes a golden store: a small file with something of everything in it, and what a program must find there.

    make_golden.py PROGRAM FOLDER        FOLDER is new: tests/system/data/golden/<version>-format<n>

It speaks to PROGRAM over its command line and HTTP only, so that it works with every version that has been released.
When a release adds something that is kept in the file, add it here first. See data/golden/README.md.
"""

import gzip
import json
import os
import re
import sqlite3
import subprocess
import sys
import time

import harness

LONG_MS = 86_400_000
FAR_MS = 900_000_000

# What changes by itself, or says when somebody looked.
VOLATILE = {"last_seen", "oldest_seconds", "lease_until", "next_try"}


def without_volatile(value):
    if isinstance(value, dict):
        return {name: without_volatile(member) for name, member in value.items() if name not in VOLATILE}
    if isinstance(value, list):
        return [without_volatile(member) for member in value]
    return value


def look(client):
    """Everything that is checked, as the API says it."""
    streams = client.ok("GET", "/v1/streams")["streams"]
    groups = client.ok("GET", "/v1/groups")["groups"]
    return without_volatile({
        "streams": streams,
        "events": {s["name"]: client.read(s["name"]) for s in streams},
        "groups": groups,
        "pending": {g["name"]: client.pending(g["name"]) for g in groups},
        "dead_letters": {g["name"]: client.dead_letters(g["name"]) for g in groups},
    })


def metrics_of(client):
    """Each metric as "name type" and, with labels, "name{label,label}"."""
    found = set()
    for line in client.get("/metrics").body.decode().splitlines():
        if line.startswith("# TYPE "):
            found.add(line[len("# TYPE "):])
        elif not line.startswith("#") and "{" in line:
            name, labels = line.rsplit("}", 1)[0].split("{", 1)
            found.add(name + "{" + ",".join(sorted(re.findall(r"(\w+)=", labels))) + "}")
    return sorted(found)


def events():
    """One event of each kind, then some with keys."""
    yield harness.event("everything", source="https://golden.example/%C3%BC?a=b#c", type="golden.everything", subject="a subject ü",
                        time="2026-01-02T03:04:05.678901Z", datacontenttype="application/json",
                        dataschema="https://golden.example/schema", partitionkey="key one", correlationid="c-1",
                        causationid="cause-1", tenantid="tenant 1", dataversion=2, truth=True, number=-7, text="é \" \\ 𐍈",
                        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", data={"n": [1, None, "ü"]})
    yield harness.event("binary", type="golden.binary", datacontenttype="application/octet-stream",
                        data_base64="AAECA/8A/w==")
    yield harness.event("empty", type="golden.empty", datacontenttype="application/octet-stream", data_base64="")
    yield harness.event("none", type="golden.none")
    yield harness.event("text", type="golden.text", datacontenttype="text/plain", data="ein Text\n")
    yield harness.event("large", type="golden.large", datacontenttype="text/plain", data="golden " * 900)
    for number in range(24):
        yield harness.event(f"keyed-{number}", source="/golden", type=f"golden.keyed.{'ab'[number % 2]}",
                            subject=f"key {number % 5}", tenantid=f"tenant {number % 3}", data=str(number),
                            datacontenttype="text/plain")


def fill(daemon):
    client = daemon.client()
    client.ok("GET", "/health")
    if client.post("/v1/streams", {"name": "golden.third"}).status != 201:
        sys.exit("no third stream")
    client.publish(*events())
    client.publish(*[harness.event(f"log-{n}", type="golden.log", data={"line": n}) for n in range(5)], stream="logs")
    client.publish(harness.event("other", type="golden.other"), stream="golden.third")

    def group(name, start="beginning", stream="events", **more):
        answer = client.post("/v1/groups", {"name": name, "stream": stream, "start": start, **more})
        assert answer.status == 201, answer

    group("acked")
    client.settle("acked", "ack", client.claim("acked", max=9))
    group("held")
    client.settle("held", "ack", client.claim("held", max=3))
    assert len(client.claim("held", consumer="holder", max=4, lease_ms=LONG_MS)) == 4
    group("crashed", types=["golden.keyed.*"])
    client.claim("crashed", consumer="crasher", max=1, lease_ms=200)
    time.sleep(0.3)
    client.claim("crashed", consumer="crasher", max=1, lease_ms=200)
    time.sleep(0.3)
    group("suspected", order="none")
    client.claim("suspected", consumer="crasher", max=5, lease_ms=200)
    time.sleep(0.3)
    group("retried")
    client.settle("retried", "retry", client.claim("retried", max=3), after_ms=FAR_MS, reason="later, please")
    group("parked", types=["golden.keyed.a", "golden.keyed.b"])
    client.settle("parked", "retry", client.claim("parked", max=1), after_ms=FAR_MS, reason="it blocks its key")
    client.settle("parked", "ack", client.claim("parked", max=12))
    group("dead")
    client.settle("dead", "reject", client.claim("dead", max=4), reason="no use ü")
    first = client.dead_letters("dead")[0]["position"]
    client.ok("POST", "/v1/groups/dead/dead-letters/redrive", {"positions": [first]})
    group("paused")
    client.ok("POST", "/v1/groups/paused/pause")
    group("skipper")
    skipped = client.claim("skipper", max=2, lease_ms=LONG_MS)
    client.ok("POST", "/v1/groups/skipper/skip", {"position": skipped[0]["position"]})
    group("by-attribute", start="7", order="attribute:tenantid", types=["golden.keyed.*", "golden.{a,b}*"])
    client.settle("by-attribute", "ack", client.claim("by-attribute", max=2))
    group("from-time", start="2026-01-01T00:00:00Z")
    group("at-end", start="end", order="none")
    group("of-logs", stream="logs")
    client.settle("of-logs", "ack", client.claim("of-logs", max=2))
    # By a claim, with settings of its own: it expires when nobody comes.
    client.claim("by-claim", stream="golden.third", start="beginning", lease_ms=LONG_MS)

    # Since format 2. A program from before answers 404 or 405.
    for method, path, body in (("POST", "/v1/streams/golden.third/retention", {"max_events": 1000, "max_age_s": 10**9}),
                               ("POST", "/v1/streams/logs/trim", {"up_to": "1"}),
                               ("DELETE", "/v1/streams/events/events?id=large&source=/judge", None),
                               ("POST", "/v1/groups/of-logs/seek", {"to": "beginning"})):
        answer = client.request(method, path, body)
        assert answer.status in (200, 404, 405), answer

    # Positions that were reserved and not used: those behind a kill.
    answer = client.post("/v1/streams/events/events?durability=relaxed", json.dumps([harness.event("relaxed")]),
                         headers={"Content-Type": "application/cloudevents-batch+json"})
    assert answer.status == 200, answer
    daemon.kill()
    daemon.start()
    client.publish(harness.event("behind the kill"))


def config_of(program, folder):
    """A configuration with every key this program knows, each with the example its documentation gives."""
    docs = subprocess.run([program, "config", "docs"], capture_output=True, text=True, check=True).stdout
    lines, keys = [], 0
    for line in docs.splitlines():
        section = re.match(r"## (\[+[a-z_.]+\]+)", line)
        row = re.match(r"\| `(\w+)` \|.*\| `(.*)` \|$", line)
        if section:
            lines += ["", section[1]]
        elif row:
            value = '"golden secret"' if "; secret |" in line else row[2].replace("\\|", "|")
            lines.append(f"{row[1]} = {value}")
            keys += 1
    path = os.path.join(folder, "millrace.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("# SPDX-License-Identifier: Apache-2.0\n# Every key of its time.\n" + "\n".join(lines).lstrip("\n") + "\n")
    code, out, err = harness.run("config", "check", "--config", path, program=program)
    if code != 0:
        sys.exit(f"{path}: {out}{err}")
    return keys


def main(program, folder):
    harness.PROGRAM = program
    os.makedirs(folder)
    daemon = harness.Daemon().start()
    fill(daemon)
    daemon.restart()
    expected = look(daemon.client())
    expected["metrics"] = metrics_of(daemon.client())
    if daemon.terminate() != 0:
        sys.exit("the daemon did not stop well")
    connection = sqlite3.connect(f"file:{daemon.path}?mode=ro", uri=True)
    expected["format"] = connection.execute("PRAGMA user_version").fetchone()[0]
    expected["skipped"] = connection.execute("SELECT count(*) FROM skipped").fetchone()[0]
    connection.close()
    assert expected["skipped"] > 0
    expected["program"] = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    with open(daemon.path, "rb") as file, open(os.path.join(folder, "events.db.gz"), "wb") as out:
        out.write(gzip.compress(file.read(), 9, mtime=0))
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump(expected, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")
    keys = config_of(program, folder)
    print(f"{folder}: format {expected['format']}, {len(expected['groups'])} groups, {keys} keys")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
