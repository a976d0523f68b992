# SPDX-License-Identifier: Apache-2.0
"""The persistence guide walked from outside: every block of docs/guides/001.md is run, in its order, against a daemon."""

import json
import os
import re
import shlex
import subprocess

import harness
from harness import event

TEXT = (harness.CHECKOUT / "docs/guides/001.md").read_text(encoding="utf-8")


def blocks(document):
    """(heading, language, text) of every block of a document."""
    found, heading = [], ""
    for match in re.finditer(r"^#+ ([^\n]*)$|^```(\w+)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL):
        if match[1] is not None:
            heading = match[1]
        else:
            found.append((heading, match[2], match[3]))
    return found


class ByTheGuide(harness.Daemon):
    """The daemon as the document starts it."""
    text = TEXT

    def __init__(self, folder):
        super().__init__(folder)
        ((_, _, toml),) = [block for block in blocks(self.text) if block[1] == "toml"]
        with open(os.path.join(folder, "guide.toml"), "w", encoding="utf-8") as out:
            out.write(toml)
        self.env["MILLRACE_SERVER_LISTEN"] = "127.0.0.1:0"
        self.path = os.path.join(folder, ".alicemultiverse/events.db")

    def command(self):
        ((_, _, start),) = [block for block in blocks(self.text) if block[1] == "sh"]
        start = start.replace("millrace serve", f"exec {shlex.quote(harness.PROGRAM)} serve")
        return ["bash", "-euc", f"cd {shlex.quote(self.folder)}\n{start}"]


class Walking:
    """A document run block by block; `after_<heading>_<language>` says what must be so after a block."""
    text = None

    def by_the_guide(self, folder):
        """Its daemon, not started."""
        raise NotImplementedError

    def its_store_is_where_it_was_said(self, daemon):
        raise NotImplementedError

    def environment(self, folder, url):
        env = harness.clean_environment(folder, MILLRACE_URL=url)
        env["PATH"] = os.path.dirname(harness.PROGRAM) + ":" + env["PATH"]
        return env

    def test_every_block_in_its_order(self):
        folder = harness.temp_folder()
        daemon = self.by_the_guide(folder).start()
        self.addCleanup(daemon.__exit__)
        self.its_store_is_where_it_was_said(daemon)
        url = f"http://127.0.0.1:{daemon.port}"
        self.env, self.folder, self.client, self.names = self.environment(folder, url), folder, daemon.client(), {}
        ran = []
        for heading, language, text in blocks(self.text):
            text = text.replace("http://127.0.0.1:8420", url)
            if language == "bash":
                said = self.shell(heading, text)
            elif language == "python":
                exec(text, self.names)  # pylint: disable=exec-used
                said = None
            else:
                self.assertIn(language, ("sh", "toml", "bash", "python"))
                continue
            check = getattr(self, "after_" + re.sub(r"[^a-z]+", "_", f"{heading.lower()} {language}").strip("_"), None)
            if check:
                ran.append(check.__name__)
                check(said)
        self.assertEqual(set(ran), {name for name in dir(self) if name.startswith("after_")}, "every check ran")
        self.assertEqual(daemon.terminate(), 0, daemon.log())

    def shell(self, heading, text):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60, env=self.env, cwd=self.folder)
        self.assertEqual(done.returncode, 1 if text == "millrace status\n" else 0, f"{heading}: {text}\n{done.stdout}")
        return done.stdout


