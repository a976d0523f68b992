// SPDX-License-Identifier: Apache-2.0
// Which layout of the event table to choose: the same events into bare SQLite, laid out differently, in turns.
//
//   millrace_sqlite_variants <dir> <events per variant> <rounds> [part of a variant's name]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "bare_sqlite.hpp"
#include "workload.hpp"

namespace {

using bench::BareSqlite;
using bench::Layout;

struct Variant {
  Layout layout;
  std::size_t sources = 1;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  const auto add = [&](const char* label, auto change, std::size_t sources = 1) {
    Variant v;
    v.layout.label = label;
    // The obvious layout is the reference; the store's own is what came out of the comparison.
    v.layout.id_first = false;
    v.layout.checkpoint = Layout::Checkpoint::by_writer;
    v.layout.checkpoint_pages = 1000;
    v.layout.cache_kib = 0;
    change(v.layout);
    v.sources = sources;
    all.push_back(v);
  };
  add("reference", [](Layout&) {});
  add("page 8192", [](Layout& l) {
    l.page_size = 8192;
    l.checkpoint_pages = 500;
  });
  add("page 16384", [](Layout& l) {
    l.page_size = 16384;
    l.checkpoint_pages = 250;
  });
  add("no auto_vacuum", [](Layout& l) { l.incremental_vacuum = false; });
  add("unique (id,source)", [](Layout& l) { l.id_first = true; });
  add(
      "1000 sources (source,id)", [](Layout&) {}, 1000);
  add(
      "1000 sources (id,source)", [](Layout& l) { l.id_first = true; }, 1000);
  add("without rowid", [](Layout& l) { l.table = Layout::Table::without_rowid; });
  add("rowid and index", [](Layout& l) { l.table = Layout::Table::rowid_and_index; });
  add("writer checkpoint 4000", [](Layout& l) { l.checkpoint_pages = 4000; });
  add("writer checkpoint 16000", [](Layout& l) { l.checkpoint_pages = 16000; });
  add("thread checkpoint 1000", [](Layout& l) { l.checkpoint = Layout::Checkpoint::by_thread; });
  add("thread checkpoint 16000", [](Layout& l) {
    l.checkpoint = Layout::Checkpoint::by_thread;
    l.checkpoint_pages = 16000;
  });
  add("thread checkpoint 4000", [](Layout& l) {
    l.checkpoint = Layout::Checkpoint::by_thread;
    l.checkpoint_pages = 4000;
  });
  add("cache 64 MiB", [](Layout& l) { l.cache_kib = 64 * 1024; });
  add("batch 100", [](Layout& l) { l.batch = 100; });
  add("batch 10000", [](Layout& l) { l.batch = 10'000; });
  return all;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || argc > 5) {
    std::fprintf(stderr, "usage: %s <dir> <events per variant> <rounds> [part of a name]\n", argv[0]);
    return 2;
  }
  const std::string dir = argv[1];
  const auto events = static_cast<std::size_t>(std::atol(argv[2]));
  const auto rounds = static_cast<std::size_t>(std::atol(argv[3]));
  struct Running {
    Variant variant;
    bench::Workload workload;
    std::unique_ptr<BareSqlite> store;
    std::vector<double> rates;
  };
  std::vector<Running> running;
  for (auto& variant : variants()) {
    if (argc == 5 && !running.empty() && variant.layout.label.find(argv[4]) == std::string::npos) continue;
    const std::string own = dir + "/variant-" + std::to_string(running.size());
    std::filesystem::create_directories(own);
    running.push_back(
        {variant, bench::Workload(variant.sources), std::make_unique<BareSqlite>(own, variant.layout), {}});
  }
  for (std::size_t round = 0; round < rounds; ++round)
    for (auto& r : running) {
      const auto batch = r.workload.take(events / rounds);
      r.rates.push_back(static_cast<double>(batch.size()) / r.store->round(batch));
    }
  std::printf(
      "| variant | events/s (median) | min–max | vs reference (median of rounds) | batch p50 ms | p99 ms | max ms | "
      "largest WAL MiB | bytes/event |\n"
      "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  for (auto& r : running) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < r.rates.size(); ++i) ratios.push_back(r.rates[i] / running[0].rates[i]);
    auto latencies = r.store->latencies();
    std::sort(latencies.begin(), latencies.end());
    r.store->verify(r.workload.taken());
    const auto wal = static_cast<double>(r.store->largest_wal_bytes()) / (1 << 20);
    const auto bytes = static_cast<double>(r.store->file_bytes()) / static_cast<double>(r.workload.taken());
    std::printf("| %s | %.0f | %.0f–%.0f | %.2f | %.1f | %.1f | %.1f | %.1f | %.0f |\n", r.variant.layout.label.c_str(),
                median(r.rates), *std::min_element(r.rates.begin(), r.rates.end()),
                *std::max_element(r.rates.begin(), r.rates.end()), median(ratios),
                1e3 * latencies[latencies.size() / 2], 1e3 * latencies[latencies.size() * 99 / 100],
                1e3 * latencies.back(), wal, bytes);
  }
  const std::size_t count = running.size();
  running.clear();
  for (std::size_t i = 0; i < count; ++i) std::filesystem::remove_all(dir + "/variant-" + std::to_string(i));
}
