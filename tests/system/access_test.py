# SPDX-License-Identifier: Apache-2.0
"""Scoped tokens from outside: what each may do, what it is told otherwise, and what it does not get to see."""

import http.client
import json
import os
import time
from datetime import datetime

import harness
from harness import event

TOKENS = {
    "boss": ("boss-secret-0001", '["admin"]', None),
    "shop": ("shop-secret-0002", '["publish"]', '["orders*"]'),
    "mail": ("mail-secret-0003", '["consume"]', '["orders*"]'),
    "prometheus": ("prom-secret-0004", '["metrics"]', None),
    "keeper": ("keep-secret-0005", '["admin"]', '["orders*"]'),
}
START = {"stream": "orders", "start": "beginning"}


class Access(harness.Case):
    def setUp(self):
        super().setUp()
        folder = harness.temp_folder()
        with open(os.path.join(folder, "mail"), "w", encoding="ascii") as file:
            file.write(TOKENS["mail"][0] + "\n")
        self.config = os.path.join(folder, "millrace.toml")
        with open(self.config, "w", encoding="ascii") as file:
            for name, (secret, scopes, streams) in TOKENS.items():
                secret = {"mail": "file:" + os.path.join(folder, "mail"), "shop": "${SHOP_SECRET}"}.get(name, secret)
                file.write(f'[[token]]\nname = "{name}"\nsecret = "{secret}"\nscopes = {scopes}\n')
                file.write(f"streams = {streams}\n" if streams else "")
        self.env = {"SHOP_SECRET": TOKENS["shop"][0]}
        self.d = self.daemon("--config", self.config, env=self.env)
        for name, (secret, _, _) in TOKENS.items():
            setattr(self, name, self.d.client(token=secret))
        for stream in ("orders", "orders-eu", "payments"):
            self.assertEqual(self.boss.post("/v1/streams", {"name": stream}).status, 201)
        self.boss.publish(event("o1"), stream="orders")
        self.boss.publish(event("p1"), stream="payments")

    def denied(self, client, method, path, names, body=None):
        response = client.request(method, path, body)
        self.assertEqual(response.status, 403, (method, path, response))
        self.assertEqual(response.json["code"], "permission_denied")
        self.assertIn(names, response.json["detail"])
        return response

    def test_a_publisher_publishes_into_its_streams_only(self):
        self.assertEqual(self.shop.publish(event("o2"), stream="orders-eu")[0]["status"], "stored")
        body = json.dumps([event("p2")])
        self.denied(self.shop, "POST", "/v1/streams/payments/events", "payments", body)
        self.denied(self.shop, "GET", "/v1/streams/orders/events", "consume")
        self.denied(self.shop, "POST", "/v1/groups/g/claim", "consume", {"consumer": "c", **START})
        self.assertEqual(len(self.boss.read("payments")), 1)

    def test_a_consumer_works_through_its_streams_only(self):
        held = self.mail.claim("g", **START)
        self.assertEqual([d["event"]["id"] for d in held], ["o1"])
        self.mail.settle("g", "ack", held)
        self.assertEqual(self.mail.group("g")["processed"], 1)
        self.assertEqual(len(self.mail.read("orders")), 1)
        self.denied(self.mail, "POST", "/v1/streams/orders/events", "publish", json.dumps([event("x")]))
        self.denied(self.mail, "GET", "/v1/streams/payments/events", "payments")
        self.denied(self.mail, "GET", "/v1/streams/payments/tail", "payments")
        for method, path in (("DELETE", "/v1/groups/g"), ("POST", "/v1/groups/g/seek"), ("GET", "/v1/stats"),
                             ("POST", "/v1/backup"), ("DELETE", "/v1/streams/orders/events?id=o1&source=/judge")):
            self.denied(self.mail, method, path, "admin", {} if method == "POST" else None)

    @staticmethod
    def time_of(text):
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

    def test_a_browser_tails_one_stream_for_a_while(self):
        asked = time.time()
        answer = self.mail.post("/v1/access-tokens", {"stream": "orders", "ttl_s": 600})
        self.assertEqual(answer.status, 200, answer)
        token = answer.json["access_token"]
        self.assertGreaterEqual(self.time_of(answer.json["expires_at"]), asked + 600)
        nobody = self.d.client(token=None)

        def first_lines(path):
            connection = http.client.HTTPConnection("127.0.0.1", self.d.port, timeout=10)
            connection.request("GET", path, headers={"Origin": "https://shop.example"})
            response = connection.getresponse()
            text = response.readline() + response.readline() if response.status == 200 else b""
            connection.close()
            return response, text

        tail = "/v1/streams/orders/tail?after=beginning&access_token="
        response, text = first_lines(tail + token)
        self.assertEqual(response.status, 200)
        self.assertEqual(response.getheader("Access-Control-Allow-Origin"), "*")
        self.assertTrue(text.startswith(b"id:"), text)
        self.assertEqual(first_lines(tail)[0].status, 401)
        self.assertEqual(first_lines(tail + token + "0")[0].status, 401)
        self.assertEqual(first_lines("/v1/streams/payments/tail?access_token=" + token)[0].status, 401)
        self.assertEqual(nobody.request("GET", "/v1/streams/orders/events?access_token=" + token).status, 401)
        self.assertEqual(self.d.client(token=token).request("GET", "/v1/streams/orders/events").status, 401)
        self.denied(self.mail, "POST", "/v1/access-tokens", "payments", {"stream": "payments"})
        self.denied(self.shop, "POST", "/v1/access-tokens", "consume", {"stream": "orders"})
        for body in ({"stream": "orders", "ttl_s": 3601}, {"stream": "orders", "scope": "admin"}, {}):
            self.assertEqual(self.mail.post("/v1/access-tokens", body).status, 400, body)
        short = self.mail.post("/v1/access-tokens", {"stream": "orders", "ttl_s": 1}).json
        while time.time() <= self.time_of(short["expires_at"]):
            time.sleep(0.05)
        self.assertEqual(first_lines(tail + short["access_token"])[0].status, 401)
        self.assertEqual(first_lines(tail + token)[0].status, 200, "the other one goes on")
        self.assertNotIn(token, self.d.log())

    def test_a_group_of_another_stream_is_out_of_reach(self):
        held = self.boss.claim("pay", stream="payments", start="beginning")
        claim = {"consumer": "c"}
        for body in (claim, {**claim, "stream": "payments", "start": "beginning"}):
            self.denied(self.mail, "POST", "/v1/groups/pay/claim", "payments", body)
        # Naming a stream of its own does not open a group of another one.
        response = self.mail.post("/v1/groups/pay/claim", {**claim, **START})
        self.assertEqual(response.json["code"], "group_mismatch", response)
        self.denied(self.mail, "POST", "/v1/groups/new/claim", "payments",
                    {**claim, "stream": "payments", "start": "beginning"})
        self.denied(self.mail, "POST", "/v1/groups", "payments", {"name": "n", "stream": "payments", "start": "end"})
        leases = {"leases": [held[0]["lease"]]}
        for how, more in (("ack", {}), ("retry", {}), ("reject", {"reason": "r"}), ("release", {}), ("extend", {})):
            self.denied(self.mail, "POST", f"/v1/groups/pay/{how}", "payments", {**leases, **more})
        for path in ("", "/pending", "/dead-letters"):
            self.denied(self.mail, "GET", "/v1/groups/pay" + path, "payments")
        self.denied(self.mail, "POST", "/v1/groups/pay/replay", "payments",
                    {"replayid": "r1", "positions": [held[0]["position"]]})
        self.denied(self.keeper, "DELETE", "/v1/groups/pay", "payments")
        self.assertEqual(self.boss.settle("pay", "ack", held)["stale"], [], "nobody touched it")

    def test_what_is_not_for_a_token_is_not_listed(self):
        self.boss.claim("pay", stream="payments", start="beginning")
        self.boss.claim("ord", **START)
        self.assertEqual([s["name"] for s in self.mail.ok("GET", "/v1/streams")["streams"]], ["orders", "orders-eu"])
        self.assertEqual([g["name"] for g in self.mail.ok("GET", "/v1/groups")["groups"]], ["ord"])
        self.assertEqual(len(self.mail.ok("GET", "/v1/events?id=o1")["matches"]), 1)
        self.assertEqual(self.mail.ok("GET", "/v1/events?id=p1")["matches"], [])
        self.assertEqual(len(self.boss.ok("GET", "/v1/events?id=p1")["matches"]), 1)
        self.denied(self.mail, "GET", "/v1/events?id=p1&stream=payments", "payments")
        self.assertEqual([g["group"] for g in self.keeper.ok("GET", "/health/events")["groups"]], ["ord"])

    def test_an_admin_of_some_streams_does_not_reach_the_whole_store(self):
        self.assertEqual(self.keeper.post("/v1/streams", {"name": "orders-us"}).status, 201)
        self.denied(self.keeper, "POST", "/v1/streams", "refunds", {"name": "refunds"})
        self.assertEqual(self.keeper.post("/v1/streams/orders/trim", {"max_events": 1}).status, 200)
        self.denied(self.keeper, "POST", "/v1/streams/payments/trim", "payments", {"max_events": 1})
        for path in ("/v1/stats", "/v1/doctor", "/v1/replays", "/metrics"):
            self.denied(self.keeper, "GET", path, "whole store")
        self.denied(self.keeper, "POST", "/v1/backup", "whole store", {"to": "/nowhere"})

    def test_metrics_are_a_scope_of_their_own(self):
        self.assertEqual(self.prometheus.get("/metrics").status, 200)
        self.assertEqual(self.prometheus.get("/health/events").status, 200)
        self.denied(self.prometheus, "GET", "/v1/streams/orders/events", "consume")
        self.denied(self.mail, "GET", "/metrics", "metrics")

    def test_who_is_unknown_is_asked_for_a_token_and_secrets_are_not_told(self):
        for token in (None, "", "shop-secret-000", "shop-secret-00022", "${SHOP_SECRET}"):
            response = self.d.client(token=token).get("/v1/streams")
            self.assertEqual(response.status, 401, response)
            self.assertTrue(response.headers["www-authenticate"].startswith("Bearer"))
        self.assertEqual(self.d.client().get("/health").status, 200)
        self.denied(self.mail, "GET", "/v1/stats", "admin")
        self.assertRegex(self.d.log(), r"access_refused.*\bmail\b", "the log says whose request was refused")
        code, shown, err = harness.run("config", "show", "--config", self.config, env=self.env)
        self.assertEqual(code, 0, err)
        self.assertRegex(shown, r'token\[2\]\.name +"shop"')
        for secret, _, _ in TOKENS.values():
            self.assertNotIn(secret, self.d.log() + shown)

    def test_it_warns_where_tokens_could_be_overheard(self):
        self.assertNotIn("plain_http", self.d.log())
        open_to_all = self.daemon("--config", self.config, "--server-listen", "0.0.0.0:0", env=self.env)
        self.assertEqual(open_to_all.client(token=TOKENS["boss"][0]).get("/v1/stats").status, 200)
        self.assertIn("plain_http", open_to_all.log())


if __name__ == "__main__":
    harness.main()
