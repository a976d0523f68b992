# SPDX-License-Identifier: Apache-2.0
"""docs/troubleshooting.md: every symptom is provoked, and what Millrace says then stands there word for word.

A section's ```text lines are messages: each must be said while its symptom is there, by what provokes it or by one of
the section's ```bash commands, which are all run in the same state. ```text FILE lines, which only a bad machine could
provoke, must stand in that source file.
"""

import gzip
import os
import re
import shutil
import socket
import sqlite3
import subprocess

import harness
from harness import event

ROOT = os.geteuid() == 0
TEXT = (harness.CHECKOUT / "docs/troubleshooting.md").read_text(encoding="utf-8")
EVENTS = "/v1/streams/events/events"
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


class Section:
    def __init__(self, text):
        self.heading, body = text.split("\n", 1)
        self.name = "test_" + re.sub(r"[^a-z]+", "_", self.heading.lower())
        self.messages, self.quoted, self.commands = [], [], []
        for language, source, block in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", body, re.MULTILINE | re.DOTALL):
            lines = block.splitlines()
            if language == "bash":
                self.commands += lines
            elif source:
                self.quoted += [(source, line) for line in lines]
            else:
                self.messages += lines


SECTIONS = {section.name: section for section in map(Section, re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:])}


def pattern(message):
    return "[^\n]*?".join(re.escape(part) for part in message.split("…"))


