// SPDX-License-Identifier: Apache-2.0

// Operation sequences on an SQLite store. The same is done to a memory store, which is never closed: whatever either
// answers must be the same, also after the file was closed and opened again at any point in between.
//
// No time passes here that would matter: leases are long, and a retry waits not at all or for hours.

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <vector>

#include "fuzz.hpp"
#include "millrace/codec.hpp"
#include "millrace/store.hpp"

namespace millrace::fuzz {
namespace {

constexpr std::size_t kSteps = 40;
constexpr Milliseconds kLong{3'600'000};
constexpr const char* kSession = "session";
constexpr const char* kGroups[] = {"by-key", "by-subject", "unordered"};

/// An empty folder, in memory where there is such a place: what a sync costs shows nothing here.
class Folder {
 public:
  Folder() {
    const std::filesystem::path memory = "/dev/shm";
    const bool there = std::filesystem::is_directory(memory);
    path_ = (there ? memory : std::filesystem::temp_directory_path()) / "millrace-fuzz-XXXXXX";
    require(::mkdtemp(path_.data()) != nullptr, "a folder can be made like " + path_);
  }
  ~Folder() {
    std::error_code ignored;  // a folder left behind breaks no promise
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string url() const { return "sqlite:" + path_ + "/events.db"; }

 private:
  std::string path_;
};

/// One of the two stores, and its own numbers for what both know under the same index.
class Side {
 public:
  explicit Side(std::string url) : url_(std::move(url)) { open(); }
  void open() {
    store_.reset();
    store_ = open_store({.url = url_, .min_free_bytes = 0});
  }
  EventLog& log() { return store_->log(); }
  Ledger& ledger() { return store_->ledger(); }
  KeyValue& kv() { return store_->kv(); }

  std::vector<Lease> leases;
  std::vector<SessionId> sessions;
  std::map<std::string, std::uint64_t> versions;  ///< of keys, as last written

  /// The number of a claim among those of this store.
  std::string text_of(std::uint64_t claim) {
    return '#' + std::to_string(claims_.emplace(claim, claims_.size()).first->second);
  }

 private:
  std::string url_;
  std::unique_ptr<Store> store_;
  std::map<std::uint64_t, std::size_t> claims_;
};

// ---- answers as texts, without what differs by the clock ------------------------------------------------------------

std::string text_of(Event event) {
  if (event.extension(kErasedTime) != nullptr) event.set_extension(kErasedTime, "long ago");
  return encode_json(event);
}
template <class List, class Text>
std::string text_of(const List& list, Text text) {
  std::string out;
  for (const auto& element : list) out += (out.empty() ? "" : ", ") + text(element);
  return '[' + out + ']';
}
std::string text_of(const std::vector<std::size_t>& indexes) {
  return text_of(indexes, [](std::size_t index) { return std::to_string(index); });
}
std::string text_of(const Lag& lag) {
  return std::to_string(lag.ahead) + '+' + std::to_string(lag.in_flight) + '+' + std::to_string(lag.waiting);
}
std::string numbers(std::initializer_list<std::uint64_t> list) {
  return text_of(list, [](std::uint64_t number) { return std::to_string(number); });
}

std::string text_of(const GroupInfo& group) {
  auto consumers = group.consumers;
  std::erase(consumers, kSession);  // which session used which group is of this process: reopening forgets it
  std::sort(consumers.begin(), consumers.end());
  const auto same = [](const std::string& text) { return text; };
  return group.name.str() + " at " + group.cursor.to_string() + " lag " + text_of(group.lag) +
         (group.paused ? " paused " : " ") +
         numbers({group.parked, group.suspects, group.dead, group.processed, group.failures, group.crashes,
                  group.rejected, group.expired, group.skipped, group.settings.max_parked}) +
         text_of(group.types, same) + group.order.to_string() + text_of(consumers, same) + group.stalled;
}

std::string text_of(Side& side, const PendingEvent& event) {
  return event.position.to_string() + ' ' + event.source + ' ' + event.id + ' ' + event.type + ' ' + event.subject +
         ' ' + std::string(to_string(event.state)) + ' ' + event.consumer + ' ' +
         (event.lease ? side.text_of(event.lease->claim) : "") + (event.lease_until ? " until" : "") +
         (event.next_try ? " next" : "") + numbers({event.attempt, event.failures, event.crashes}) + event.last_error;
}

std::string text_of(const DeadLetter& letter) {
  return letter.position.to_string() + ' ' + text_of(letter.event) + ' ' + letter.reason +
         numbers({letter.attempts, letter.failures, letter.crashes});
}

std::string text_of(Side& side, const Whereabouts& where) {
  return std::string(to_string(where.state)) + ' ' + std::to_string(where.behind) + ' ' +
         (where.pending ? text_of(side, *where.pending) : "") + ' ' + where.key.value_or("no key") +
         (where.parked_behind ? " behind " + where.parked_behind->to_string() : "") +
         (where.settled_after ? " after" : "") + (where.settled_before ? " before" : "") +
         (where.claim ? side.text_of(*where.claim) : "") + where.consumer + ' ' + where.reason;
}

// ---- the walk -------------------------------------------------------------------------------------------------------

class Walk {
 public:
  explicit Walk(std::string_view input) : bytes_(input) {}

