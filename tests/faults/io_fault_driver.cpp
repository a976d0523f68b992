// SPDX-License-Identifier: Apache-2.0
//
// Does one operation on a store while one of its system calls fails, then goes on without faults, and tells what was
// answered and what is there. It judges nothing; tests/system/io_fault_test.py does. Runs under the preloaded library.
//
//   io_fault_driver FOLDER      cases as lines on stdin, one JSON object per case on stdout:
//   STEP N ERROR PERSISTENT     arms a fault at the N-th system call of STEP (0: only counts)
//   template | steps            makes FOLDER/base, FOLDER/dirty | names the steps
//
// Each case is a process of its own upon a fresh copy, FOLDER/case, which stays until the next one.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <thread>

#include "disk_shim_state.hpp"
#include "millrace/millrace.hpp"

namespace fs = std::filesystem;
using namespace millrace;
using namespace std::chrono_literals;

namespace {

// ---- the preloaded library's handles
// ---------------------------------------------------------------------------------

template <class Function>
Function* preloaded(const char* name) {
  auto* const found = reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
  if (!found) {
    std::cerr << "io_fault_driver: run it with the disk shim preloaded (no " << name << ")\n";
    std::exit(2);
  }
  return found;
}
auto* const arm = preloaded<void(unsigned long, int, int)>("millrace_faults_arm");
auto* const disarm = preloaded<unsigned long(unsigned long*)>("millrace_faults_disarm");
auto* const kind_of = preloaded<unsigned char(unsigned long)>("millrace_faults_kind");

// ---- JSON out
// --------------------------------------------------------------------------------------------------------

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + '"';
}

template <class Range, class Function>
std::string list_of(const Range& range, Function each) {
  std::string out;
  for (const auto& entry : range) out += (out.empty() ? "" : ",") + each(entry);
  return "[" + out + "]";
}

// ---- the world
// -------------------------------------------------------------------------------------------------------

Event event_of(const std::string& id, std::size_t size = 20) {
  Event event;
  event.id = id;
  event.source = "/faults";
  event.type = "fault.met";
  event.subject = id;
  event.data = std::string(size, 'x');
  return event;
}

std::vector<Event> events_of(const std::string& prefix, int count, std::size_t size = 20) {
  std::vector<Event> events;
  for (int i = 1; i <= count; ++i) events.push_back(event_of(prefix + std::to_string(i), size));
  return events;
}

StoreOptions options_for(const fs::path& folder) {
  StoreOptions options;
  options.url = (folder / "events.db").string();
  options.min_free_bytes = 0;
  return options;
}

GroupSpec from_beginning() {
  GroupSpec spec;
  spec.stream = "events";
  spec.start = Start::beginning();
  return spec;
}

struct World {
  fs::path folder;
  std::unique_ptr<Store> store = {};
  std::vector<Delivery> held = {};
  SessionId session = 0;

  void open() { store = open_store(options_for(folder)); }
  EventLog& log() { return store->log(); }
  Ledger& ledger() { return store->ledger(); }
  void settle(const Outcome& outcome, std::size_t count) {
    std::vector<Settlement> settlements;
    for (std::size_t i = 0; i < count; ++i) settlements.push_back({held.at(i).lease, outcome});
    const auto stale = ledger().settle("work", settlements);
    if (!stale.empty()) throw std::runtime_error("leases that are held are stale");
  }
  void change(const GroupChange& change) { ledger().alter_group("work", change); }
};

/// e1 acknowledged, e2 dead, e3 waits for an hour, e4 … e8 ahead of the group "work".
void make_base(const fs::path& folder) {
  fs::create_directories(folder);
  World world{folder};
  world.open();
  world.log().append("events", events_of("e", 8));
  world.ledger().ensure_group("work", from_beginning());
  const auto first = world.ledger().claim("work", {"c", 3}).deliveries;
  world.ledger().settle("work",
                        std::vector<Settlement>{{first[0].lease, Outcome::ack()},
                                                {first[1].lease, Outcome::reject("no")},
                                                {first[2].lease, Outcome::retry("later", FailureClass::handler, 1h)}});
  world.store->kv().set("a", "1");
}

struct Step {
  std::function<void(World&)> run;
  std::function<void(World&)> before = {};  ///< without faults, behind opening
  bool opens = false;                       ///< `run` opens the store itself
  const char* from = "base";                ///< the template; null: an empty folder
};

