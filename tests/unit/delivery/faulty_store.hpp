// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "millrace/store.hpp"

namespace millrace {

enum class StoreFault { claim, settle };

namespace test {

/// A folder of its own for a store, gone with the test.
class TempFile {
 public:
  TempFile() {
    std::string name = (std::filesystem::temp_directory_path() / "millrace-delivery-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
    folder_ = name;
  }
  ~TempFile() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  [[nodiscard]] std::string url(std::string_view backend) const {
    return backend == "memory" ? "memory:" : "sqlite:" + (folder_ / "events.db").string() + "?min_free=0";
  }

 private:
  std::filesystem::path folder_;
};

/// Events numbered from `first`; with `keys`, their subject is one of so many.
inline void append(Store& store, std::size_t count, std::size_t first = 0, std::size_t keys = 0) {
  std::vector<Event> events;
  for (std::size_t n = first; n < first + count; ++n) {
    Event event;
    event.id = "e" + std::to_string(n);
    event.source = "/test";
    event.type = "test.event";
    if (keys != 0) event.subject = "key" + std::to_string(n % keys);
    events.push_back(std::move(event));
  }
  store.log().append(kDefaultStream, events);
}

template <class Condition>
bool eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return true;
}

/// A store around another one, whose ledger fails on demand before the real one hears of it.
class FaultyStore final : public Store, public Ledger {
 public:
  explicit FaultyStore(Store& real) : real_(real) {}

  void fail_next(StoreFault call, int times) { (call == StoreFault::claim ? claims_ : settles_) = times; }
  /// Sessions opened so far end as if their lease had run out unseen.
  void lose_sessions() { lost_up_to_ = opened_.load(); }
  [[nodiscard]] int sessions_opened() const { return opened_; }

  EventLog& log() override { return real_.log(); }
  Ledger& ledger() override { return *this; }
  KeyValue& kv() override { return real_.kv(); }
  [[nodiscard]] Capabilities capabilities() const override { return real_.capabilities(); }
  [[nodiscard]] std::string describe() const override { return real_.describe(); }
  [[nodiscard]] std::vector<Figure> figures() const override { return real_.figures(); }
  void backup(const std::string& to) override { real_.backup(to); }

  GroupInfo ensure_group(const GroupName& g, const GroupSpec& s) override { return real().ensure_group(g, s); }
  std::vector<GroupInfo> groups() override { return real().groups(); }
  GroupInfo group(const GroupName& g) override { return real().group(g); }
  GroupInfo alter_group(const GroupName& g, const GroupChange& c) override { return real().alter_group(g, c); }
  void delete_group(const GroupName& g) override { real().delete_group(g); }
  SessionId open_session(const std::string& consumer, Milliseconds lease) override {
    const SessionId session = real().open_session(consumer, lease);
    ++opened_;
    return session;
  }
  bool renew_session(SessionId session) override {
    if (lost_up_to_ != 0 && lost_up_to_ == opened_) {
      real().close_session(session);
      return false;
    }
    return real().renew_session(session);
  }
  void close_session(SessionId session) override { real().close_session(session); }
  ClaimAnswer claim(const GroupName& g, const ClaimRequest& r) override {
    fail(claims_, "claim");
    return real().claim(g, r);
  }
  std::vector<std::size_t> settle(const GroupName& g, std::span<const Settlement> s) override {
    fail(settles_, "settle");
    return real().settle(g, s);
  }
  std::vector<std::size_t> extend(const GroupName& g, std::span<const Lease> l, Milliseconds m) override {
    return real().extend(g, l, m);
  }
  std::vector<PendingEvent> pending(const GroupName& g, Position p, std::size_t n) override {
    return real().pending(g, p, n);
  }
  std::vector<DeadLetter> dead_letters(const GroupName& g, const DeadLetterQuery& q) override {
    return real().dead_letters(g, q);
  }
  std::uint64_t redrive(const GroupName& g, const DeadLetterQuery& q) override { return real().redrive(g, q); }
  std::uint64_t purge(const GroupName& g, const DeadLetterQuery& q) override { return real().purge(g, q); }
  std::vector<ReplayStatus> replay(const GroupName& g, std::string_view id, std::span<const Position> p) override {
    return real().replay(g, id, p);
  }
  Whereabouts where(const GroupName& g, Position p) override { return real().where(g, p); }

 private:
  Ledger& real() { return real_.ledger(); }
  static void fail(std::atomic<int>& left, const char* operation) {
    if (left.load() > 0 && left.fetch_sub(1) > 0) throw Error(Errc::unavailable, operation, "g", "as the test asked");
  }

  Store& real_;
  std::atomic<int> claims_{0};
  std::atomic<int> settles_{0};
  std::atomic<int> opened_{0};
  std::atomic<int> lost_up_to_{0};
};

}  // namespace test
}  // namespace millrace
