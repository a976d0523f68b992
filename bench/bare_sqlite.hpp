// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// SQLite with nothing around it: the limit of what a store on SQLite can reach, and the place to try a change of
/// layout before the store takes it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "contender.hpp"

namespace bench {

/// How the event table is laid out and written. The defaults are those of Millrace's store (docs/formats/sqlite.md).
struct Layout {
  std::string label = "bare SQLite";
  int page_size = 4096;
  bool id_first = true;  ///< UNIQUE (id, source); false: (source, id)
  bool incremental_vacuum = true;
  enum class Table { position_is_rowid, without_rowid, rowid_and_index } table = Table::position_is_rowid;
  enum class Checkpoint { by_writer, by_thread } checkpoint = Checkpoint::by_thread;
  int checkpoint_pages =
      2048;               ///< WAL pages after which a checkpoint runs; a thread holds the writer at four times that
  int cache_kib = 32768;  ///< 0 = SQLite's default
  std::size_t batch = kBatch;
};

class BareSqlite : public Contender {
 public:
  BareSqlite(const std::string& dir, Layout layout = {});
  ~BareSqlite() override;
  [[nodiscard]] std::string name() const override;
  double round(std::span<const millrace::Event> events) override;
  void verify(std::uint64_t count) override;
  [[nodiscard]] std::vector<double> latencies() const override;  ///< of a batch
  [[nodiscard]] std::uint64_t largest_wal_bytes() const;
  [[nodiscard]] std::uint64_t file_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bench