  void run() {
    for (const char* group : kGroups) make_group(group);
    for (std::size_t step = 0; step < kSteps && !bytes_.empty(); ++step) {
      const std::string what = act();
      try {
        compare();
      } catch (const Broken& broken) {
        throw Broken(std::string(broken.what()) + "\nafter step " + std::to_string(step) + ", " + what);
      }
    }
    file_.open();
    compare();
    compare_reading();
  }

 private:
  /// Does the same to both and requires the same answer; a refusal is one, too.
  std::string both(const std::string& what, const std::function<std::string(Side&)>& act) {
    const auto answer = [&](Side& side) {
      std::string text;
      try {
        return act(side);
      } catch (const Error& error) {
        require(error.code() != Errc::internal, "no internal error: " + std::string(error.what()));
        return "refused: " + std::string(to_string(error.code()));
      }
    };
    const std::string file = answer(file_);
    const std::string memory = answer(memory_);
    require(file == memory, what + ": the file answers\n" + file + "\nand the memory\n" + memory);
    return file;
  }

  std::string act() {
    const std::size_t dice = bytes_.below(40);
    if (dice < 8) return append(), "append";
    if (dice < 15) return claim(), "claim";
    if (dice < 22) return settle(), "settle";
    if (dice < 23) return extend(), "extend";
    if (dice < 25) return session(), "session";
    if (dice < 27) return alter(), "alter";
    if (dice < 29) return dead_letters(), "dead letters";
    if (dice < 31) return trim(), "trim";
    if (dice < 33) return erase(), "erase";
    if (dice < 34) return replay(), "replay";
    if (dice < 36) return file_.open(), "reopen";
    if (dice < 37) return key_value(), "key-value";
    if (dice < 38) return group(), "group";
    return compare_reading(), "reading";
  }

  GroupName any_group() { return kGroups[bytes_.below(std::size(kGroups))]; }
  Position any_position() { return Position{1 + bytes_.below(head_ + 2)}; }
  std::string any_type() {
    static constexpr const char* kTypes[] = {"a", "b.one", "b.two"};
    return kTypes[bytes_.below(std::size(kTypes))];
  }

