// SPDX-License-Identifier: Apache-2.0
// PostgreSQL as one would use it for the same promise: a table with the same unique index, `ON CONFLICT DO NOTHING`,
// one prepared statement per batch whose parameters are arrays in binary form (one round trip, one transaction, nothing
// parsed), answered after the write-ahead log was synced.

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "child.hpp"
#include "contender.hpp"
#include "workload.hpp"

namespace bench {
namespace {

constexpr const char* kTable = R"(
CREATE TABLE event (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  stored_at timestamptz NOT NULL DEFAULT now(),
  id text NOT NULL, source text NOT NULL, type text NOT NULL, subject text, time text, datacontenttype text,
  dataschema text, extensions text, data bytea,
  UNIQUE (id, source)))";
constexpr const char* kInsert =
    "INSERT INTO event (id, source, type, subject, time, datacontenttype, data) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[]) "
    "ON CONFLICT DO NOTHING";
constexpr int kColumns = 7;
constexpr Oid kTextOid = 25;
constexpr Oid kByteaOid = 17;

void put_number(std::string& out, std::uint32_t value) {
  const std::uint32_t big = htonl(value);
  out.append(reinterpret_cast<const char*>(&big), sizeof big);
}

// An array as array_send() in PostgreSQL writes it: dimensions, "has nulls", element type; size and lower bound of the
// one dimension; then each element behind its length.
std::string array_of(std::span<const millrace::Event> events, int column) {
  std::string out;
  put_number(out, 1);
  put_number(out, 0);
  put_number(out, column == kColumns - 1 ? kByteaOid : kTextOid);
  put_number(out, static_cast<std::uint32_t>(events.size()));
  put_number(out, 1);
  for (const auto& e : events) {
    const std::string* const values[kColumns] = {&e.id,   &e.source,          &e.type, &e.subject,
                                                 &e.time, &e.datacontenttype, &*e.data};
    put_number(out, static_cast<std::uint32_t>(values[column]->size()));
    out += *values[column];
  }
  return out;
}

struct Finish {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
struct Clear {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, Clear>;

// It refuses to run as root; Debian's package makes a user for it.
Child::Options unprivileged(const std::string& dir) {
  Child::Options options;
  if (::getuid() != 0) return options;
  const passwd* const user = ::getpwnam("postgres");
  if (!user) throw std::runtime_error("PostgreSQL: it does not run as root, and there is no user postgres");
  options.uid = user->pw_uid;
  options.gid = user->pw_gid;
  if (::chown(dir.c_str(), options.uid, options.gid) != 0)
    throw std::runtime_error("PostgreSQL: cannot give " + dir + " to the user postgres");
  return options;
}

class Server {
 public:
  Server(const std::string& programs, const std::string& given) {
    const std::string dir = std::filesystem::absolute(given).string();
    Child::Options options = unprivileged(dir);
    if (options.uid != 0 && ::chown(sockets_.path().c_str(), options.uid, options.gid) != 0)
      throw std::runtime_error("PostgreSQL: cannot give away " + sockets_.path());
    options.log = sockets_.path() + "/log";
    const std::string cluster = dir + "/cluster";
    Child init({programs + "/initdb", "-D", cluster, "-U", "bench", "-A", "trust", "--no-locale", "-E", "UTF8", "-N"},
               options);
    if (init.wait() != 0)
      throw std::runtime_error("PostgreSQL: initdb failed; as root, its user postgres must be able to reach " + dir +
                               " (--dir names another place)");
    // Everything that is about durability stays as it is by default; the rest is set in its favour.
    std::vector<std::string> words{programs + "/postgres", "-D", cluster, "-k", sockets_.path()};
    for (const char* setting : {"listen_addresses=", "fsync=on", "synchronous_commit=on", "full_page_writes=on",
                                "wal_level=minimal", "max_wal_senders=0", "shared_buffers=1GB", "max_wal_size=8GB",
                                "min_wal_size=2GB", "checkpoint_timeout=30min", "autovacuum=off", "jit=off"}) {
      words.insert(words.end(), {"-c", setting});
    }
    process_ = std::make_unique<Child>(words, options);
    const std::string target = "host=" + sockets_.path() + " user=bench dbname=postgres";
    for (int tries = 0; tries < 500 && process_->running(); ++tries) {
      connection_.reset(PQconnectdb(target.c_str()));
      if (PQstatus(connection_.get()) == CONNECTION_OK) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    throw std::runtime_error("PostgreSQL: the server did not start");
  }
  ~Server() {
    connection_.reset();
    // Immediately, but by its own hand: killed, it would leave its helpers behind for a moment.
    if (process_) process_->stop(SIGQUIT);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  Result check(PGresult* given, ExecStatusType wanted) {
    Result result(given);
    if (PQresultStatus(given) != wanted)
      throw std::runtime_error(std::string("PostgreSQL: ") + PQerrorMessage(connection_.get()));
    return result;
  }
  PGconn* connection() { return connection_.get(); }

 private:
  TemporaryDir sockets_;
  std::unique_ptr<Child> process_;
  std::unique_ptr<PGconn, Finish> connection_;
};

class Postgres : public Contender {
 public:
  Postgres(const std::string& programs, const std::string& dir) : server_(programs, dir) {
    server_.check(PQexec(server_.connection(), kTable), PGRES_COMMAND_OK);
    server_.check(PQprepare(server_.connection(), "insert", kInsert, 0, nullptr), PGRES_COMMAND_OK);
  }
  std::string name() const override { return "PostgreSQL, batches of 1000"; }

  double round(std::span<const millrace::Event> events) override {
    std::vector<std::vector<std::string>> batches;
    for (std::size_t at = 0; at < events.size(); at += kBatch) {
      auto& columns = batches.emplace_back();
      const auto batch = events.subspan(at, std::min(kBatch, events.size() - at));
      for (int column = 0; column < kColumns; ++column) columns.push_back(array_of(batch, column));
    }
    const auto start = Clock::now();
    std::uint64_t stored = 0;
    for (const auto& columns : batches) {
      const auto batch_start = Clock::now();
      const char* values[kColumns];
      int sizes[kColumns];
      int formats[kColumns];
      for (std::size_t i = 0; i < kColumns; ++i) {
        values[i] = columns[i].data();
        sizes[i] = static_cast<int>(columns[i].size());
        formats[i] = 1;
      }
      const Result result = server_.check(
          PQexecPrepared(server_.connection(), "insert", kColumns, values, sizes, formats, 1), PGRES_COMMAND_OK);
      stored += std::stoull(PQcmdTuples(result.get()));
      latencies_.push_back(seconds_since(batch_start));
    }
    const double seconds = seconds_since(start);
    if (stored != events.size()) throw std::runtime_error("PostgreSQL: events were refused as duplicates");
    return seconds;
  }

  void verify(std::uint64_t count) override {
    Roll roll(count);
    server_.check(PQexec(server_.connection(), "COPY (SELECT id FROM event ORDER BY position) TO STDOUT"),
                  PGRES_COPY_OUT);
    char* row = nullptr;
    for (int size = 0; (size = PQgetCopyData(server_.connection(), &row, 0)) > 0; PQfreemem(row))
      roll.mark({row, static_cast<std::size_t>(size) - 1});  // each ends with a line feed
    server_.check(PQgetResult(server_.connection()), PGRES_COMMAND_OK);
    roll.check(name());
  }
  std::vector<double> latencies() const override { return latencies_; }

 private:
  Server server_;
  std::vector<double> latencies_;
};

// Debian keeps the server's programs apart, by version; the newest one there is.
std::string find_programs() {
  for (int version = 30; version >= 13; --version) {
    const std::string folder = "/usr/lib/postgresql/" + std::to_string(version) + "/bin";
    if (::access((folder + "/postgres").c_str(), X_OK) == 0) return folder;
  }
  const std::string found = find_program("postgres");
  return found.empty() ? found : found.substr(0, found.rfind('/'));
}

}  // namespace

std::unique_ptr<Contender> make_postgres(const std::string& dir) {
  const std::string programs = find_programs();
  if (programs.empty()) return nullptr;
  return std::make_unique<Postgres>(programs, dir);
}

}  // namespace bench
