// SPDX-License-Identifier: Apache-2.0

// Opening a file: what is made, what is refused and in which words.

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "sqlite_test_support.hpp"

namespace millrace {
namespace {

using test::code_of;
using test::event_of;
using test::options_for;
using test::sql;
using test::TempDirectory;
using Access = StoreOptions::Access;

mode_t mode_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

/// Runs `action` in a process without privileges and returns the Errc it ended with, as exit status.
template <class Action>
int in_unprivileged_process(Action action) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::getuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(98);
    try {
      action();
    } catch (const Error& error) {
      ::_exit(static_cast<int>(error.code()));
    }
    ::_exit(99);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(SqliteOpen, MakesAPrivateDirectoryAndFiles) {
  const TempDirectory directory;
  const mode_t old = ::umask(0);
  const std::string path = directory.file("deep/er/events.db");
  {
    const auto store = open_store(options_for(path));
    store->log().append("events", std::vector{event_of("1")});
    EXPECT_EQ(mode_of(directory.file("deep")), 0700u);
    EXPECT_EQ(mode_of(directory.file("deep/er")), 0700u);
    for (const char* suffix : {"", "-wal", "-shm", ".lock"}) EXPECT_EQ(mode_of(path + suffix), 0600u) << suffix;
  }
  ::umask(old);
  EXPECT_EQ(files_in(directory.file("deep/er")), (std::vector<std::string>{"events.db", "events.db.lock"}));
}

TEST(SqliteOpen, NewStoreHasItsTwoStreamsAndItsFormat) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  {
    const auto store = open_store(options_for(path));
    const auto streams = store->log().streams();
    ASSERT_EQ(streams.size(), 2u);
    EXPECT_EQ(streams[0].name.str(), "events");
    EXPECT_EQ(streams[1].name.str(), "logs");
    EXPECT_EQ(store->describe(), "sqlite:" + path + " (owner)");
  }
  EXPECT_EQ(sql(path, "PRAGMA journal_mode"), "wal");
  EXPECT_EQ(sql(path, "PRAGMA auto_vacuum"), "2");
  EXPECT_EQ(sql(path, "PRAGMA application_id"), std::to_string(0x4D696C6C));
  EXPECT_EQ(sql(path, "PRAGMA user_version"), "2");
  EXPECT_EQ(sql(path, "PRAGMA integrity_check"), "ok");
}

TEST(SqliteOpen, WithoutCreateAMissingFileIsNotFoundAndNothingIsMade) {
  const TempDirectory directory;
  StoreOptions options = options_for(directory.file("sub/events.db"));
  options.create = false;
  EXPECT_EQ(code_of([&] { (void)open_store(options); }), Errc::not_found);
  EXPECT_TRUE(files_in(directory.path()).empty());
}

TEST(SqliteOpen, SecondOwnerIsRefusedWithThePidOfTheFirst) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  auto first = open_store(options_for(path));
  std::string text;
  EXPECT_EQ(code_of([&] { (void)open_store(options_for(path)); }, &text), Errc::busy);
  EXPECT_NE(text.find("pid " + std::to_string(::getpid())), std::string::npos) << text;
  const auto tool = open_store(options_for(path, Access::tool));
  EXPECT_EQ(tool->log().append("events", std::vector{event_of("1")}).front().position, Position(1));
  EXPECT_EQ(first->log().append("events", std::vector{event_of("2")}).front().position, Position(2));
  first.reset();
  EXPECT_NE(open_store(options_for(path)), nullptr);
}

TEST(SqliteOpen, LooksAtAFileWithoutDroppingTheLocksOfAStoreInThisProcess) {
  // Without its shared lock a stranger (the sqlite3 program, say) that closes the file as it believes as the last one
  // takes the write-ahead log away from under its owner.
  const TempDirectory dir;
  const std::string path = dir.file("events.db");
  const auto owner = open_store(options_for(path));
  owner->log().append("events", std::vector{event_of("1")});
  // Open until the end: closing it is what must not happen.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const auto locked = [fd] {
    struct flock asked {};
    asked.l_type = F_WRLCK;
    asked.l_whence = SEEK_SET;
    asked.l_start = 0x40000000 + 2;  // SHARED_FIRST and SHARED_SIZE of SQLite's os.h
    asked.l_len = 510;
    EXPECT_EQ(::fcntl(fd, F_OFD_GETLK, &asked), 0);
    return asked.l_type != F_UNLCK;
  };
  ASSERT_TRUE(locked());
  { const auto tool = open_store(options_for(path, Access::tool)); }
  EXPECT_TRUE(locked()) << "after a tool";
  EXPECT_EQ(code_of([&] { open_store(options_for(path)); }), Errc::busy);
  EXPECT_TRUE(locked()) << "after a second owner was refused";
  EXPECT_EQ(code_of([&] { restore_store(path, dir.file("new.db")); }), Errc::invalid_argument);
  EXPECT_TRUE(locked()) << "after it was no backup";
  ::close(fd);
}

