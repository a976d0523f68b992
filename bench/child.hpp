// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Programs that are measured beside or instead of the library: started privately, ended with us whatever happens.

#include <sys/types.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace bench {

/// Full path of a program on PATH, in /usr/bin or in `folders`; empty when there is none.
std::string find_program(const std::string& name, const std::vector<std::string>& folders = {});

/// A directory below /tmp with a short name, because a socket's path must be short. Removed with the object.
class TemporaryDir {
 public:
  TemporaryDir();
  ~TemporaryDir();
  TemporaryDir(const TemporaryDir&) = delete;
  TemporaryDir& operator=(const TemporaryDir&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Child {
 public:
  struct Options {
    std::string log = {};      ///< file that takes its error output, and its output unless that is read here
    bool read_output = false;  ///< its output comes by line()
    uid_t uid = 0;             ///< as whom, when we are root; 0 = as ourselves
    gid_t gid = 0;
  };
  /// Without the environment's MILLRACE_ variables. \throws std::runtime_error
  Child(const std::vector<std::string>& words, const Options& options);
  ~Child();  ///< kills it
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  bool running();
  std::string line();                             ///< the next line of its output; empty when it has ended
  void stop(int signal);                          ///< sends it and waits for the end
  int wait();                                     ///< its exit code, or 128 + the signal that ended it
  [[nodiscard]] double cpu_seconds() const;       ///< used so far, by all its threads; while it runs
  [[nodiscard]] std::uint64_t rss_bytes() const;  ///< resident size; while it runs

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string name_;
  pid_t pid_ = -1;
  int code_ = 0;
  std::unique_ptr<std::FILE, Close> output_;
};

}  // namespace bench
