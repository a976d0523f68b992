// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <condition_variable>
#include <csignal>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "base/log.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"
#include "daemon/config.hpp"
#include "daemon/daemon.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string file;
  std::map<std::string, std::string> flags;  ///< "server.listen" → text
};

/// Turns SIGTERM and SIGINT into one request to stop, from its construction on, also while the store still opens. The
/// second one ends the process at once. SIGHUP asks to reload. Made before any thread, so that no other thread takes
/// the signal.
class Signals {
 public:
  /// \param reloads false: SIGHUP ends the process, as it does any other.
  explicit Signals(bool reloads) {
    sigemptyset(&set_);
    for (const int signal : {SIGTERM, SIGINT, kEnd}) sigaddset(&set_, signal);
    if (reloads) sigaddset(&set_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // a client that went away is an error of its write, not of the daemon
    waiter_ = std::thread([this] { wait(); });
  }
  ~Signals() {
    pthread_kill(waiter_.native_handle(), kEnd);
    waiter_.join();
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  /// Blocks until it is to stop, and calls `reload` for each SIGHUP until then; the name of the signal that stops.
  std::string stop_or(const std::function<void()>& reload) {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return hang_up_ || !stop_.empty(); });
      if (!stop_.empty()) return stop_;
      hang_up_ = false;
      lock.unlock();
      reload();
      lock.lock();
    }
  }

 private:
  static constexpr int kEnd = SIGUSR1;

  void wait() {
    for (int signal = 0;;) {
      if (sigwait(&set_, &signal) != 0 || signal == kEnd) return;
      const std::lock_guard lock(mutex_);
      if (signal == SIGHUP) {
        hang_up_ = true;
        changed_.notify_one();
        continue;
      }
      if (!stop_.empty()) {
        log::warn("stopped_at_once", "",
                  "a second signal came: running work is cut off; what was acknowledged is on disk");
        _exit(kFailed);
      }
      stop_ = signal == SIGTERM ? "SIGTERM" : "SIGINT";
      changed_.notify_one();
    }
  }

  sigset_t set_{};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool hang_up_ = false;
  std::string stop_;  ///< the signal that stops
  std::thread waiter_;
};

int serve(Context& context, const Options& o) {
  if (!context.store.empty()) {
    throw Error(Errc::invalid_argument, "serve", "--store", "is for the other commands; serve takes --store-url");
  }
  daemon::LoadedConfig loaded;
  try {
    loaded = daemon::load_config(o.file.empty() ? std::nullopt : std::optional(o.file), o.flags);
  } catch (const Error& error) {  // a named file that is not there is a usage error too
    throw Error(Errc::invalid_argument, error.operation(), error.object(), error.message(), error.native());
  }
  log::configure(loaded.config.log.level, loaded.config.log.format);
  Signals signals(!loaded.config.server.tls_cert.empty());
  daemon::Daemon daemon(loaded.config);
  if (context.json) {
    print_json(boost::json::object{{"listening", daemon.url()}, {"store", daemon.store()}});
  } else {
    print("listening on " + daemon.url());
  }
  const std::string stopped_by = signals.stop_or([&daemon] { daemon.reload(); });
  log::info("stopping", daemon.url(), stopped_by + ": running work may go on for server.stop_grace");
  return daemon.stop(loaded.config.server.stop_grace) ? kOk : kFailed;
}

}  // namespace

void add_serve(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "serve", "Run the daemon; prints where it listens, logs to stderr, stops on SIGTERM",
      [](CLI::App& command, Options& o) {
        command.add_option("--config", o.file, "Configuration file, instead of MILLRACE_CONFIG or the default place")
            ->type_name("FILE");
        for (const auto& key : daemon::descriptors()) {
          const std::string name = key.section + '.' + key.key;
          command
              .add_option_function<std::string>(
                  daemon::flag_of(key), [&flags = o.flags, name](const std::string& value) { flags[name] = value; },
                  key.help + ", e.g. " + key.example)
              ->group("[" + key.section + "]")
              ->type_name("VALUE");
        }
      },
      [&context](const Options& o) { return serve(context, o); });
}

}  // namespace millrace::cli
