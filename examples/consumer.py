# SPDX-License-Identifier: Apache-2.0
"""A durable consumer in Python: what it has acknowledged never comes again, what it has not comes again after 30 s."""
import json, os, urllib.request

URL = os.environ.get("MILLRACE_URL", "http://127.0.0.1:8420")
GROUP = f"{URL}/v1/groups/readme"


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


claim = {"consumer": "me", "max": 100, "wait_ms": 1000, "stream": "events", "start": "beginning"}
while deliveries := post(f"{GROUP}/claim", claim)["deliveries"]:
    for delivery in deliveries:
        event = delivery["event"]
        print(delivery["position"], event["type"], event.get("subject"), event.get("data"))
    post(f"{GROUP}/ack", {"leases": [delivery["lease"] for delivery in deliveries]})
