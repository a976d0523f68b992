# SPDX-License-Identifier: Apache-2.0
"""`cmake --install` into a fresh prefix, then a project that knows nothing but find_package(millrace)."""

import os
import subprocess

import harness

CMAKE = """cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
find_package(millrace 0.1 REQUIRED)
add_executable(consumer main.cpp)
target_link_libraries(consumer PRIVATE millrace::millrace)
"""

MAIN = r"""#include <millrace/millrace.hpp>

#include <iostream>

int main(int, char** argv) {
  auto store = millrace::open_store(std::string("sqlite:") + argv[1]);
  millrace::Bus bus(store.get());
  const auto stored = bus.publish(millrace::EventBuilder("greeting", "/consumer").json(R"({"hello": "world"})").build());
  const auto page = store->log().read(millrace::kDefaultStream, {});
  if (page.events.size() != 1 || page.events[0].position != stored.position) return 1;
  std::cout << *page.events[0].event.data << ' ' << millrace::to_string(stored.durability) << '\n';
}
"""


class Install(harness.Case):
    def call(self, *command, **options):
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, **options)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def test_a_project_finds_links_and_uses_it(self):
        if not (harness.BUILD / "cmake_install.cmake").exists():
            self.skipTest(f"{harness.BUILD} is not a build folder")
        folder = harness.temp_folder()
        prefix, source, build = (os.path.join(folder, name) for name in ("prefix", "source", "build"))
        self.call("cmake", "--install", str(harness.BUILD), "--prefix", prefix)
        self.assertTrue(os.access(os.path.join(prefix, "bin/millrace"), os.X_OK))
        self.assertRegex(self.call(os.path.join(prefix, "bin/millrace"), "--version"), r"millrace \d+\.\d+\.\d+")
        os.mkdir(source)
        for name, text in (("CMakeLists.txt", CMAKE), ("main.cpp", MAIN)):
            with open(os.path.join(source, name), "w", encoding="ascii") as file:
                file.write(text)
        self.call("cmake", "-S", source, "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Debug")
        self.call("cmake", "--build", build)
        out = self.call(os.path.join(build, "consumer"), os.path.join(folder, "events.db"))
        self.assertEqual(out, '{"hello": "world"} durable\n')


if __name__ == "__main__":
    harness.main()