class Walk(Walking, harness.Case):
    text = TEXT

    def by_the_guide(self, folder):
        return ByTheGuide(folder)

    def its_store_is_where_it_was_said(self, daemon):
        self.assertTrue(os.path.exists(daemon.path), "EVENT_STORE_PATH names the file")

    def after_configuration_bash(self, said):
        self.assertIn("abc123: stored at position 1 (durable)", said)
        self.assertIn("event abc123 from /scanner, type asset.discovered", said)
        (events,) = [s for s in self.client.ok("GET", "/v1/streams")["streams"] if s["name"] == "events"]
        self.assertEqual((events["retention"]["max_events"], events["retention"]["interval_s"]), (100_000, 24 * 3600))

    def after_persistent_subscriptions_bash(self, said):
        group = self.client.group("asset-processors")
        self.assertEqual((group["processed"], group["failures"], group["dead"], harness.lag_of(group)), (1, 3, 1, (0, 0, 0)))
        self.assertEqual(group["settings"]["retry"]["max_attempts"], 3)
        self.assertIn("gave up after 3 attempts: the image is torn", said)

    def after_event_versioning_bash(self, said):
        self.assertIn("rename /path to file_path; add /tags = []", said)
        shown, stored = said.splitlines()[-2:]
        self.assertIn('"file_path"', shown)
        self.assertIn('"path"', stored)

    def after_phase_enable_persistent_delivery_bash(self, said):
        self.assertIn("nothing is pending in group critical-processors", said)
        self.assertIn("1 would be handed to group critical-processors again", said)
        self.assertEqual(said.splitlines()[-1], "1 handed to group critical-processors again")

    def after_phase_enable_persistent_delivery_python(self, _):
        self.assertEqual(self.client.group("asset-processors")["dead"], 1, "a redrive is for one group")

    def after_phase_add_schema_versioning_bash(self, said):
        self.assertIn("3 events: 3 of an old version come through, 0 would fail", said)

    def after_event_replay_bash(self, said):
        self.assertIn("would replay 100 events of stream events", said)
        self.assertEqual(said.splitlines()[-1], "100")
        with open(os.path.join(self.folder, "replayed.ndjson"), encoding="utf-8") as lines:
            replayed = [json.loads(line) for line in lines]
        self.assertEqual([e["id"] for e in replayed], [f"p{n}" for n in range(1, 101)])
        self.assertEqual(len({e["replayid"] for e in replayed}), 1)
        for group in ("asset-processors", "critical-processors", "asset-index", "scores"):
            self.assertEqual(self.client.pending(group), [], "a replay to stdout is given to no group")

    def after_consumer_groups_python(self, _):
        group = self.client.group("workflow-executors")
        self.assertEqual((group["processed"], group["failures"], group["crashes"]), (30, 0, 0))

    def after_monitoring_bash(self, said):
        if "store.total_events" in said:
            self.assertRegex(said, r"store\.total_events +183\n")
            self.assertRegex(said, r"store\.dlq_events +1\n")
            self.assertIn("removed 0 events of stream events", said)
        else:
            self.assertIn("group asset-processors has 1 dead letters; look: millrace dlq list asset-processors", said)

    def after_troubleshooting_bash(self, said):
        self.assertIn("keeps 50000 events; every 6h", said)
        self.assertRegex(said, r"asset-processors +dead since .*: gave up after 3 attempts: the image is torn")
        self.assertRegex(said, r"critical-processors +settled (at|between) ")


class Operation(harness.Case):
    def test_the_backends_are_chosen_by_the_same_variables(self):
        folder = harness.temp_folder()
        daemon = harness.Daemon(folder, env={"EVENT_STORE_BACKEND": "memory", "MILLRACE_SERVER_LISTEN": "127.0.0.1:0"})
        daemon.command = lambda: [harness.PROGRAM, "serve"]
        daemon.start()
        self.addCleanup(daemon.__exit__)
        self.assertEqual(daemon.client().publish(event(1))[0]["durability"], "memory")
        code, out, err = harness.run("serve", folder=folder, env={"EVENT_STORE_BACKEND": "redis"})
        self.assertEqual((code, out), (2, ""))
        self.assertIn("REDIS_URL must name the server", err)

    def test_the_backend_is_redis(self):
        server = self.redis()
        daemon = harness.Daemon(env={"EVENT_STORE_BACKEND": "redis", "REDIS_URL": server.url(), "MILLRACE_SERVER_LISTEN": "127.0.0.1:0"})
        daemon.command = lambda: [harness.PROGRAM, "serve"]
        daemon.start()
        self.addCleanup(daemon.__exit__)
        self.assertEqual(daemon.client().publish(event(1))[0]["durability"], "durable")
        self.assertEqual(server.cli("XLEN", "events:all:stream"), "1")

    def test_pending_and_dead_letters_are_apart(self):
        c = self.daemon().client()
        c.publish(event(1), event(2), event(3))
        held = c.claim("g", stream="events", start="beginning")
        c.settle("g", "reject", held[:1], reason="no good")
        c.settle("g", "retry", held[1:2], after_ms=600_000, reason="not yet")
        self.assertEqual([d["event"]["id"] for d in c.dead_letters("g")], ["1"])
        self.assertEqual([(p["id"], p["state"], p["last_error"]) for p in c.pending("g")],
                         [("2", "waiting", "not yet"), ("3", "claimed", None)])
        store = c.ok("GET", "/v1/stats")["store"]
        self.assertEqual((store["total_events"], store["pending_events"], store["dlq_events"]), (3, 2, 1))

    def test_a_redrive_is_nobody_elses(self):
        c = self.daemon().client()
        c.publish(event(1))
        for group in ("a", "b"):
            c.settle(group, "reject", c.claim(group, stream="events", start="beginning"), reason="no good")
        c.settle("c", "ack", c.claim("c", stream="events", start="beginning"))
        self.assertEqual(c.ok("POST", "/v1/groups/a/dead-letters/redrive", {})["redriven"], 1)
        (again,) = c.claim("a")
        self.assertEqual((again["event"]["id"], again["attempt"], again["failures"]), ("1", 1, 0))
        self.assertNotIn("replayid", again["event"])
        self.assertEqual((c.claim("b"), c.claim("c"), len(c.dead_letters("b")), len(c.read())), ([], [], 1, 1))

    def test_the_scheduled_trim_keeps_what_was_asked_for(self):
        daemon = self.daemon()
        c = daemon.client()
        c.publish(*[event(n) for n in range(120)])
        code, _, err = harness.run("streams", "set", "events", "--max-events", "50", "--interval", "6h", "--url", daemon.url)
        self.assertEqual(code, 0, err)
        harness.wait_until(lambda: len(c.read()) == 50, what="the daemon trims by itself")


