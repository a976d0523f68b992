# SPDX-License-Identifier: Apache-2.0
"""The crash test's judge is judged: for each promise a journal that breaks it, which must be found."""

import crash_test
import harness


def journal(*steps):
    """Each step happens a second after the one before."""
    return [{"at": float(n), "sent": n - 0.5, **step} for n, step in enumerate(steps)]


def issued(id, key="k", by=0, hash="h"):
    return {"what": "issued", "id": id, "key": key, "by": by, "hash": hash}


def published(**positions):
    return {"what": "published", "positions": {id: str(at) for id, at in positions.items()}}


def claimed(*deliveries, hash="h"):
    """(lease, position, id) each."""
    return {"what": "claimed", "deliveries": [[lease, str(position), 1, id, hash] for lease, position, id in deliveries]}


def ack(*leases, stale=()):
    return {"what": "ack", "done": list(leases), "stale": list(stale)}


def maybe_ack(*leases):
    return {"what": "maybe ack", "leases": list(leases)}


class Verdict(harness.Case):
    def judge(self, *steps, dead=()):
        return crash_test.Verdict(journal(*steps), set(dead)).judge()

    def assert_found(self, words, *steps, **more):
        complaints = self.judge(*steps, **more)
        self.assertTrue(any(words in complaint for complaint in complaints), complaints)

    def test_a_good_journal(self):
        self.assertEqual(self.judge(issued("a"), issued("b"), published(a=1, b=2), claimed(("1-1", 1, "a"), ("1-2", 2, "b")),
                                    ack("1-1", "1-2")), [])

    def test_a_lease_that_ran_out_and_an_answer_that_was_lost_are_no_faults(self):
        self.assertEqual(self.judge(issued("a"), issued("b"), published(a=1, b=2), claimed(("1-1", 1, "a")), claimed(("2-1", 1, "a")),
                                    maybe_ack("2-1"), claimed(("3-2", 2, "b")), ack(stale=["2-1"]), ack("3-2")), [])

    def test_lost(self):
        self.assert_found("never delivered", issued("a"), published(a=1))

    def test_invented(self):
        self.assert_found("never issued", claimed(("1-1", 1, "x")))

    def test_changed_bytes(self):
        self.assert_found("was changed", issued("a"), published(a=1), claimed(("1-1", 1, "a"), hash="other"), ack("1-1"))

    def test_two_positions_of_one_event(self):
        self.assert_found("was at 1 and is at 2", issued("a"), published(a=1), published(a=2))

    def test_two_events_at_one_position(self):
        self.assert_found("belongs to", issued("a"), issued("b", by=1), published(a=1), published(b=1))

    def test_delivered_elsewhere(self):
        self.assert_found("was delivered at 7", issued("a"), published(a=1), claimed(("1-7", 7, "a")), ack("1-7"))

    def test_overtaken(self):
        self.assert_found("was not settled", issued("a"), issued("b"), published(a=1, b=2), claimed(("1-1", 1, "a")), claimed(("2-2", 2, "b")),
                          ack("1-1"), ack("2-2"))

    def test_overtaken_while_the_first_was_given_back(self):
        self.assert_found("was not settled", issued("a"), issued("b"), published(a=1, b=2), claimed(("1-1", 1, "a")),
                          {"what": "retry", "done": ["1-1"], "stale": []}, claimed(("2-2", 2, "b")), ack("2-2"), claimed(("3-1", 1, "a")), ack("3-1"))

    def test_out_of_order_within_a_claim(self):
        self.assert_found("was not settled", issued("a"), issued("b"), published(a=1, b=2), claimed(("1-2", 2, "b"), ("1-1", 1, "a")),
                          ack("1-1", "1-2"))

    def test_a_stale_acknowledgement_settles_nothing(self):
        self.assert_found("was not settled", issued("a"), issued("b"), published(a=1, b=2), claimed(("1-1", 1, "a")), ack(stale=["1-1"]),
                          claimed(("2-2", 2, "b")), ack("2-2"), claimed(("3-1", 1, "a")), ack("3-1"))

    def test_another_key_may_pass(self):
        self.assertEqual(self.judge(issued("a"), issued("b", key="other"), published(a=1, b=2), claimed(("1-1", 1, "a")),
                                    claimed(("2-2", 2, "b")), ack("1-1"), ack("2-2")), [])

    def test_handed_out_again_after_its_acknowledgement(self):
        self.assert_found("handed out again", issued("a"), published(a=1), claimed(("1-1", 1, "a")), ack("1-1"), claimed(("2-1", 1, "a")), ack("2-1"))

    def test_a_publisher_out_of_order(self):
        self.assert_found("stands behind it", issued("a", key=None), issued("b", key=None), published(b=1), published(a=2))

    def test_through_without_an_acknowledgement(self):
        self.assert_found("never acknowledged by a consumer", issued("a"), published(a=1), claimed(("1-1", 1, "a")))


if __name__ == "__main__":
    harness.main()