  Event any_event() {
    static constexpr const char* kKeys[] = {"", "x", "y", "z"};
    Event event;
    event.id = 'e' + std::to_string(bytes_.below(40));
    event.source = bytes_.below(8) == 0 ? "/t" : "/s";
    event.type = any_type();
    event.subject = kKeys[bytes_.below(4)];
    if (const std::string key = kKeys[bytes_.below(4)]; !key.empty()) event.set_extension("partitionkey", key);
    const std::size_t data = bytes_.below(6);
    if (data == 0) return event;
    event.datacontenttype = data == 1 ? "application/octet-stream" : "application/json";
    event.data = data == 1 ? std::string("\0\xff", 2) : std::string(1, static_cast<char>('0' + data));
    return event;
  }

  void append() {
    std::vector<Event> events;
    for (std::size_t n = 1 + bytes_.below(6); n > 0; --n) events.push_back(any_event());
    const auto level = bytes_.below(2) == 0 ? Durability::durable : Durability::relaxed;
    both("append", [&](Side& side) {
      return text_of(side.log().append(kDefaultStream, events, level), [](const AppendResult& result) {
        return std::string(to_string(result.status)) + (result.position ? result.position->to_string() : "");
      });
    });
    head_ = memory_.log().stream(kDefaultStream).last.low;
  }

  void make_group(const GroupName& name) {
    const bool by_subject = name.str() == kGroups[1];
    GroupSettings settings;
    settings.retry.max_attempts = 2;
    settings.max_parked = by_subject ? 3 : 1000;
    const GroupSpec spec{.stream = StreamName(kDefaultStream),
                         .start = Start::beginning(),
                         .types = by_subject ? std::vector<std::string>{"b.*"} : std::vector<std::string>{"*"},
                         .order = OrderRule::parse(by_subject                 ? "attribute:subject"
                                                   : name.str() == kGroups[0] ? "key"
                                                                              : "none"),
                         .settings = settings};
    both("make group", [&](Side& side) { return text_of(side.ledger().ensure_group(name, spec)); });
  }

  void group() {
    const GroupName name = any_group();
    both("delete group", [&](Side& side) { return side.ledger().delete_group(name), ""; });
    both("claim of no group", [&](Side& side) { return side.ledger().claim(name, {.consumer = "c"}), ""; });
    make_group(name);
  }

  void claim(std::optional<std::size_t> session = {}) {
    const GroupName group = any_group();
    ClaimRequest request;
    request.consumer = std::string(1, static_cast<char>('c' + bytes_.below(3)));
    request.max = 1 + bytes_.below(8);
    request.max_bytes = bytes_.below(4) == 0 ? 2 : 8 << 20;
    both("claim", [&](Side& side) {
      request.hold = kLong;
      if (session) request.hold = side.sessions.at(*session);
      const ClaimAnswer answer = side.ledger().claim(group, request);
      for (const Delivery& delivery : answer.deliveries) side.leases.push_back(delivery.lease);
      return text_of(answer.deliveries, [&](const Delivery& delivery) {
        return side.text_of(delivery.lease.claim) + ' ' + delivery.position.to_string() +
               numbers({delivery.attempt, delivery.failures, delivery.crashes}) + text_of(delivery.event);
      });
    });
  }

  Outcome outcome() {
    const std::size_t kind = bytes_.below(8);
    if (kind < 4) return Outcome::ack();
    if (kind == 4) return Outcome::release();
    if (kind == 5) return Outcome::reject("no");
    const auto failure = bytes_.below(2) == 0 ? FailureClass::handler : FailureClass::transient;
    return Outcome::retry("later", failure, kind == 6 ? Milliseconds{0} : kLong);
  }

  void settle() {
    if (memory_.leases.empty()) return;
    const GroupName group = any_group();
    std::vector<std::pair<std::size_t, Outcome>> chosen;
    for (std::size_t n = 1 + bytes_.below(8); n > 0; --n) {
      const std::size_t back = bytes_.below(std::min<std::size_t>(memory_.leases.size(), 32));
      chosen.emplace_back(memory_.leases.size() - 1 - back, outcome());
    }
    both("settle", [&](Side& side) {
      std::vector<Settlement> settlements;
      for (const auto& [lease, outcome] : chosen) settlements.push_back({side.leases.at(lease), outcome});
      return text_of(side.ledger().settle(group, settlements));
    });
  }