class Example(harness.Case):
    def test_it_keeps_its_promises_on_a_disk_and_in_memory(self):
        program = harness.BUILD / "bin/example_guide_001"
        if not program.exists():
            self.refuse_or_skip(str(program))
        folder = harness.temp_folder()
        for store in ([], ["memory:"]):
            done = subprocess.run([str(program), *store], capture_output=True, text=True, timeout=120,
                                  env=harness.clean_environment(folder, TMPDIR=folder))
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual(done.stdout.splitlines()[-1], "every promise holds")
            self.assertGreater(done.stdout.count("  holds  "), 40)
        self.assertEqual(os.listdir(folder), [], "it leaves nothing behind")
        for code in (0, 1):
            done = subprocess.run([str(program), f"{folder}/kept.db"], capture_output=True, text=True, timeout=120,
                                  env=harness.clean_environment(folder))
            self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertIn("name a new store", done.stderr)

    def test_its_headings_are_the_guides(self):
        example = (harness.CHECKOUT / "examples/guide_001.cpp").read_text(encoding="utf-8")
        shown = [heading.split(": ")[-1] if heading.startswith(("Code", "Trouble")) else re.sub(r"^[^,.]*?(, | \d\. )", "", heading)
                 for heading in re.findall(r'heading\("(.*?)"\)', example)]
        written = [re.sub(r"^\d\. ", "", heading) for heading in re.findall(r"^### (.*)$", TEXT, re.MULTILINE)]
        self.assertEqual(shown[:len(written)], written)
        self.assertEqual(shown[len(written):], ["Events Not Persisting", "High Memory Usage", "Lost Events"])


def check_names(case, document):
    """The traps of a document are numbered, and each names tests that exist."""
    table = document.split("## Traps")[1].split("\n## ")[0]
    rows = [row for row in table.splitlines() if re.match(r"\| \d+\. ", row)]
    case.assertEqual([int(row.split(".")[0][2:]) for row in rows], list(range(1, len(rows) + 1)))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in sorted((harness.CHECKOUT / "tests").rglob("*_test.cpp")))
    for row in rows:
        names = re.findall(r"`(\w+)\.(\w+)`", row.split(" | ")[2])
        case.assertTrue(names, row)
        for suite, name in names:
            if suite.endswith("_test"):
                text = (harness.CHECKOUT / f"tests/system/{suite}.py").read_text(encoding="utf-8")
                case.assertIn(f"def {name}(", text)
            else:
                case.assertIsNotNone(re.search(rf"^TEST(_[FP])?\({suite}, {name}\)", sources, re.MULTILINE), f"{suite}.{name}")
    return len(rows)


def check_links(case, document):
    for target in re.findall(r"\]\(([^)#:]+)[)#]", re.sub(r"```.*?```|`[^`\n]*`", "", document, flags=re.DOTALL)):
        case.assertTrue((harness.CHECKOUT / "docs/guides" / target).exists(), target)


class Document(harness.Case):
    def test_the_tests_it_names_exist(self):
        self.assertEqual(check_names(self, TEXT), 11)

    def test_its_links_lead_somewhere(self):
        check_links(self, TEXT)


if __name__ == "__main__":
    harness.main()
