# SPDX-License-Identifier: Apache-2.0
"""A password in the store's URL is in nothing that anybody is shown: not in outputs, answers, errors or the log."""
import os
import urllib.parse

import harness

WORD = "hunter2"  # stands in it however it is written
SECRET = WORD + "/p@ss~"
ENCODED = urllib.parse.quote(SECRET, safe="")

GETS = ("/health", "/health/events", "/ready", "/metrics", "/v1/stats", "/v1/doctor", "/v1/streams", "/v1/groups",
        "/v1/schemas", "/v1/replays", "/v1/events?id=1")


class Passwords(harness.Case):
    def setUp(self):
        super().setUp()
        self.shown = []

    def keep(self, what, *texts):
        self.shown += [(what, text) for text in texts]

    def cli(self, *args, **options):
        code, out, err = harness.run(*args, **options)
        self.keep(" ".join(args), out, err)
        return code, out, err

    def answers(self, daemon, when):
        client = daemon.client()
        for path in GETS:
            self.keep(f"GET {path} {when}", client.get(path).body.decode())
        for command in (["status"], ["stats"], ["doctor"], ["streams", "list"], ["metrics"]):
            self.cli(*command, "--url", daemon.url)
            self.cli(*command, "--json", "--url", daemon.url)
        response = client.post("/v1/streams/events/events", harness.event(when),
                               headers={"Content-Type": "application/cloudevents+json"})
        self.keep("publish " + when, response.body.decode())

    def tearDown(self):
        self.assertGreater(len(self.shown), 0)
        for what, text in self.shown:
            self.assertNotIn(WORD, text, what)

    def test_of_a_daemon_and_of_commands_that_open_the_store(self):
        server = self.redis("--requirepass", SECRET, port=True)
        url = server.tcp_url(f"default:{ENCODED}@")
        daemon = self.daemon("--log-level", "debug", store=url)
        self.answers(daemon, "while it serves")
        self.assertEqual(self.cli("streams", "list", "--store", url)[0], 0)
        self.cli("doctor", "--store", url)
        self.assertIn("default@127.0.0.1", self.cli("doctor", "--json", "--store", url)[1])
        for command in (["status"], ["store", "init"], ["store", "migrate"], ["store", "migrate", "--json"],
                        ["restore", daemon.path]):
            self.cli(*command, "--store", url)
        server.kill()
        harness.wait_until(lambda: daemon.client().get("/health").status == 503, what="it notices")
        self.answers(daemon, "while the server is away")
        self.assertNotEqual(self.cli("streams", "list", "--store", url)[0], 0)
        self.assertIn("default:***@127.0.0.1", self.cli("doctor", "--json", "--store", url)[1])
        server.start()
        harness.wait_until(lambda: daemon.client().get("/health").status == 200, what="it is back")
        daemon.terminate()
        with open(daemon.out_path, encoding="utf-8") as out:
            self.keep("serve", out.read(), daemon.log())
        self.assertIn("127.0.0.1", daemon.log(), "the log names the server")

    def test_of_a_configuration(self):
        folder = harness.temp_folder()
        file = os.path.join(folder, "millrace.toml")
        with open(file, "w", encoding="utf-8") as out:
            out.write('[store]\nurl = "redis://me:${REDIS_PASSWORD}@redis.example:6379/1?prefix=a"\n')
        env = {"REDIS_PASSWORD": ENCODED}
        for form in ([], ["--json"]):
            code, out, err = self.cli("config", "show", "--config", file, *form, env=env)
            self.assertEqual(code, 0, err)
            self.assertIn("redis://me:***@redis.example:6379/1?prefix=a", out)
            env_form = {"MILLRACE_STORE_URL": f"rediss://:{ENCODED}@redis.example"}
            self.assertIn("rediss://:***@redis.example", self.cli("config", "show", *form, env=env_form)[1])
        self.assertEqual(self.cli("config", "check", "--config", file, env=env)[0], 0)

    def test_of_a_url_that_is_refused(self):
        server = self.redis("--requirepass", "another", port=True)
        urls = [server.tcp_url(f"default:{ENCODED}@"), server.tcp_url(f"nobody:{ENCODED}@")]
        urls += [form.format(SECRET) for form in (
            "redis:me:{}@host", "Redis://me:{}@host", "redis://me:{}@host:port", "redis://me:{}@host:70000",
            "redis://me:{}@host/x", "redis://me:{}@host?what=1", "redis://me:%zz{}@host", "redis://me:{}@[::1",
            "redis+unix://me:{}@relative", "mysql://me:{}@host/db", "redis://me:{}@host?dedup_keep=x")]
        for url in urls:
            with self.subTest(url):
                self.assertNotEqual(self.cli("streams", "list", "--store", url)[0], 0)
                self.cli("doctor", "--store", url)
                self.cli("store", "init", "--store", url)
                code, log = harness.Daemon(store=url).refused()
                self.assertNotEqual(code, 0)
                self.keep("serve " + url, log)


if __name__ == "__main__":
    harness.main()