class Symptom(harness.Case):
    def setUp(self):
        super().setUp()
        self.folder = harness.temp_folder()
        self.section = SECTIONS[self._testMethodName]

    def serve(self, *args, **options):
        self.d = self.daemon(*args, folder=self.folder, **options)
        self.c = self.d.client()
        return self.c

    def config(self, text):
        path = os.path.join(self.folder, "millrace.toml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return ["--config", path]

    def millrace(self, *args, code=0):
        found, out, err = harness.run(*args, "--url", self.d.url)
        self.assertEqual(found, code, f"{args}: {out}{err}")
        return out + err

    def judge(self, *said, url=None, codes=(0, 1)):
        """Runs the section's commands and finds each of its messages in all that was said."""
        env = harness.clean_environment(self.folder, MILLRACE_URL=url or (self.d.url if hasattr(self, "d") else "http://127.0.0.1:9"))
        env["PATH"] = os.path.dirname(harness.PROGRAM) + ":" + env["PATH"]
        self.assertTrue(self.section.commands, "which command shows it?")
        everything = "\n".join(said)
        for command in self.section.commands:
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=env, cwd=self.folder)
            self.assertIn(done.returncode, codes, f"{command}: {done.stdout}{done.stderr}")
            everything += "\n" + done.stdout + done.stderr
        for message in self.section.messages:
            self.assertRegex(everything, pattern(message))
        for source, line in self.section.quoted:
            code = re.sub(r'"\s*\n\s*"', "", (harness.CHECKOUT / source).read_text(encoding="utf-8"))
            self.assertIn(line, code, source)

    def refusal(self, *args, **options):
        """What a daemon says that does not start."""
        daemon = harness.Daemon(harness.temp_folder(), args=args, **options)
        return daemon.refused()[1]

    # ── The three of the guide

    def test_events_not_persisting(self):
        self.serve().publish(event("42", data=1))
        said = [self.millrace("publish", "--type", "t", "--stream", "nowhere", code=5),
                self.millrace("publish", "--type", "test.happened", "--source", "/judge", "--id", "42", "--data", "2", code=4)]
        self.judge(*said)

    def test_high_memory_usage(self):
        self.serve().publish(*[event(n) for n in range(30)])
        self.judge()
        self.assertEqual([e["id"] for _, e in self.c.read()], [str(n) for n in range(20, 30)])

    def test_lost_events(self):
        self.serve().publish(event(1), event(2), event("42", type="order.placed"))
        for group, types in (("billing", "order.*"), ("mailer", "mail.*"), ("audit", "*")):
            self.millrace("groups", "create", group, "--start", "beginning", "--types", types)
        for _ in range(5):
            held = harness.wait_until(lambda: self.c.claim("billing", wait_ms=1000), what="it is handed out again")
            self.c.settle("billing", "retry", held, after_ms=1, reason="the handler says no")
        self.judge()

    # ── Publishing

    def test_nobody_answers(self):
        self.judge(codes=(3,))

    def certificate(self):
        if not shutil.which("openssl"):
            self.refuse_or_skip("openssl")
        cert, key = os.path.join(self.folder, "cert.pem"), os.path.join(self.folder, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", key, "-out", cert, "-subj", "/CN=millrace", "-addext", "subjectAltName=IP:127.0.0.1"],
                       check=True, capture_output=True)
        return cert, key

    def test_a_certificate_is_not_trusted(self):
        cert, key = self.certificate()
        self.serve("--server-tls-cert", cert, "--server-tls-key", key)
        self.judge(codes=(3,))
        self.millrace("--ca-file", cert, "status")

    def test_http_or_https(self):
        self.serve()
        code, _, err = harness.run("status", "--url", self.d.url.replace("http:", "https:"))
        self.assertEqual(code, 3)
        cert, key = self.certificate()
        self.serve("--server-tls-cert", cert, "--server-tls-key", key, store="memory:")
        self.judge(err, url=self.d.url.replace("https:", "http:"), codes=(2,))

    def test_an_event_is_refused(self):
        self.serve()
        path = os.path.join(self.folder, "large")
        with open(path, "wb") as file:
            file.write(b"x" * (1 << 20) + b"y")
        code, _, empty = harness.run("publish", "-", "--url", self.d.url, stdin='{"specversion": "1.0", "type": "", "source": "/shop"}')
        self.assertEqual(code, 4, empty)
        self.judge(self.millrace("publish", "--type", "t", "--data-file", path, code=4), empty)
        self.assertEqual(self.c.read(), [])

    def test_the_disk_is_full(self):
        if not ROOT:
            self.skipTest("mounting a tmpfs needs root")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", self.folder], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"cannot mount a tmpfs here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", self.folder])
        c = self.serve()
        c.publish(event(1))
        with open(os.path.join(self.folder, "ballast"), "wb") as file:
            file.write(b"x" * (shutil.disk_usage(self.folder).free - (1 << 20)))
        refused = harness.wait_until(lambda: (r := c.post(EVENTS, [event("no")], headers=BATCH)).status != 200 and r, what="refusal")
        self.assertEqual((refused.status, refused.json["code"], refused.json["retryable"]), (507, "store_full", True))
        self.judge(refused.json["detail"])

    def test_it_may_have_been_stored(self):
        shim = harness.BUILD / "lib/libmillrace_disk_shim.so"
        if not shim.exists():
            self.refuse_or_skip(str(shim))
        c = self.serve(env={"LD_PRELOAD": str(shim), "MILLRACE_SHIM_DIR": os.path.realpath(self.folder),
                            "MILLRACE_SHIM_FAIL_SYNC": ",".join(map(str, range(60, 64)))})
        for n in range(100):
            answer = c.post(EVENTS, [event(n)], headers=BATCH)
            if answer.status != 200:
                break
        self.assertEqual((answer.status, answer.json["code"], answer.json["retryable"], answer.json["ids"]),
                         (503, "outcome_unknown", True, [str(n)]))
        self.judge(answer.json["detail"], codes=(0, 1, 5))
        harness.wait_until(lambda: c.post(EVENTS, [event(n)], headers=BATCH).status == 200, what="it is taken again")
        self.assertEqual([e["id"] for _, e in c.read()].count(str(n)), 1)

    # ── The daemon does not start

    def test_the_store_is_owned_by_another_process(self):
        self.serve()
        said = self.refusal(store=self.d.store)
        self.assertIn(f"pid {self.d.pid};", said)
        self.judge(said)

    def test_the_port_is_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.judge(self.refusal("--server-listen", f"127.0.0.1:{other.getsockname()[1]}"), codes=(0, 127))

    def test_permission_denied(self):
        wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if ROOT else []
        if wrap and subprocess.run([*wrap, harness.PROGRAM, "--help"], capture_output=True).returncode != 0:
            self.skipTest("another user cannot run the program here")
        path = os.path.join(self.folder, "events.db")
        os.chmod(self.folder, 0o555)
        said = [self.refusal(store=f"sqlite:{path}", wrap=wrap)]
        os.chmod(self.folder, 0o777)
        with open(path, "wb"):
            os.chmod(path, 0o000)
        said.append(self.refusal(store=f"sqlite:{path}", wrap=wrap))
        os.chmod(path, 0o444)
        said.append(self.refusal(store=f"sqlite:{path}", wrap=wrap))
        os.chmod(path, 0o600)
        self.judge(*said)

    def test_not_a_store_or_damaged(self):
        path = os.path.join(self.folder, "events.db")
        said = []
        for content in (os.urandom(50_000), b""):
            with open(path, "wb") as file:
                file.write(content)
            said.append(self.refusal(store=f"sqlite:{path}"))
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE mine (x)")
        connection.commit()
        connection.close()
        self.judge(*said, self.refusal(store=f"sqlite:{path}"))

    def test_written_by_a_newer_millrace(self):
        self.serve()
        self.assertEqual(self.d.terminate(), 0)
        connection = sqlite3.connect(self.d.path)
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
        connection.close()
        self.judge(self.refusal(store=self.d.store))

    def test_written_by_an_older_millrace(self):
        path = os.path.join(self.folder, "events.db")
        with gzip.open(harness.CHECKOUT / "tests/system/data/golden/0.1-format1/events.db.gz") as golden, open(path, "wb") as out:
            shutil.copyfileobj(golden, out)
        self.judge(codes=(0, 1))
        self.assertEqual(harness.run("status", "--store", f"sqlite:{path}")[2], "")

    def test_the_configuration_is_refused(self):
        said = []
        for env in ({"MILLRACE_STORE_URL": "mysql://localhost"}, {"EVENT_STORE_BACKEND": "mongo"},
                    {"MILLRACE_SERVR_LISTEN": "127.0.0.1:1"}, {"MILLRACE_SERVER_LISTEN": "0.0.0.0:8420"}):
            code, out, err = harness.run("serve", env=env, folder=self.folder)
            self.assertEqual((code, out), (2, ""), err)
            said.append(err)
        self.assertEqual(os.listdir(self.folder), [], "nothing else was used instead")
        self.judge(*said)

    # ── Access

    def test_a_token_is_needed(self):
        self.serve("--server-token", "secret")
        self.judge()

    def test_a_web_page_is_refused(self):
        self.serve()
        self.judge()

    # ── Groups

    def test_a_claim_names_something_else(self):
        self.serve()
        self.millrace("groups", "create", "billing", "--types", "order.*")
        answer = self.c.post("/v1/groups/billing/claim", {"consumer": "c", "types": ["mail.*"]})
        self.assertEqual((answer.status, answer.json["code"], answer.json["object"]), (409, "group_mismatch", "types"))
        self.judge(answer.json["detail"])

    def test_a_group_is_not_there(self):
        self.serve()
        self.judge(codes=(0, 5))

    def test_a_group_is_stalled(self):
        self.serve(*self.config("[delivery]\nmax_parked = 2\n")).publish(*[event(n, subject="order-42") for n in range(9)])
        held = self.c.claim("billing", stream="events", start="beginning", max=1)
        self.c.settle("billing", "retry", held, after_ms=600_000, reason="the handler says no")
        self.assertEqual(self.c.claim("billing"), [])
        self.judge()

    def test_a_group_falls_behind(self):
        self.serve().publish(event(1), event(2))
        for group in ("billing", "audit"):
            self.millrace("groups", "create", group, "--start", "beginning")
        self.millrace("groups", "pause", "billing")
        self.assertEqual(self.d.terminate(), 0)
        connection = sqlite3.connect(self.d.path)  # status is patient for a minute, this test is not
        (table,) = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'events\\_1' ESCAPE '\\'").fetchone()
        connection.execute(f"UPDATE {table} SET stored_at = stored_at - 120000000")
        connection.commit()
        connection.close()
        self.d.start()
        self.judge()

    def test_dead_letters_grow(self):
        self.serve().publish(event(1), event(2))
        self.c.settle("billing", "reject", self.c.claim("billing", stream="events", start="beginning"), reason="the handler says no")
        self.judge()
        self.assertEqual(len(self.c.claim("billing")), 2)

    def test_an_event_cannot_be_brought_up_to_date(self):
        self.serve(*self.config('[delivery]\nmax_attempts = 1\n'
                                '[[schema]]\ntype = "asset.discovered"\nversion = 2\nupcast = [{rename = "/path", to = "file_path"}]\n'
                                '[[schema]]\ntype = "score.given"\nversion = 2\nupcast = "program"\n'))
        self.c.publish(event(1, type="asset.discovered", data={"path": "/a", "file_path": "/b"}))
        self.assertEqual(self.c.claim("billing", stream="events", start="beginning"), [])
        self.c.publish(event(2, type="score.given", data={}))
        answer = self.c.post("/v1/groups/billing/claim", {"consumer": "c"})
        self.assertEqual((answer.status, answer.json["code"]), (409, "upcast_failed"))
        self.judge(answer.json["detail"])

    def test_trimming_frees_nothing(self):
        self.serve().publish(*[event(n) for n in range(3)])
        self.millrace("groups", "create", "billing", "--start", "beginning")
        self.millrace("streams", "set", "events", "--max-events", "1")
        harness.wait_until(lambda: "beyond the retention" in self.d.log(), what="the log says it")
        self.judge(self.d.log())
        self.assertEqual(len(self.c.read()), 3)

    # ── The machine

    def test_everything_is_slow(self):
        self.serve().publish(event(1))
        self.judge()


