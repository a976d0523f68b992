// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "daemon/handlers.hpp"
#include "daemon/json.hpp"

namespace millrace::daemon {

void back_up(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"to"});
  const std::string to = body.required("to");
  if (!std::filesystem::path(to).is_absolute()) {
    throw Error(Errc::invalid_argument, "back up", "to",
                "is an absolute path on the machine of the daemon, not \"" + to + '"');
  }
  const auto begun = std::chrono::steady_clock::now();
  services.store.backup(to);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  JsonWriter json;
  json.text("path", to).number("bytes", std::filesystem::file_size(to)).real("seconds", took.count());
  call->json(json.finish());
}

}  // namespace millrace::daemon
