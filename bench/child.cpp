// SPDX-License-Identifier: Apache-2.0
#include "child.hpp"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace bench {

std::string find_program(const std::string& name, const std::vector<std::string>& folders) {
  std::vector<std::string> all;
  const char* const path = std::getenv("PATH");
  std::istringstream entries(path ? path : "");
  for (std::string folder; std::getline(entries, folder, ':');) all.push_back(folder);
  all.emplace_back("/usr/bin");
  all.insert(all.end(), folders.begin(), folders.end());
  for (const std::string& folder : all) {
    const std::string candidate = folder + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return {};
}

TemporaryDir::TemporaryDir() {
  char path[] = "/tmp/millrace-bench-XXXXXX";
  if (!::mkdtemp(path)) throw std::runtime_error(std::string("no temporary directory: ") + std::strerror(errno));
  path_ = path;
}

TemporaryDir::~TemporaryDir() {
  std::error_code ignored;  // a directory left in /tmp harms nobody
  std::filesystem::remove_all(path_, ignored);
}

Child::Child(const std::vector<std::string>& words, const Options& options) : name_(words.at(0)) {
  std::vector<std::string> own = words;
  std::vector<char*> argv;
  argv.reserve(own.size() + 1);
  for (std::string& word : own) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<char*> environment;
  for (char** entry = environ; *entry; ++entry)
    if (std::strncmp(*entry, "MILLRACE_", 9) != 0) environment.push_back(*entry);
  environment.push_back(nullptr);

  int pipe[2] = {-1, -1};
  if (options.read_output && ::pipe2(pipe, O_CLOEXEC) != 0) throw std::runtime_error(name_ + ": no pipe");
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error(name_ + ": fork failed");
  if (pid_ == 0) {
    if (options.uid != 0 && ::getuid() == 0 &&
        (::setgroups(0, nullptr) != 0 || ::setgid(options.gid) != 0 || ::setuid(options.uid) != 0))
      ::_exit(127);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // after the change of user, which takes it back
    if (::getppid() != parent) ::_exit(127);
    const int log = options.log.empty() ? ::open("/dev/null", O_WRONLY)
                                        : ::open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log < 0) ::_exit(127);
    ::dup2(log, STDERR_FILENO);
    ::dup2(options.read_output ? pipe[1] : log, STDOUT_FILENO);
    ::execve(argv[0], argv.data(), environment.data());
    ::_exit(127);
  }
  if (options.read_output) {
    ::close(pipe[1]);
    output_.reset(::fdopen(pipe[0], "r"));
  }
}

Child::~Child() {
  stop(SIGKILL);
}

bool Child::running() {
  int status = 0;
  if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    pid_ = -1;
  }
  return pid_ > 0;
}

std::string Child::line() {
  char* text = nullptr;
  std::size_t room = 0;
  const auto size = ::getline(&text, &room, output_.get());
  std::string result(text ? text : "", size > 0 ? static_cast<std::size_t>(size) : 0);
  std::free(text);
  if (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

void Child::stop(int signal) {
  if (!running()) return;
  ::kill(pid_, signal);
  wait();
}

int Child::wait() {
  int status = 0;
  if (pid_ > 0 && ::waitpid(pid_, &status, 0) == pid_) {
    code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    pid_ = -1;
  }
  return code_;
}

double Child::cpu_seconds() const {
  std::ifstream stat("/proc/" + std::to_string(pid_) + "/stat");
  std::string text;
  std::getline(stat, text);
  const auto behind_name = text.rfind(')');
  if (behind_name == std::string::npos) throw std::runtime_error(name_ + ": it is not running");
  std::istringstream fields(text.substr(behind_name + 2));  // proc(5): utime is the 12th field from here
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::uint64_t Child::rss_bytes() const {
  std::ifstream statm("/proc/" + std::to_string(pid_) + "/statm");
  std::uint64_t total = 0, resident = 0;
  if (!(statm >> total >> resident)) throw std::runtime_error(name_ + ": it is not running");
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace bench
