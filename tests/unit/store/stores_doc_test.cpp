// SPDX-License-Identifier: Apache-2.0

// docs/stores.md says what the stores say of themselves. MILLRACE_UPDATE_DOCS=1 writes it anew.

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "sqlite_test_support.hpp"
#include "support/redis_server.hpp"

namespace millrace {
namespace {

constexpr const char* kBegin = "<!-- generated from Capabilities: begin -->\n";
constexpr const char* kEnd = "<!-- generated from Capabilities: end -->\n";

std::string table() {
  const test::TempDirectory directory;
  std::vector<Capabilities> stores;
  stores.push_back(open_store("memory:")->capabilities());
  stores.push_back(open_store(test::options_for(directory.file("events.db")))->capabilities());
#ifdef MILLRACE_HAS_REDIS
  const test::RedisServer server;  // `appendfsync always`
  stores.push_back(open_store(server.url())->capabilities());
#endif
  std::string text = "| |";
  std::string line = "| --- |";
  for (const Capabilities& store : stores) {
    text += " " + store.name + " |";
    line += " --- |";
  }
  text += "\n" + line + "\n";
  const auto row = [&](const char* what, auto value) {
    text += std::string("| ") + what + " |";
    for (const Capabilities& store : stores) text += " " + std::string(value(store)) + " |";
    text += "\n";
  };
  const auto yes_no = [](bool value) { return value ? "yes" : "no"; };
  row("strongest durability an answer can state", [](const Capabilities& c) { return to_string(c.strongest); });
  row("several processes share one store", [&](const Capabilities& c) { return yes_no(c.shared_between_processes); });
  row("a late settle is refused (fencing)", [&](const Capabilities& c) { return yes_no(c.fences_late_settles); });
  row("a relaxed append answers `relaxed`", [&](const Capabilities& c) { return yes_no(c.relaxed_differs); });
  return text;
}

TEST(StoresDoc, SaysWhatTheStoresSay) {
  if (std::system("command -v redis-server >/dev/null") != 0) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "redis-server is missing, and CI must have it";
    GTEST_SKIP() << "redis-server is missing";
  }
  const auto path = std::filesystem::path(MILLRACE_CHECKOUT) / "docs" / "stores.md";
  std::ifstream in(path);
  ASSERT_TRUE(in) << path;
  std::stringstream content;
  content << in.rdbuf();
  const std::string text = content.str();
  const auto begin = text.find(kBegin);
  const auto end = text.find(kEnd);
  ASSERT_TRUE(begin != std::string::npos && end != std::string::npos) << path;
  const std::string wanted = text.substr(0, begin) + kBegin + table() + text.substr(end);
  if (std::getenv("MILLRACE_UPDATE_DOCS") != nullptr)
    std::ofstream(path) << wanted;
  else
    EXPECT_EQ(text, wanted) << "write it anew with MILLRACE_UPDATE_DOCS=1";
}

}  // namespace
}  // namespace millrace
