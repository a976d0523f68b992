# SPDX-License-Identifier: Apache-2.0
"""The poison test on Redis: what poison_test.py asks of the daemon holds whatever store stands behind it."""

import harness
import poison_test


class RedisPoison(poison_test.Poison):
    def daemon(self, *args, **options):
        server = self.redis()
        return super().daemon(*args, store=server.url(), **options)


if __name__ == "__main__":
    harness.main()
