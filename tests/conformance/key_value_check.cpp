// SPDX-License-Identifier: Apache-2.0

#include <atomic>
#include <thread>

#include "subject.hpp"

namespace millrace::conformance {

void check_key_value(Subject& subject) {
  KeyValue& kv = subject.kv();
  require(!kv.get("a"), "an unset key is absent");
  const std::uint64_t v1 = kv.set("a", "1");
  const std::string binary("\0\xFF\n", 3);
  const std::uint64_t v2 = kv.set("b", binary);
  require(v2 > v1, "versions grow over all keys");
  require(kv.get("a")->value == "1" && kv.get("a")->version == v1 && kv.get("b")->value == binary,
          "get answers what was set");
  require(!kv.set_if_absent("a", "2") && kv.get("a")->value == "1", "set_if_absent leaves what is there");
  const auto v3 = kv.set_if_absent("c", "3");
  require(v3 && *v3 > v2, "set_if_absent sets what is not there");
  require(!kv.compare_and_swap("a", v2, "x") && !kv.compare_and_swap("nobody", 1, "x"),
          "compare_and_swap needs the version");
  const auto v4 = kv.compare_and_swap("a", v1, "4");
  require(v4 && *v4 > *v3 && kv.get("a")->value == "4", "compare_and_swap swaps");
  require(!kv.erase("a", v1) && kv.erase("a", *v4) && !kv.get("a") && !kv.erase("a"),
          "erase needs the version, if given");
  require(kv.set("a", "5") > *v4, "versions are never used again");

  for (const char* key : {"p/2", "p/1", "p/3", "q", "p"}) kv.set(key, key);
  const auto keys = [&](std::string_view prefix, std::string_view after, std::size_t limit) {
    std::string all;
    for (const KeyValueEntry& entry : kv.scan(prefix, after, limit)) all += entry.key + " ";
    return all;
  };
  require(keys("p/", "", 100) == "p/1 p/2 p/3 ", "scan by prefix, in order: " + keys("p/", "", 100));
  require(keys("p/", "p/1", 1) == "p/2 ", "scan after a key, limited");
  require(keys("p", "", 100) == "p p/1 p/2 p/3 ", "a prefix is a whole key too");
  require(keys("x", "", 100).empty(), "scan of nothing");
  kv.set("\xFF\xFF", "top");
  require(keys("\xFF", "", 100) == "\xFF\xFF ", "scan by the highest prefix");
  require_error(Errc::invalid_argument, "an empty key", [&] { kv.set("", "x"); });
  require_error(Errc::invalid_argument, "a key of 513 bytes", [&] { kv.set(std::string(513, 'k'), "x"); });
  kv.set(std::string(512, 'k'), "long");
  for (const Milliseconds ttl : {Milliseconds{0}, Milliseconds{-1}}) {
    require_error(Errc::invalid_argument, "a key that is gone at once", [&] { kv.set("t", "x", ttl); });
    require_error(Errc::invalid_argument, "and if absent", [&] { kv.set_if_absent("t", "x", ttl); });
    require_error(Errc::invalid_argument, "and by its version", [&] { kv.compare_and_swap("t", 1, "x", ttl); });
  }

  kv.set("ttl", "x", Milliseconds{30});
  kv.set("ttl-kept", "x", Milliseconds{30});
  kv.set("ttl-kept", "y");
  kv.set("ttl-long", "x", Milliseconds{3'600'000});
  require(kv.get("ttl-long")->expires_at.has_value() && !kv.get("ttl-kept")->expires_at, "expires_at is told");
  std::this_thread::sleep_for(Milliseconds{60});
  require(!kv.get("ttl") && kv.scan("ttl", "", 100).size() == 2, "an expired key is absent");
  require(kv.get("ttl-kept")->value == "y", "a key set again without ttl does not expire");
  require(kv.set_if_absent("ttl", "z").has_value(), "an expired key can be set anew");

  kv.set("counter", "0");
  const int turns = static_cast<int>(scaled(100));
  std::vector<std::jthread> threads;
  std::atomic<int> failed{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      try {
        for (int i = 0; i < turns;) {
          const auto entry = kv.get("counter");
          i += kv.compare_and_swap("counter", entry->version, std::to_string(std::stoi(entry->value) + 1)).has_value();
        }
      } catch (const std::exception&) {
        ++failed;
      }
    });
  }
  threads.clear();
  require_equal(failed.load(), 0, "threads that failed to count");
  require(kv.get("counter")->value == std::to_string(4 * turns), "no increment by compare_and_swap is lost");
}

}  // namespace millrace::conformance
