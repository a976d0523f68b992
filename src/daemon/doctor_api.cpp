// SPDX-License-Identifier: Apache-2.0
#include "daemon/doctor.hpp"
#include "daemon/handlers.hpp"

namespace millrace::daemon {

void show_doctor(Services& services, const CallPtr& call) {
  ExamineOptions options;
  options.url = services.config.store.url;
  options.store = &services.store;
  options.max_connections = services.config.server.max_connections;
  options.tls_cert = services.config.server.tls_cert;
  options.tls_key = services.config.server.tls_key;
  const Examination seen = examine(options);
  call->json(findings_json(seen.store, judge(seen)));
}

}  // namespace millrace::daemon
