# SPDX-License-Identifier: Apache-2.0
"""What the README and docs/configuration.md say is what the checkout does."""

import os
import re
import subprocess
import sys
import textwrap
import unittest

import harness

README = (harness.CHECKOUT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def stands_in(block, path):
    """Whether a block of a document is a part of a file, whatever its indentation there."""
    example = (harness.CHECKOUT / path).read_text(encoding="utf-8").splitlines()
    lines = textwrap.dedent(block).splitlines()
    return any(textwrap.dedent("\n".join(example[start:start + len(lines)])).splitlines() == lines
               for start in range(len(example)))


class Readme(unittest.TestCase):
    def test_its_cpp_stands_in_the_example_that_is_compiled(self):
        (block,) = blocks("cpp")
        self.assertTrue(stands_in(block, "examples/quickstart.cpp"), f"not in examples/quickstart.cpp:\n{block}")

    def test_its_python_is_the_example(self):
        (block,) = blocks("python")
        self.assertEqual(block, (harness.CHECKOUT / "examples/consumer.py").read_text(encoding="utf-8"))
        self.assertLessEqual(len(block.splitlines()), 20)

    def test_its_links_lead_somewhere(self):
        text = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            self.assertTrue((harness.CHECKOUT / target).exists(), target)

    def test_its_curl_lines_and_its_consumer_work(self):
        with harness.Daemon(harness.temp_folder()) as daemon:
            url = f"http://127.0.0.1:{daemon.port}"
            (block,) = blocks("sh")
            done = subprocess.run(["sh", "-euc", block.replace("http://127.0.0.1:8420", url)], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('"stored"', done.stdout)
            self.assertIn('"at_end":true', done.stdout)
            env = {**os.environ, "MILLRACE_URL": url}
            for expected in ("1 order.placed order-42 {'total': 12}\n", ""):  # acknowledged: never again
                done = subprocess.run([sys.executable, str(harness.CHECKOUT / "examples/consumer.py")], env=env,
                                      capture_output=True, text=True, timeout=60)
                self.assertEqual((done.returncode, done.stdout), (0, expected), done.stderr)

    def test_its_command_lines_work_one_after_the_other(self):
        with harness.Daemon(harness.temp_folder()) as daemon:
            env = harness.clean_environment(daemon.folder, MILLRACE_URL=daemon.url)
            env["PATH"] = os.path.dirname(harness.PROGRAM) + ":" + env["PATH"]
            (block,) = blocks("bash")
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], capture_output=True, text=True, timeout=60, env=env)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("order.paid", done.stdout)
            self.assertEqual(done.stdout.splitlines()[-1], "all is well")


class Replay(unittest.TestCase):
    TEXT = (harness.CHECKOUT / "docs/replay.md").read_text(encoding="utf-8")

    def test_its_cpp_stands_in_the_example_that_is_compiled(self):
        (block,) = re.findall(r"^```cpp\n(.*?)^```$", self.TEXT, re.MULTILINE | re.DOTALL)
        self.assertTrue(stands_in(block, "examples/replay.cpp"), f"not in examples/replay.cpp:\n{block}")

    def test_its_command_lines_work_one_after_the_other(self):
        with harness.Daemon(harness.temp_folder()) as daemon:
            env = harness.clean_environment(daemon.folder, MILLRACE_URL=daemon.url)
            env["PATH"] = os.path.dirname(harness.PROGRAM) + ":" + env["PATH"]
            (block,) = re.findall(r"^```bash\n(.*?)^```$", self.TEXT, re.MULTILINE | re.DOTALL)
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], capture_output=True, text=True, timeout=60, env=env)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("would replay 3 events", done.stdout)
            self.assertEqual([e["id"] for _, e in daemon.client().read("audit")], [f"copy-1:{n}" for n in (1, 2, 3)])


class HttpReference(unittest.TestCase):
    TEXT = (harness.CHECKOUT / "docs/http-api.md").read_text(encoding="utf-8")

    def test_it_names_every_call_with_its_parameters(self):
        routes = (harness.CHECKOUT / "src/daemon/routes.cpp").read_text(encoding="utf-8")
        found = re.findall(r'\{"([A-Z]+)",\s*"([^"]+)",\s*\{([^}]*)\}', routes)
        self.assertGreater(len(found), 25)
        for method, path, parameters in found:
            rows = [row for row in self.TEXT.splitlines() if row.startswith("|") and self.names(row, method, path)]
            self.assertEqual(len(rows), 1, (method, path))
            for parameter in re.findall(r'"(\w+)"', parameters):
                self.assertRegex(rows[0], rf"[?&]{parameter}\b", (method, path))

    @staticmethod
    def names(row, method, path):
        """`POST /v1/groups/{group}/pause`, `/resume` stands for two calls."""
        first, *others = re.findall(r"`([^`]+)`", row.split("|")[1]) or [""]
        base = first.rsplit("/", 1)[0]
        return f"{method} {path}" in {first, *(base + other for other in others)}

    def test_it_names_every_error(self):
        errors = (harness.CHECKOUT / "include/millrace/error.hpp").read_text(encoding="utf-8")
        codes = re.findall(r"^  (\w+),", errors.split("enum class Errc")[1].split("};")[0], re.MULTILINE)
        self.assertGreater(len(codes), 15)
        table = self.TEXT.split("## Errors")[1].split("## Metrics")[0]
        for code in codes:
            self.assertIn(f"`{code}`", table)

    def test_it_names_every_metric(self):
        named = set(re.findall(r"`(\w+)`", self.TEXT.split("## Metrics")[1]))
        golden = (harness.CHECKOUT / "tests/unit/daemon/metric_names_test.cpp").read_text(encoding="utf-8")
        for name in re.findall(r'"millrace_(\w+) \w+"', golden):
            self.assertTrue(name in named or (name.startswith("store_") and name != "store_up"), name)


class Configuration(unittest.TestCase):
    def test_the_document_is_what_the_program_prints(self):
        printed = subprocess.run([harness.PROGRAM, "config", "docs"], capture_output=True, text=True, check=True).stdout
        written = (harness.CHECKOUT / "docs/configuration.md").read_text(encoding="utf-8")
        self.assertEqual(printed, written, "write it again: millrace config docs > docs/configuration.md")


if __name__ == "__main__":
    unittest.main()