TEST(SqliteOpen, RefusesWhatIsNotAMillraceStoreAndLeavesItAlone) {
  const TempDirectory directory;
  const std::string foreign = directory.file("foreign.db");
  sql(foreign, "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
  std::ofstream(directory.file("text.db")) << "Dear diary, today I was not a database at all, which was fine with me.";
  std::ofstream(directory.file("empty.db")).flush();
  std::filesystem::create_directory(directory.file("folder.db"));
  for (const char* name : {"foreign.db", "text.db", "empty.db"}) {
    std::string text;
    EXPECT_EQ(code_of([&] { (void)open_store(options_for(directory.file(name))); }, &text), Errc::corrupt) << name;
    EXPECT_NE(text.find("Millrace store"), std::string::npos) << text;
  }
  EXPECT_EQ(code_of([&] { (void)open_store(options_for(directory.file("folder.db"))); }), Errc::invalid_argument);
  EXPECT_EQ(files_in(directory.path()), (std::vector<std::string>{"empty.db", "folder.db", "foreign.db", "text.db"}));
  EXPECT_EQ(sql(foreign, "SELECT x FROM t"), "1");
}

TEST(SqliteOpen, RefusesATruncatedStore) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  {
    const auto store = open_store(options_for(path));
    store->log().append("events", test::events_of("e", 1000));
  }
  const auto whole = std::filesystem::file_size(path);
  for (const std::uintmax_t size : {whole - 4096, whole / 2, std::uintmax_t{4096}, std::uintmax_t{100}}) {
    const std::string cut = directory.file("cut-" + std::to_string(size));
    std::filesystem::copy_file(path, cut);
    std::filesystem::resize_file(cut, size);
    EXPECT_EQ(code_of([&] { (void)open_store(options_for(cut)); }), Errc::corrupt) << size;
  }
}

TEST(SqliteOpen, RefusesAFileOfANewerVersionNamingBoth) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  (void)open_store(options_for(path));
  sql(path, "PRAGMA user_version = 7; PRAGMA wal_checkpoint(TRUNCATE)");
  std::string text;
  EXPECT_EQ(code_of([&] { (void)open_store(options_for(path)); }, &text), Errc::unsupported_version);
  EXPECT_NE(text.find("version 7"), std::string::npos) << text;
  EXPECT_NE(text.find("up to 2"), std::string::npos) << text;
}

TEST(SqliteOpen, TellsReadOnlyFromUnreadable) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  (void)open_store(options_for(path));
  std::filesystem::permissions(directory.path(), std::filesystem::perms{0755});
  const auto open = [&] { (void)open_store(options_for(path)); };
  ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
  EXPECT_EQ(in_unprivileged_process(open), static_cast<int>(Errc::read_only));
  ASSERT_EQ(::chmod(path.c_str(), 0000), 0);
  EXPECT_EQ(in_unprivileged_process(open), static_cast<int>(Errc::permission_denied));
  ASSERT_EQ(::chmod(directory.path().c_str(), 0555), 0);
  const auto create = [&] { (void)open_store(options_for(directory.file("new/events.db"))); };
  EXPECT_EQ(in_unprivileged_process(create), static_cast<int>(Errc::permission_denied));
  ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
}

TEST(SqliteOpen, DamagedTablesAreCorrupt) {
  const TempDirectory directory;
  const std::string path = directory.file("events.db");
  (void)open_store(options_for(path));
  sql(path, "DROP TABLE meta");
  EXPECT_EQ(code_of([&] { (void)open_store(options_for(path)); }), Errc::corrupt);
}

}  // namespace
}  // namespace millrace
