// SPDX-License-Identifier: Apache-2.0
#include "support/redis_server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "support/certificates.hpp"
#include "support/shell.hpp"

namespace millrace::test {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kStartTime{30};

std::string output_of(const std::string& command) {
  struct Close {
    void operator()(std::FILE* file) const { ::pclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> pipe(::popen(command.c_str(), "r"));
  if (!pipe) throw std::runtime_error("cannot run " + command);
  std::string text;
  std::array<char, 4096> buffer{};
  while (const std::size_t size = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    text.append(buffer.data(), size);
  }
  return text;
}

std::string text_of(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  ::close(fd);
  if (!bound) throw std::runtime_error("no free port");
  return ntohs(address.sin_port);
}

RedisServer::RedisServer(Options options) : options_(std::move(options)) {
  std::string pattern = (std::filesystem::temp_directory_path() / "millrace-redis-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  directory_ = pattern;
  try {
    if (options_.tls) make_certificates(directory_);
    for (int attempt = 1;; ++attempt) {  // a port that was free may be taken a moment later
      if (options_.tcp) port_ = free_port();
      if (options_.tls) tls_port_ = free_port();
      write_settings();
      try {
        start();
        return;
      } catch (const std::exception&) {
        if (attempt == 5) throw;
      }
    }
  } catch (...) {
    kill();
    std::filesystem::remove_all(directory_);
    throw;
  }
}

RedisServer::~RedisServer() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void RedisServer::write_settings() const {
  std::ofstream out(file("redis.conf"));
  out << "dir " << directory_ << "\nunixsocket " << socket() << "\nlogfile " << file("redis.log")
      << "\nbind 127.0.0.1\nport " << port_ << "\ndaemonize no\n";
  if (!options_.sentinel) out << "save \"\"\nappendonly yes\nappendfsync always\naof-load-truncated no\n";
  if (options_.tls) {
    out << "tls-port " << tls_port_ << "\ntls-cert-file " << file("server.crt") << "\ntls-key-file "
        << file("server.key") << "\ntls-ca-cert-file " << file("ca.crt") << "\ntls-auth-clients no\n";
  }
  for (const auto& [name, value] : options_.settings) out << name << ' ' << value << '\n';
}

/// Cuts what a kill tore off, as docs/stores.md tells operators to ("A torn file").
void RedisServer::repair() const {
  const std::string manifest = file("appendonlydir/appendonly.aof.manifest");
  if (!std::filesystem::exists(manifest)) return;
  run("echo y | redis-check-aof --fix " + quoted(manifest) + " >>" + quoted(file("repair.log")) + " 2>&1");
}

void RedisServer::start() {
  repair();
  std::filesystem::remove(socket());
  const std::string settings = file("redis.conf");
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    const int nowhere = ::open("/dev/null", O_RDWR);
    for (const int fd : {0, 1, 2}) ::dup2(nowhere, fd);
    ::execlp("redis-server", "redis-server", settings.c_str(), options_.sentinel ? "--sentinel" : nullptr,
             static_cast<char*>(nullptr));
    ::_exit(127);
  }
  if (pid_ < 0) throw std::runtime_error("fork failed");
  const auto until = steady_clock::now() + kStartTime;
  while (!answers()) {
    const bool ended = ::waitpid(pid_, nullptr, WNOHANG) == pid_;
    if (ended) pid_ = 0;
    if (ended || steady_clock::now() > until) {
      kill();
      throw std::runtime_error("redis-server did not start (is it installed?): " + text_of(file("redis.log")));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

/// Whether it answers anything but that it is loading.
bool RedisServer::answers() const {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket().c_str(), sizeof address.sun_path - 1);
  std::array<char, 64> answer{};
  const timeval patience{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const bool came = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                    ::send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6 && ::recv(fd, answer.data(), answer.size() - 1, 0) > 0;
  ::close(fd);
  return came && std::strncmp(answer.data(), "-LOADING", 8) != 0;
}

void RedisServer::reap() {
  if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

void RedisServer::terminate() {
  if (pid_ > 0) ::kill(pid_, SIGTERM);
  reap();
}

void RedisServer::kill() {
  if (pid_ > 0) ::kill(pid_, SIGKILL);
  reap();
}

void RedisServer::suspend() {
  ::kill(pid_, SIGSTOP);
}
void RedisServer::resume() {
  ::kill(pid_, SIGCONT);
}

std::string RedisServer::url(const std::string& options) const {
  return "redis+unix:" + socket() + (options.empty() ? "" : "?" + options);
}

std::string RedisServer::cli(const std::vector<std::string>& arguments) const {
  std::string command = "redis-cli -s " + quoted(socket());
  for (const std::string& argument : arguments) command += " " + quoted(argument);
  std::string text = output_of(command + " 2>&1");
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace millrace::test