  void extend() {
    if (memory_.leases.empty()) return;
    const GroupName group = any_group();
    const std::size_t lease = bytes_.below(memory_.leases.size());
    both("extend",
         [&](Side& side) { return text_of(side.ledger().extend(group, std::vector{side.leases.at(lease)}, kLong)); });
  }

  void session() {
    if (memory_.sessions.empty() || bytes_.below(3) == 0) {
      both("open session", [&](Side& side) {
        side.sessions.push_back(side.ledger().open_session(kSession, kLong));
        return "";
      });
    }
    const std::size_t chosen = bytes_.below(memory_.sessions.size());
    if (bytes_.below(3) != 0) return claim(chosen);
    both("close session", [&](Side& side) {
      side.ledger().close_session(side.sessions.at(chosen));
      return side.ledger().renew_session(side.sessions.at(chosen)) ? "still there" : "gone";
    });
  }

  void alter() {
    const GroupName name = any_group();
    GroupChange change;
    switch (bytes_.below(6)) {
      case 0:
        change.paused = bytes_.below(3) == 0;
        break;
      case 1:
        change.seek = bytes_.below(3) == 0 ? Start::beginning() : Start::after(any_position());
        break;
      case 2:
        change.skip = any_position();
        break;
      case 3:
        change.types = bytes_.below(2) == 0 ? std::vector<std::string>{"*"} : std::vector{any_type()};
        break;
      case 4:
        change.order = OrderRule::parse(bytes_.below(2) == 0 ? "none" : "key");
        break;
      default:
        change.settings = memory_.ledger().group(name).settings;
        change.settings->max_parked = 1 + bytes_.below(5);
        change.settings->retry.max_attempts = static_cast<std::uint32_t>(1 + bytes_.below(3));
    }
    both("alter", [&](Side& side) { return text_of(side.ledger().alter_group(name, change)); });
  }

  void dead_letters() {
    const GroupName group = any_group();
    DeadLetterQuery query;
    if (bytes_.below(3) == 0) query.positions = {any_position(), any_position()};
    if (bytes_.below(3) == 0) query.types = {any_type()};
    if (bytes_.below(4) == 0) query.reason_contains = "gave up";
    query.dry_run = bytes_.below(4) == 0;
    const bool purge = bytes_.below(4) == 0;
    both(purge ? "purge" : "redrive", [&](Side& side) {
      Ledger& ledger = side.ledger();
      return std::to_string(purge ? ledger.purge(group, query) : ledger.redrive(group, query));
    });
  }

  void trim() {
    TrimRequest request;
    if (bytes_.below(2) == 0) {
      request.up_to = any_position();
    } else {
      request.max_events = bytes_.below(head_ + 1);
    }
    request.force = bytes_.below(4) == 0;
    request.dry_run = bytes_.below(4) == 0;
    both("trim", [&](Side& side) {
      TrimResult result = side.log().trim(kDefaultStream, request);
      std::sort(result.kept.begin(), result.kept.end(), [](auto& a, auto& b) { return a.group < b.group; });
      return std::to_string(result.removed) + " up to " + result.trimmed_to.to_string() +
             text_of(result.kept, [](const auto& kept) { return kept.group.str() + std::to_string(kept.events); });
    });
  }

  void erase() {
    const Event event = any_event();
    both("erase", [&](Side& side) {
      const auto position = side.log().erase(kDefaultStream, event.source, event.id);
      return position ? position->to_string() : "nothing";
    });
  }

  void replay() {
    const GroupName group = any_group();
    std::vector<Position> positions;
    for (std::size_t n = 1 + bytes_.below(5); n > 0; --n) positions.push_back(any_position());
    both("replay", [&](Side& side) {
      return text_of(side.ledger().replay(group, "again", positions),
                     [](ReplayStatus status) { return std::string(to_string(status)); });
    });
  }

