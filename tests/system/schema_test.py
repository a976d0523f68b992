# SPDX-License-Identifier: Apache-2.0
"""Old events, today's consumers: schema versions through the daemon, the command line and docs/schemas.md."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import textwrap
import threading

import harness
from harness import Case, event, run, wait_until

DOCUMENT = (harness.CHECKOUT / "docs/schemas.md").read_text(encoding="utf-8")

ASSET = event("a1", "asset.discovered", data={"asset_id": "abc123", "path": "/x.jpg"})
QUALITY = event("q1", "quality.assessed", data={"asset_id": "abc123", "score": 71.5})
NEW_ASSET = {"asset_id": "abc123", "file_path": "/x.jpg", "tags": []}
NEW_QUALITY = {"asset_id": "abc123", "score": 71.5, "provider": "brisque", "confidence": 0.8}


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return found


def write(folder, text, name="millrace.toml"):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    return path


class Schemas(Case):
    def configured(self, text, **options):
        folder = options.pop("folder", None) or harness.temp_folder()
        return self.daemon("--config", write(folder, text), folder=folder, **options)

    def test_the_guides_examples_come_in_their_new_shape(self):
        client = self.configured(block("toml")).client()
        client.publish(ASSET, QUALITY, event("o1", "other", data=[1]))
        deliveries = client.claim("g", stream="events", start="beginning")
        self.assertEqual([d["event"]["data"] for d in deliveries], [NEW_ASSET, NEW_QUALITY, [1]])
        self.assertEqual([d["event"].get("dataversion") for d in deliveries], [2, 2, None])
        self.assertEqual([e["data"] for _, e in client.read()], [NEW_ASSET, NEW_QUALITY, [1]])
        stored = client.ok("GET", "/v1/streams/events/events?upcast=false")["events"]
        self.assertEqual(stored[0]["event"]["data"], ASSET["data"])
        self.assertNotIn("dataversion", stored[0]["event"])

    def test_numbers_keep_their_digits(self):
        client = self.configured(block("toml")).client()
        data = '{"path":"/x","n":12345678901234567890123,"d":1.10}'
        client.ok("POST", "/v1/streams/events/events", data, headers={
            "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/judge", "ce-type": "asset.discovered",
            "Content-Type": "application/json"})
        (line,) = client.get("/v1/streams/events/events", headers={"Accept": "application/x-ndjson"}).body.splitlines()
        self.assertIn(b'"data":{"file_path":"/x","n":12345678901234567890123,"d":1.10,"tags":[]}', line)

    def test_what_fails_is_never_shown_to_a_consumer_and_marked_for_a_reader(self):
        client = self.configured(block("toml") + '\n[delivery]\nmax_attempts = 1\n').client()
        client.publish(event("bad", "asset.discovered", data=["no object"]), ASSET,
                       event("new", "asset.discovered", data={}, dataversion=9))
        deliveries = client.claim("g", stream="events", start="beginning")
        self.assertEqual([d["event"]["id"] for d in deliveries], ["a1"])
        letters = {letter["event"]["id"]: letter["reason"] for letter in client.dead_letters("g")}
        self.assertIn("the step from version 1 to 2 failed", letters["bad"])
        self.assertIn("the event has version 9, newer than", letters["new"])
        shown = {e["id"]: e for _, e in client.read()}
        self.assertIn("is not an object", shown["bad"]["upcasterror"])
        self.assertEqual(shown["bad"]["data"], ["no object"])
        self.assertIn("newer than", shown["new"]["upcasterror"])
        self.assertNotIn("upcasterror", shown["a1"])

    def test_a_waiting_claim_is_up_to_date_too(self):
        daemon = self.configured(block("toml"))
        client = daemon.client()
        client.claim("g", stream="events", start="beginning")
        got = []
        thread = threading.Thread(target=lambda: got.extend(daemon.client().claim("g", wait_ms=20_000)))
        thread.start()
        wait_until(lambda: client.ok("GET", "/v1/stats")["server"]["waiting_claims"] == 1)
        client.publish(ASSET)
        thread.join()
        self.assertEqual(got[0]["event"]["data"], NEW_ASSET)

    def test_tails_show_the_new_shape_or_the_stored_one(self):
        daemon = self.configured(block("toml"))
        daemon.client().publish(ASSET, event("bad", "asset.discovered", data=1))
        base = ["tail", "--url", daemon.url, "--json", "--after", "beginning", "--limit", "2"]
        for follow in ([], ["--no-follow"]):
            code, out, err = run(*base, *follow)
            self.assertEqual(code, 0, err)
            first, second = [json.loads(line)["event"] for line in out.splitlines()]
            self.assertEqual((first["data"], first["dataversion"]), (NEW_ASSET, 2))
            self.assertEqual(second["data"], 1)
            self.assertIn("upcasterror", second)
            code, out, err = run(*base, *follow, "--as-stored")
            self.assertEqual(json.loads(out.splitlines()[0])["event"]["data"], ASSET["data"])

    def test_a_step_in_a_program_refuses_the_claim_until_something_is_done(self):
        daemon = self.configured(block("toml") + '\n[[schema]]\ntype = "asset.discovered"\nversion = 3\nupcast = "program"\n')
        client = daemon.client()
        client.publish(QUALITY, ASSET)
        refused = client.post("/v1/groups/g/claim", {"consumer": "c", "stream": "events", "start": "beginning"})
        self.assertEqual((refused.status, refused.json["code"], refused.json["object"]),
                         (409, "upcast_failed", "asset.discovered"))
        for part in ("position 2", "from version 2 to 3", "declare it as [[schema]]", "max_dataversion = 2"):
            self.assertIn(part, refused.json["detail"])
        group = client.group("g")
        self.assertEqual((group["lag"]["in_flight"], group["failures"], group["dead"]), (0, 0, 0))
        shown = dict((e["id"], e) for _, e in client.read())
        self.assertIn("C++ program", shown["a1"]["upcasterror"])

        code, _, err = run("groups", "set", "g", "--max-dataversion", 2, "--url", daemon.url)
        self.assertEqual(code, 0, err)
        self.assertEqual([d["event"]["data"] for d in client.claim("g")], [NEW_QUALITY, NEW_ASSET])

    def test_a_step_that_no_program_has_any_more_is_forgotten(self):
        daemon = self.daemon()
        client = daemon.client()
        client.publish(event("o1", "other", data=[1]))
        self.assertEqual(daemon.terminate(), 0)
        with contextlib.closing(sqlite3.connect(daemon.path)) as store, store:  # as a program records it
            store.execute("INSERT INTO key_value (key, value, version) VALUES ('millrace/schema/other/1', x'', 1)")
        daemon.start()
        refused = client.post("/v1/groups/g/claim", {"consumer": "c", "stream": "events", "start": "beginning"})
        self.assertEqual((refused.status, refused.json["object"]), (409, "other"))
        for path in ("/v1/schemas?type=other", "/v1/schemas?from=1", "/v1/schemas?type=other&from=0"):
            self.assertEqual(client.delete(path).status, 400, path)
        code, out, err = run("schema", "forget", "other", 1, "--url", daemon.url)
        self.assertEqual(code, 0, err)
        self.assertIn("from version 1 to 2", out)
        self.assertEqual([d["event"]["data"] for d in client.claim("g")], [[1]])
        self.assertEqual(client.ok("GET", "/v1/schemas"), {"schemas": []})
        code, _, err = run("schema", "forget", "other", 1, "--url", daemon.url)
        self.assertEqual(code, 5, err)

    def test_groups_are_pinned_when_they_are_made(self):
        daemon = self.configured(block("toml"))
        client = daemon.client()
        client.publish(ASSET)
        self.assertEqual(client.claim("old", stream="events", start="beginning", max_dataversion=1)[0]["event"]["data"],
                         ASSET["data"])
        self.assertEqual(client.group("old")["settings"]["max_dataversion"], 1)
        other = client.post("/v1/groups/old/claim", {"consumer": "c", "max_dataversion": 2})
        self.assertEqual((other.status, other.json["code"], other.json["object"]),
                         (409, "group_mismatch", "max_dataversion"))
        client.claim("old", max_dataversion=1)
        code, _, err = run("groups", "create", "cli", "--start", "beginning", "--max-dataversion", 1, "--url", daemon.url)
        self.assertEqual(code, 0, err)
        self.assertEqual(client.claim("cli")[0]["event"]["data"], ASSET["data"])
        client.ok("POST", "/v1/groups/cli/settings", {"max_dataversion": 0})
        self.assertIsNone(client.group("cli")["settings"]["max_dataversion"])
        self.assertEqual(client.post("/v1/groups/cli/settings", {}).status, 400)

    def test_verify_finds_the_gap_before_the_deploy(self):
        daemon = self.daemon()
        client = daemon.client()
        client.publish(*[event(f"a{i}", "asset.discovered", data={"path": "/x"}) for i in range(1500)])
        client.publish(event("clash", "asset.discovered", data={"path": 1, "file_path": 2}),
                       event("two", "asset.discovered", data={}, dataversion=2), QUALITY)
        new = write(daemon.folder, block("toml"), "new.toml")
        code, out, err = run("schema", "verify", "--config", new, "--url", daemon.url)
        self.assertEqual(code, 1, err)
        failure, summary = out.splitlines()
        for part in ("events 1501", "asset.discovered version 1", "clash", "rename /path to file_path"):
            self.assertIn(part, failure)
        self.assertEqual(summary, "1503 events: 1501 of an old version come through, 1 would fail")

        gap = write(daemon.folder, block("toml") + '\n[[schema]]\ntype = "quality.assessed"\nversion = 4\n', "gap.toml")
        code, out, err = run("schema", "verify", "--config", gap, "--types", "quality.*", "--stream", "events", "--json",
                             "--store", daemon.store)
        self.assertEqual(code, 1, err)
        failure, counts = [json.loads(line) for line in out.splitlines()]
        self.assertEqual((failure["position"], failure["id"], failure["version"]), ("1503", "q1", 1))
        self.assertIn("no step from version 2 to 3", failure["reason"])
        self.assertEqual(counts, {"ok": False, "events": 1, "upcast": 0, "failed": 1, "in_program": 0})

        program = write(daemon.folder, '[[schema]]\ntype = "quality.assessed"\nversion = 2\nupcast = "program"\n', "p.toml")
        code, out, err = run("schema", "verify", "--config", program, "--url", daemon.url)
        self.assertEqual(code, 0, err)
        self.assertIn("1 need a step that only a C++ program has", out)
        code, out, err = run("schema", "verify", "--config", os.path.join(daemon.folder, "none.toml"), "--url", daemon.url)
        self.assertEqual(code, 2, err)

    def test_the_configuration_is_checked_and_listed(self):
        daemon = self.configured(block("toml"))
        code, out, err = run("schema", "list", "--url", daemon.url, "--json")
        self.assertEqual(code, 0, err)
        listed = [(s["type"], s["version"], s["current"], s["upcast"]) for s in json.loads(out)["schemas"]]
        self.assertEqual(listed, [("asset.discovered", 1, False, "none"), ("asset.discovered", 2, True, "declared"),
                                  ("quality.assessed", 1, False, "none"), ("quality.assessed", 2, True, "declared")])
        config = os.path.join(daemon.folder, "millrace.toml")
        self.assertEqual(json.loads(run("schema", "list", "--config", config, "--json")[1]), json.loads(out))
        self.assertIn("rename /path to file_path; add /tags = []", run("schema", "list", "--config", config)[1])
        code, out, _ = run("config", "show", "--config", config)
        self.assertIn("schema[1].upcast", out)
        bad = write(daemon.folder, '[[schema]]\ntype = "a"\nversion = 2\nupcast = [{rename = "path", to = "p"}]\n', "bad.toml")
        code, _, err = run("config", "check", "--config", bad)
        self.assertEqual(code, 2)
        self.assertIn("bad.toml:1", err)
        self.assertIn("is not a JSON Pointer", err)


class Document(Case):
    def test_its_commands_work(self):
        daemon = self.daemon()
        daemon.client().publish(ASSET, QUALITY)
        write(daemon.folder, block("toml"), "new.toml")
        env = harness.clean_environment(daemon.folder, MILLRACE_URL=daemon.url)
        env["PATH"] = os.path.dirname(harness.PROGRAM) + ":" + env["PATH"]
        done = subprocess.run(["sh", "-euc", block("sh")], capture_output=True, text=True, timeout=60, env=env, cwd=daemon.folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("2 of an old version come through, 0 would fail", done.stdout)

    def test_its_cpp_is_the_example_which_prints_the_new_shapes(self):
        example = (harness.CHECKOUT / "examples/schemas.cpp").read_text(encoding="utf-8")
        begin, end = "// docs/schemas.md begins\n", "  // docs/schemas.md ends\n"
        shown = textwrap.dedent(example.split(begin)[1].split(end)[0])
        self.assertEqual(block("cpp"), shown)
        program = harness.BUILD / "bin/example_schemas"
        if not program.exists():
            self.refuse_or_skip(str(program))
        done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines(), [
            '{"asset_id":"abc123","file_path":"/x.jpg","tags":[]}',
            '{"asset_id":"def456","file_path":"/y.jpg","tags":["new"]}',
            '{"asset_id":"abc123","score":71.50,"provider":"brisque","confidence":0.8}'])


if __name__ == "__main__":
    harness.main()
