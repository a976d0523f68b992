// SPDX-License-Identifier: Apache-2.0
#include "cli/context.hpp"

namespace millrace::cli {

CLI::Option* add_list(CLI::App& command, const std::string& name, std::vector<std::string>& list,
                      const std::string& help) {
  return command.add_option(name, list, help)->allow_extra_args(false);
}

std::vector<std::string> split_list(const std::vector<std::string>& given) {
  std::vector<std::string> out;
  for (const std::string& text : given) {
    int depth = 0;
    std::string item;
    for (const char c : text) {
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      if (c == ',' && depth <= 0) {
        out.push_back(std::move(item));
        item.clear();
      } else {
        item += c;
      }
    }
    out.push_back(std::move(item));
  }
  return out;
}

}  // namespace millrace::cli