  void key_value() {
    const std::string key(1, static_cast<char>('k' + bytes_.below(3)));
    const std::string value(bytes_.below(4), 'v');
    const std::size_t how = bytes_.below(4);
    both("key-value", [&](Side& side) -> std::string {
      KeyValue& kv = side.kv();
      std::uint64_t& version = side.versions[key];
      std::optional<std::uint64_t> written;
      if (how == 0) written = kv.set(key, value);
      if (how == 1) written = kv.set_if_absent(key, value);
      if (how == 2) written = kv.compare_and_swap(key, version, value);
      if (how == 3) return kv.erase(key, version) ? "erased" : "not erased";
      if (!written) return "not written";
      require(*written > version, "a version grows");
      version = *written;
      return "written";
    });
    both("scan", [&](Side& side) {
      return text_of(side.kv().scan("", "", 2), [](const KeyValueEntry& entry) { return entry.key + entry.value; });
    });
  }

  /// What can be seen of the groups and of the stream.
  void compare() {
    both("stream", [&](Side& side) {
      const StreamInfo info = side.log().stream(kDefaultStream);
      return numbers({info.events, info.first.low, info.last.low, info.trimmed_to.low});
    });
    both("groups", [&](Side& side) {
      auto groups = side.ledger().groups();
      std::sort(groups.begin(), groups.end(), [](auto& a, auto& b) { return a.name < b.name; });
      return text_of(groups, [](const GroupInfo& group) { return text_of(group) + '\n'; });
    });
    for (const char* group : kGroups) {
      both("pending", [&](Side& side) {
        return text_of(side.ledger().pending(group, {}, 1000),
                       [&](const PendingEvent& event) { return text_of(side, event) + '\n'; });
      });
      both("dead letters", [&](Side& side) {
        return text_of(side.ledger().dead_letters(group, {.limit = 1000}),
                       [](const DeadLetter& letter) { return text_of(letter) + '\n'; });
      });
    }
  }

  void compare_reading() {
    ReadQuery query;
    query.limit = 1 + bytes_.below(7);
    if (bytes_.below(2) == 0) query.after = any_position();
    if (bytes_.below(3) == 0) query.types = {"b.*"};
    if (bytes_.below(4) == 0) query.sources = {"/t"};
    if (bytes_.below(3) == 0) query.keys = {"x", "y"};
    both("read", [&](Side& side) {
      ReadQuery next = query;
      std::string out;
      for (std::size_t pages = 0;; ++pages) {
        require(pages < head_ + 2, "reading comes to an end");
        const Page page = side.log().read(kDefaultStream, next);
        if (pages == 0 && page.gap) out += "gap to " + page.gap->to_string() + '\n';
        out += text_of(page.events, [](const StoredEvent& stored) {
          return stored.position.to_string() + ' ' + text_of(stored.event) + '\n';
        });
        if (page.at_end) return out;
        require(page.next > next.after, "a page moves on");
        next.after = page.next;
      }
    });
    const Position position = any_position();
    for (const char* group : kGroups) {
      both("where", [&](Side& side) { return text_of(side, side.ledger().where(group, position)); });
    }
    const Event event = any_event();
    both("find", [&](Side& side) {
      return text_of(side.log().find(kDefaultStream, event.id), [](const FoundEvent& found) {
        const Event& stored = found.stored.event;
        return found.stored.position.to_string() + (found.trimmed_at ? " trimmed " + stored.source : text_of(stored));
      });
    });
  }

  Bytes bytes_;
  Folder folder_;
  Side file_{folder_.url()}, memory_{"memory:"};
  std::size_t head_ = 0;
};

}  // namespace

void store_operations(std::string_view input) {
  Walk(input).run();
}

}  // namespace millrace::fuzz
