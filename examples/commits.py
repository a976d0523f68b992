#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the commits that `./dev run` published, per author and per day, through the durable group `commits`.

Only what the group had not acknowledged before is delivered, so a second run counts what is new since the first.
"""
import collections
import json
import os
import sys
import urllib.error
import urllib.request

URL = os.environ.get("MILLRACE_URL", "http://127.0.0.1:8420")
GROUP = f"{URL}/v1/groups/commits"
CLAIM = {"consumer": "commits.py", "max": 500, "wait_ms": 500, "stream": "events", "start": "beginning", "types": ["git.commit"]}


def call(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {json.load(error).get('detail')}")


def drawn(title: str, counts: collections.Counter, rows: list) -> None:
    longest = max(counts.values())
    print(f"\n{title}")
    for name in rows:
        bar = "#" * max(1, round(30 * counts[name] / longest))
        print(f"  {counts[name]:5}  {bar:30}  {name}")


def main() -> None:
    authors, days = collections.Counter(), collections.Counter()
    while deliveries := call(f"{GROUP}/claim", CLAIM)["deliveries"]:
        for delivery in deliveries:
            commit = delivery["event"]["data"]
            authors["".join(c if c.isprintable() else "?" for c in commit["author"])] += 1
            days[commit["date"][:10]] += 1
        call(f"{GROUP}/ack", {"leases": [delivery["lease"] for delivery in deliveries]})
    if authors:
        drawn("commits per author", authors, [name for name, _ in authors.most_common(10)])
        drawn("commits per day", days, sorted(days)[-14:])
    print(f"\n{sum(authors.values())} new; the group has acknowledged {call(GROUP)['processed']} in all")


if __name__ == "__main__":
    main()