/// Until the store's own threads do nothing more to its files.
void settle_down() {
  unsigned long before = ~0UL;
  for (int i = 0; i < 200; ++i) {
    std::this_thread::sleep_for(10ms);
    unsigned long now = 0;
    while (kind_of(now + 1) != 0) now += 1;
    if (now == before) return;
    before = now;
  }
}

const std::map<std::string, Step>& steps() {
  static const std::map<std::string, Step> all{
      {"create", {.run = [](World& w) { w.open(); }, .opens = true, .from = nullptr}},
      {"open", {.run = [](World& w) { w.open(); }, .opens = true}},
      {"open-dirty", {.run = [](World& w) { w.open(); }, .opens = true, .from = "dirty"}},
      {"append-durable", {.run = [](World& w) { w.log().append("events", events_of("n", 3)); }}},
      {"append-relaxed", {.run = [](World& w) { w.log().append("events", events_of("n", 3), Durability::relaxed); }}},
      {"append-big", {.run = [](World& w) { w.log().append("events", events_of("n", 2, 100'000)); }}},
      {"append-duplicate", {.run = [](World& w) { w.log().append("events", events_of("e", 2)); }}},
      {"append-behind-relaxed",
       {.run = [](World& w) { w.log().append("events", events_of("n", 1)); },
        .before = [](World& w) { w.log().append("events", events_of("r", 2), Durability::relaxed); }}},
      {"create-stream", {.run = [](World& w) { w.log().create_stream("more"); }}},
      {"read", {.run = [](World& w) { w.log().read("events", {}); }}},
      {"trim", {.run = [](World& w) { w.log().trim("events", {.up_to = Position(1)}); }}},
      {"erase", {.run = [](World& w) { w.log().erase("events", "/faults", "e8"); }}},
      {"ensure-group", {.run = [](World& w) { w.ledger().ensure_group("new", from_beginning()); }}},
      {"delete-group", {.run = [](World& w) { w.ledger().delete_group("work"); }}},
      {"pause", {.run = [](World& w) { w.change({.paused = true}); }}},
      {"seek", {.run = [](World& w) { w.change({.seek = Start::end()}); }}},
      {"skip", {.run = [](World& w) { w.change({.skip = Position(4)}); }}},
      {"claim",
       {.run =
            [](World& w) {
              w.ledger().claim("work", {"c", 2});
            }}},
      {"ack", {.run = [](World& w) { w.settle(Outcome::ack(), 2); }}},
      {"retry", {.run = [](World& w) { w.settle(Outcome::retry("later", FailureClass::handler, 1h), 1); }}},
      {"reject", {.run = [](World& w) { w.settle(Outcome::reject("no"), 1); }}},
      {"release", {.run = [](World& w) { w.settle(Outcome::release(), 2); }}},
      {"extend", {.run = [](World& w) { w.ledger().extend("work", std::vector{w.held[0].lease}, 60s); }}},
      {"redrive", {.run = [](World& w) { w.ledger().redrive("work", {}); }}},
      {"purge", {.run = [](World& w) { w.ledger().purge("work", {}); }}},
      {"session", {.run = [](World& w) { w.session = w.ledger().open_session("s", 30s); }}},
      {"renew-session",
       {.run = [](World& w) { w.ledger().renew_session(w.session); },
        .before = [](World& w) { w.session = w.ledger().open_session("s", 30s); }}},
      {"kv-set", {.run = [](World& w) { w.store->kv().set("b", "2"); }}},
      {"kv-swap", {.run = [](World& w) { w.store->kv().compare_and_swap("a", w.store->kv().get("a")->version, "3"); }}},
      {"kv-erase", {.run = [](World& w) { w.store->kv().erase("a"); }}},
      // 8 MiB of log are nearly there; one more append starts the checkpoint on its own thread.
      {"checkpoint",
       {.run =
            [](World& w) {
              w.log().append("events", events_of("n", 1, 900'000));
              settle_down();
            },
        .before =
            [](World& w) {
              for (int i = 0; i < 15; ++i) w.log().append("events", events_of("big" + std::to_string(i), 1, 520'000));
            }}},
      {"close",
       {.run = [](World& w) { w.store.reset(); },
        .before = [](World& w) { w.log().append("events", events_of("n", 3)); }}},
  };
  return all;
}

// ---- what is there
// ---------------------------------------------------------------------------------------------------

std::string group_state(World& world, const GroupInfo& info) {
  const auto& name = info.name;
  std::ostringstream out;
  out << "{\"name\":" << json_text(name.str()) << ",\"paused\":" << info.paused << ",\"ahead\":" << info.lag.ahead
      << ",\"in_flight\":" << info.lag.in_flight << ",\"waiting\":" << info.lag.waiting << ",\"dead\":" << info.dead
      << ",\"processed\":" << info.processed << ",\"rejected\":" << info.rejected << ",\"failures\":" << info.failures
      << ",\"skipped\":" << info.skipped << ",\"consumers\":" << list_of(info.consumers, json_text) << ",\"pending\":"
      << list_of(world.ledger().pending(name, {}, 1000),
                 [](const PendingEvent& p) {
                   return "[" + json_text(p.id) + "," + json_text(to_string(p.state)) + "," +
                          std::to_string(p.failures) + "]";
                 })
      << ",\"dead_letters\":"
      << list_of(world.ledger().dead_letters(name, {}),
                 [](const DeadLetter& d) { return "[" + json_text(d.event.id) + "," + json_text(d.reason) + "]"; })
      << "}";
  return out.str();
}

/// Everything that can be seen from outside and does not depend on time. The group "other" is the judge's own.
std::string state_of(World& world) {
  std::ostringstream out;
  std::vector<GroupInfo> groups;
  for (auto& info : world.ledger().groups()) {
    if (info.name != GroupName("other")) groups.push_back(std::move(info));
  }
  const Page page = world.log().read("events", {.limit = 1000, .max_bytes = 1 << 28});
  out << "{\"events\":"
      << list_of(page.events,
                 [](const StoredEvent& e) {
                   return "[" + json_text(e.event.id) + "," + std::to_string(e.position.low) + "," +
                          std::to_string(e.event.data ? e.event.data->size() : 0) + "]";
                 })
      << ",\"streams\":"
      << list_of(world.log().streams(),
                 [](const StreamInfo& s) {
                   return "[" + json_text(s.name.str()) + "," + std::to_string(s.events) + "," +
                          s.trimmed_to.to_string() + "]";
                 })
      << ",\"groups\":" << list_of(groups, [&](const GroupInfo& info) { return group_state(world, info); })
      << ",\"kv\":"
      << list_of(world.store->kv().scan(""),
                 [](const KeyValueEntry& e) { return "[" + json_text(e.key) + "," + json_text(e.value) + "]"; })
      << "}";
  return out.str();
}

struct Answer {
  std::string code = "ok";
  std::string text = {};
  [[nodiscard]] std::string json() const { return "[" + json_text(code) + "," + json_text(text) + "]"; }
};

Answer attempt(const std::function<void()>& what) {
  try {
    what();
    return {};
  } catch (const Error& error) {
    return {std::string(to_string(error.code())), error.what()};
  } catch (const std::exception& error) {
    return {"foreign exception", error.what()};
  }
}

/// Faults have ended: how long until this works? A polite caller repeats what is transient.
Answer attempt_until(const std::function<void()>& what, int* repeated) {
  const auto end = std::chrono::steady_clock::now() + 5s;
  for (;; ++*repeated) {
    const Answer answer = attempt(what);
    const bool transient = answer.code == "unavailable" || answer.code == "outcome_unknown" || answer.code == "busy" ||
                           answer.code == "store_full" || answer.code == "timed_out";
    if (!transient || std::chrono::steady_clock::now() > end) return answer;
    std::this_thread::sleep_for(5ms);
  }
}

struct Case {
  std::string step;
  unsigned long nth = 0;
  int error = 0;
  int persistent = 0;
  bool skip = false;  ///< leaves the operation out: how the world looks without it
};

void run_case(const fs::path& root, const Case& wanted) {
  const Step& step = steps().at(wanted.step);
  const bool counting = wanted.nth == 0;
  World world{root / "case"};
  if (!step.opens) world.open();
  if (!step.opens) world.held = world.ledger().claim("work", {"c", 2}).deliveries;
  if (step.before) step.before(world);

  arm(wanted.nth, wanted.error, wanted.persistent);
  const Answer answer = wanted.skip ? Answer{"skipped", {}} : attempt([&] { step.run(world); });
  Answer meanwhile{"none", {}};
  if (!counting && wanted.persistent && world.store) {
    meanwhile = attempt([&] { world.log().append("events", events_of("meanwhile", 1)); });
  }
  std::string kinds;
  for (unsigned long n = 1; kind_of(n) != 0; ++n) kinds += static_cast<char>(kind_of(n));
  unsigned long struck = 0;
  const unsigned long count = disarm(&struck);

  // Without a restart, where a store is open.
  int repeated = 0;
  std::string now = "null";
  Answer after = attempt_until(
      [&] {
        if (!world.store) world.open();
      },
      &repeated);
  if (after.code == "ok") {
    after = attempt_until([&] { now = state_of(world); }, &repeated);
    if (after.code == "ok")
      after = attempt_until([&] { world.log().append("events", events_of("after", 1)); }, &repeated);
    if (after.code == "ok") {
      after = attempt_until(
          [&] {
            world.ledger().ensure_group("other", from_beginning());
            for (;;) {
              const auto deliveries = world.ledger().claim("other", {"d", 1000, 1 << 28}).deliveries;
              if (deliveries.empty()) return;
              std::vector<Settlement> all;
              for (const auto& delivery : deliveries) all.push_back({delivery.lease, Outcome::ack()});
              if (!world.ledger().settle("other", all).empty()) throw std::runtime_error("fresh leases are stale");
            }
          },
          &repeated);
    }
  }
  // What a late thread of the store still does to the state shows here.
  world.store.reset();
  std::string reopened = "null", other = "null";
  const Answer again = attempt([&] {
    world.open();
    reopened = state_of(world);
    const GroupInfo info = world.ledger().group("other");
    other = "[" + std::to_string(info.processed) + "," +
            std::to_string(info.lag.ahead + info.lag.in_flight + info.lag.waiting) + "]";
    world.store.reset();
  });
  std::cout << "{\"answer\":" << answer.json() << ",\"meanwhile\":" << meanwhile.json() << ",\"count\":" << count
            << ",\"struck\":" << struck << ",\"kinds\":" << json_text(counting ? kinds : std::string{})
            << ",\"struck_kind\":"
            << json_text(wanted.nth && wanted.nth <= kinds.size() ? kinds.substr(wanted.nth - 1, 1) : std::string{})
            << ",\"after\":" << after.json() << ",\"repeated\":" << repeated << ",\"again\":" << again.json()
            << ",\"now\":" << now << ",\"reopened\":" << reopened << ",\"other\":" << other << "}" << std::endl;
}

void copy_folder(const fs::path& from, const fs::path& to) {
  fs::remove_all(to);
  fs::create_directories(to);
  if (!from.empty()) fs::copy(from, to, fs::copy_options::recursive);
}

/// In a process of its own, so that a death is one case's. Gives 0 or how it died.
int in_child(const std::function<void()>& work) {
  std::cout.flush();
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    try {
      work();
    } catch (const std::exception& error) {
      std::cout << "{\"died\":" << json_text(std::string("exception: ") + error.what()) << "}" << std::endl;
    }
    std::cout.flush();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

void make_templates(const fs::path& root) {
  in_child([&] { make_base(root / "base"); });
  // One that was left in the middle: its log was never moved into the file.
  copy_folder(root / "base", root / "dirty");
  in_child([&] {
    World world{root / "dirty"};
    world.open();
    world.log().append("events", events_of("d", 20, 3000));
    world.log().append("events", events_of("r", 3), Durability::relaxed);
    _exit(0);
  });
  std::cout << "{}" << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const fs::path root = argv[1];
  std::string line;
  while (std::getline(std::cin, line)) {
    if (line == "template") {
      make_templates(root);
      continue;
    }
    if (line == "steps") {
      std::cout << list_of(steps(), [](const auto& step) { return json_text(step.first); }) << std::endl;
      continue;
    }
    std::istringstream words(line);
    Case wanted;
    std::string error;
    words >> wanted.step >> wanted.nth >> error >> wanted.persistent;
    wanted.skip = error == "skip";
    if (!wanted.skip) wanted.error = std::atoi(error.c_str());
    const char* from = steps().at(wanted.step).from;
    copy_folder(from ? root / from : fs::path{}, root / "case");
    const int died = in_child([&] { run_case(root, wanted); });
    if (died != 0) std::cout << "{\"died\":\"" << died << "\"}" << std::endl;
  }
  return 0;
}
