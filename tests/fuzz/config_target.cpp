// SPDX-License-Identifier: Apache-2.0

// The configuration file, and flags beside it: lines "#!section.key=value" at its head, which TOML takes for comments.

#include <sys/mman.h>
#include <unistd.h>

#include <map>

#include "daemon/config_tables.hpp"
#include "fuzz.hpp"

namespace millrace::fuzz {
namespace {

using daemon::Config;
using daemon::LoadedConfig;
using daemon::Origin;
using Flags = std::map<std::string, std::string>;

/// A file that stands in no folder.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view content) : descriptor_(::memfd_create("millrace.toml", MFD_CLOEXEC)) {
    require(descriptor_ >= 0, "the machine gives a file in memory");
    require(::write(descriptor_, content.data(), content.size()) == static_cast<ssize_t>(content.size()),
            "a file in memory takes its content");
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

LoadedConfig load(std::string_view content, const Flags& flags) {
  const MemoryFile file(content);
  return daemon::load_config(file.path(), flags);
}

/// A file that says what was loaded, every value as `config show` prints it. No two tokens may have one secret, so each
/// gets one of its own instead of "***".
std::string file_of(const Config& config) {
  std::string out, section;
  for (const auto& key : daemon::descriptors()) {
    if (key.section != section) out += '[' + (section = key.section) + "]\n";
    out += key.key + " = " + key.get(config) + '\n';
  }
  for (const auto& kind : daemon::table_kinds()) {
    std::size_t number = 0;
    for (const auto& row : kind.rows(config)) {
      out += "[[" + kind.name + "]]\n";
      ++number;
      for (const auto& [name, value] : row) {
        out += name + " = " + (value == "\"***\"" ? "\"secret " + std::to_string(number) + '"' : value) + '\n';
      }
    }
  }
  return out;
}

}  // namespace

void config(std::string_view input) {
  // A secret may stand in another file. Which of this machine's an input names is not to decide what it finds.
  if (input.find("file:") != std::string_view::npos) return;
  Flags flags;
  Bytes bytes(input);
  while (input.starts_with("#!") && flags.size() < 10) {
    const std::string_view line = bytes.line();
    input.remove_prefix(std::min(input.size(), line.size() + 1));
    const std::size_t equals = line.find('=');
    if (equals != std::string_view::npos && equals > 2)
      flags.emplace(line.substr(2, equals - 2), line.substr(equals + 1));
  }
  flags["server.listen"] = "127.0.0.1:0";  // a name would be looked up in the network

  std::optional<LoadedConfig> loaded;
  try {
    loaded = load(input, flags);
  } catch (const Error& error) {
    require(error.code() == Errc::invalid_argument, std::string("a configuration is refused as such: ") + error.what());
    require(!error.object().empty() && !error.message().empty(), "a refusal says where and what");
    return;
  }
  for (const auto& [name, value] : flags) require(loaded->origins.at(name) == Origin::flag, "a flag is the strongest");
  const std::string written = file_of(loaded->config);
  if (written.find("${") != std::string::npos) return;  // came from a variable, and would be taken for one
  try {
    const std::string again = file_of(load(written, {{"server.listen", flags["server.listen"]}}).config);
    require(again == written, "what is shown is what was loaded:\n" + written + "\nand again:\n" + again);
  } catch (const Error& error) {
    throw Broken("what is shown can be loaded: " + std::string(error.what()) + "\n" + written);
  }
}

}  // namespace millrace::fuzz
