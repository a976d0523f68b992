// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millrace/store.hpp"

namespace millrace::test {

/// A directory of one test's own, gone with it.
class TempDirectory {
 public:
  TempDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "millrace-test-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline Event event_of(const std::string& id, const std::string& type = "test.event", const std::string& key = {}) {
  Event event;
  event.id = id;
  event.source = "/test";
  event.type = type;
  event.subject = key;
  event.data = "data of " + id;
  return event;
}

inline std::vector<Event> events_of(const std::string& prefix, int count) {
  std::vector<Event> events;
  for (int i = 0; i < count; ++i) events.push_back(event_of(prefix + std::to_string(i)));
  return events;
}

inline StoreOptions options_for(const std::string& path, StoreOptions::Access access = StoreOptions::Access::owner) {
  StoreOptions options;
  options.url = path;
  options.access = access;
  options.min_free_bytes = 0;
  return options;
}

inline GroupSpec from_beginning(const char* stream = "events") {
  GroupSpec spec;
  spec.stream = stream;
  spec.start = Start::beginning();
  return spec;
}

/// The code of the Error that `action` throws.
template <class Action>
Errc code_of(Action action, std::string* text = nullptr) {
  try {
    action();
  } catch (const Error& error) {
    if (text) *text = error.what();
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return Errc::internal;
}

/// Runs SQL on a file beside the store, as the sqlite3 program would; the first column of the first row.
inline std::string sql(const std::string& path, const std::string& statement) {
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  sqlite3_busy_timeout(db, 10'000);
  std::string first;
  char* failure = nullptr;
  sqlite3_exec(
      db, statement.c_str(),
      [](void* out, int count, char** values, char**) {
        auto& text = *static_cast<std::string*>(out);
        if (text.empty() && count > 0 && values[0]) text = values[0];
        return 0;
      },
      &first, &failure);
  EXPECT_EQ(failure, nullptr) << failure << " in " << statement;
  sqlite3_free(failure);
  sqlite3_close(db);
  return first;
}

}  // namespace millrace::test