class Document(harness.Case):
    def test_every_symptom_is_provoked(self):
        tests = {name for name in dir(Symptom) if name.startswith("test_")}
        self.assertEqual(tests, set(SECTIONS))
        for section in SECTIONS.values():
            self.assertTrue(section.messages, section.heading)

    def test_the_commands_that_documents_mention_exist_with_their_flags(self):
        groups = ("config", "dlq", "groups", "schema", "store", "streams")
        folder, helps = harness.temp_folder(), {}

        def help_of(*words):
            if words not in helps:
                code, out, err = harness.run(*words, "--help", folder=folder)
                helps[words] = out if code == 0 else None
            return helps[words]

        mentioned = 0
        for name in ("README.md", "docs/guides/001.md", "docs/troubleshooting.md", "docs/operations.md", "docs/replay.md", "docs/schemas.md"):
            text = re.sub(r"^```.*?^```", "", (harness.CHECKOUT / name).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
            for command in re.findall(r"`millrace ([^`]+)`", text):
                words = re.match(r"[a-z ]*", command)[0].split()
                if not words:
                    continue  # `millrace --help`, `millrace …`
                words = words[:2] if words[0] in groups else words[:1]
                said = help_of(*words)
                self.assertIsNotNone(said, f"{name}: millrace {command}")
                for flag in re.findall(r"--[a-z-]+", command):
                    self.assertRegex(said + help_of(), rf"{flag}\b", f"{name}: millrace {command}")
                mentioned += 1
        self.assertGreater(mentioned, 40)

    def test_its_links_lead_somewhere(self):
        anchors = {re.sub(r"[^a-z0-9 -]", "", section.heading.lower()).replace(" ", "-") for section in SECTIONS.values()}
        for target in re.findall(r"\]\(([^)]+)\)", TEXT):
            if target.startswith("#"):
                self.assertIn(target[1:], anchors)
            else:
                self.assertTrue((harness.CHECKOUT / "docs" / target).exists(), target)


if __name__ == "__main__":
    harness.main()
