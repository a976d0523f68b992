// SPDX-License-Identifier: Apache-2.0
#include "cli/context.hpp"

#include <utility>

#include "daemon/params.hpp"

namespace millrace::cli {

CLI::Option* add_list(CLI::App& command, const std::string& name, std::vector<std::string>& list,
                      const std::string& help) {
  return command.add_option(name, list, help)->allow_extra_args(false);
}

std::vector<std::string> split_lists(const std::vector<std::string>& given, std::string_view name) {
  std::vector<std::string> out;
  for (const std::string& text : given) {
    for (std::string& item : daemon::split_list(text, name)) out.push_back(std::move(item));
  }
  return out;
}

}  // namespace millrace::cli
