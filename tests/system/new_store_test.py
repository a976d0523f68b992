# SPDX-License-Identifier: Apache-2.0
"""A new store is one folder and one line: a patch adds `null:` to a copy of the sources and touches nothing else."""

import json
import os
import shlex
import shutil
import subprocess

import harness

PATCH = harness.CHECKOUT / "tests/system/data/null_store.patch"

MAIN = r"""#include <iostream>

#include "millrace/millrace.hpp"

int main() {
  const auto store = millrace::open_store("null:");
  millrace::Bus bus(store.get());
  const auto result = bus.publish(millrace::EventBuilder("t", "/s").build());
  std::cout << store->describe() << ' ' << result.position->to_string() << '\n';
  try {
    millrace::open_store("nothing:");
  } catch (const millrace::Error& error) {
    std::cout << error.what() << '\n';
  }
  std::cout << millrace::open_store("memory:")->describe() << '\n';
}
"""


class NewStore(harness.Case):
    def call(self, command, **options):
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, **options)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
        return done.stdout

    def test_the_patch_adds_one_folder_and_one_line(self):
        out = self.call(["git", "apply", "--numstat", str(PATCH)], cwd=harness.temp_folder())
        touched = {path: (int(added), int(removed)) for added, removed, path in (line.split("\t") for line in out.splitlines())}
        self.assertEqual(touched.pop("src/store/backends.inc"), (1, 0))
        self.assertTrue(touched)
        for path, (_, removed) in touched.items():
            self.assertTrue(path.startswith("src/store/null/"), path)
            self.assertEqual(removed, 0)
            self.assertFalse((harness.CHECKOUT / path).exists(), "the folder is new")

    def test_it_compiles_and_opens(self):
        commands = harness.BUILD / "compile_commands.json"
        if not commands.exists():
            self.skipTest(f"{commands} is missing: not a build folder")
        copy = harness.temp_folder()
        for part in ("src", "include"):
            shutil.copytree(harness.CHECKOUT / part, os.path.join(copy, part))
        self.call(["git", "apply", str(PATCH)], cwd=copy)
        # One module sees another through a root that holds that module alone; the copy gets roots of its own.
        roots = os.path.join(copy, "roots")
        for module in os.listdir(os.path.join(copy, "src")):
            os.makedirs(os.path.join(roots, module))
            os.symlink(os.path.join(copy, "src", module), os.path.join(roots, module, module))
        with open(commands, encoding="utf-8") as file:
            entry = next(e for e in json.load(file) if e["file"].endswith("/src/store/open_store.cpp"))
        flags = self.flags(shlex.split(entry["command"]), copy, roots)
        main = os.path.join(copy, "main.cpp")
        with open(main, "w", encoding="ascii") as file:
            file.write(MAIN)
        sources = [os.path.join(copy, "src/store/null", name) for name in os.listdir(os.path.join(copy, "src/store/null"))
                   if name.endswith(".cpp")]
        objects = []
        for source in [*sources, os.path.join(copy, "src/store/open_store.cpp"), main]:
            objects.append(os.path.join(copy, os.path.basename(source) + ".o"))
            self.call([*flags, "-c", source, "-o", objects[-1]], cwd=entry["directory"])
        sanitize = [flag for flag in flags if flag.startswith("-fsanitize")]
        program = os.path.join(copy, "program")
        # The copy's registry comes first, so the one in the library is not taken.
        self.call([flags[0], *sanitize, *objects, str(harness.BUILD / "libmillrace.a"), "-lboost_json", "-lboost_url",
                   "-lspdlog", "-lfmt", "-lsqlite3", "-lhiredis", "-lssl", "-lcrypto", "-lpthread", "-o", program])
        first, second, third = self.call([program], cwd=copy).splitlines()
        self.assertEqual(first, "null: 1")
        self.assertIn("null:", second, "the error for an unknown kind lists the new one")
        self.assertIn("memory", third)

    def flags(self, words, copy, roots):
        """The build's own compiler and flags, pointed at the copy."""
        kept, skip = [], False
        if os.path.basename(words[0]) == "ccache":
            words = words[1:]
        for word in words:
            if skip:
                skip = False
            elif word in ("-c", "-o", "-include", "-Winvalid-pch"):
                skip = word != "-Winvalid-pch"
            else:
                for old, new in ((str(harness.CHECKOUT / "build/roots"), roots), (str(harness.CHECKOUT / "include"), os.path.join(copy, "include")),
                                 (str(harness.CHECKOUT / "src"), os.path.join(copy, "src"))):
                    word = word.replace(old, new)
                kept.append(word)
        return [word for word in kept if word != "-Werror"] + ["-Werror"]


if __name__ == "__main__":
    harness.main()
