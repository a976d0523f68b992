// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "base/log.hpp"
#include "daemon/api.hpp"

namespace millrace::daemon {
namespace {

/// Each connection is a descriptor; the usual soft limit of 1024 is below the default of server.max_connections.
void raise_descriptor_limit(std::uint64_t connections) {
  const rlim_t wanted = descriptors_for(connections);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? wanted : std::min(limit.rlim_max, wanted);
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted) {
    log::warn("few_descriptors", "server.max_connections",
              "the limit of open files allows fewer connections than " + std::to_string(connections) +
                  ": raise it (ulimit -n, LimitNOFILE=) or lower server.max_connections");
  }
}

std::unique_ptr<Store> open_configured(const Config& config) {
  StoreOptions options = config.store.url.empty() ? StoreOptions::from_env() : StoreOptions{};
  if (!config.store.url.empty()) options.url = config.store.url;
  options.access = StoreOptions::Access::owner;
  return open_store(options);
}

/// Gives the configured streams their retention, and makes those that are to be made.
void prepare_streams(EventLog& log, const std::vector<Config::Stream>& wanted) {
  std::vector<StreamInfo> there = log.streams();
  for (const Config::Stream& stream : wanted) {
    const auto found = std::find_if(there.begin(), there.end(),
                                    [&](const StreamInfo& info) { return info.name.str() == stream.name; });
    if (found == there.end()) {
      if (!stream.create) {
        throw Error(Errc::unknown_stream, "start", "stream " + stream.name,
                    "the configuration names it with create = false, and the store does not have it: create it "
                    "(millrace streams create), or say create = true");
      }
      log.create_stream(stream.name, stream.retention);
    } else if (found->retention != stream.retention) {
      log.set_retention(stream.name, stream.retention);
    }
  }
}

http::ServerOptions server_options(const Config::Server& server) {
  http::ServerOptions options;
  options.listen = server.listen;
  options.tls_cert = server.tls_cert;
  options.tls_key = server.tls_key;
  options.max_header_bytes = server.max_header_bytes;
  options.max_connections = server.max_connections;
  options.request_timeout = server.request_timeout;
  return options;
}

}  // namespace

std::uint64_t descriptors_for(std::uint64_t connections) {
  constexpr std::uint64_t kOthers = 128;
  return connections + kOthers;
}

struct Daemon::Impl {
  explicit Impl(const Config& given) : config(given) {
    if (!config.asks_for_token() && !http::is_loopback(config.server.listen)) {
      throw Error(Errc::invalid_argument, "start", "server.token",
                  "listening on " + config.server.listen +
                      ", which others can reach, needs a token: set server.token, or listen on 127.0.0.1");
    }
    raise_descriptor_limit(config.server.max_connections);
    store = open_configured(config);
    prepare_streams(store->log(), config.streams);
    described = store->describe();
    bus.emplace(store.get());
    api = std::make_unique<Api>(*store, *bus, config);
    // The server's statistics are asked only by requests, and those come through it.
    api->set_server([this] {
      const http::Server* there = running.load();
      return there == nullptr ? http::Server::Stats{} : there->stats();
    });
    server = std::make_unique<http::Server>(
        server_options(config.server), [this](const http::Request& request) { return api->admit(request); },
        [this](http::Request request, std::shared_ptr<http::Exchange> exchange) {
          api->handle(std::move(request), std::move(exchange));
        });
    running = server.get();
    address = (secure() ? "https://" : "http://") + server->address();
    log::info("listening", address, "store " + described);
    if (!secure() && !http::is_loopback(config.server.listen)) {
      log::warn("plain_http", address,
                "tokens and events can be read on the way: set server.tls_cert and server.tls_key (docs/security.md)");
    }
  }

  [[nodiscard]] bool secure() const { return !config.server.tls_cert.empty(); }

  void reload() {
    if (!secure()) return;
    try {
      server->reload_tls();
      log::info("certificate_reloaded", config.server.tls_cert, "new connections get it");
    } catch (const Error& error) {
      log::error("reload_failed", error.object(), error.message() + "; the old certificate stays in use");
    }
  }

  bool stop(Milliseconds grace) {
    if (stopped) return clean;
    stopped = true;
    const auto began = std::chrono::steady_clock::now();
    server->drain();   // accept nothing more from outside
    api->end_waits();  // stop claiming: long polls answer empty, tails end
    clean = server->wait_idle(grace);
    if (!clean) log::warn("cut_off", address, "requests were still running when server.stop_grace ran out");
    server->stop();  // cut the rest: what could not be delivered comes back
    api->finish();   // and is released here, uncharged
    bus.reset();
    store.reset();  // finishes what it was given and closes
    const auto took = std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now() - began);
    log::info("stopped", address, "after " + std::to_string(took.count()) + " ms");
    return clean;
  }

  const Config config;
  std::string described;
  std::string address;
  std::unique_ptr<Store> store;
  std::optional<Bus> bus;
  std::unique_ptr<Api> api;
  std::atomic<const http::Server*> running{nullptr};
  std::unique_ptr<http::Server> server;
  bool stopped = false;
  bool clean = true;
};

Daemon::Daemon(const Config& config) : impl_(std::make_unique<Impl>(config)) {}
Daemon::~Daemon() {
  impl_->stop(Milliseconds{0});
}
std::string Daemon::url() const {
  return impl_->address;
}
std::string Daemon::store() const {
  return impl_->described;
}
void Daemon::reload() {
  impl_->reload();
}
bool Daemon::stop(Milliseconds grace) {
  return impl_->stop(grace);
}

}  // namespace millrace::daemon
