// SPDX-License-Identifier: Apache-2.0
#include "daemon/doctor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "base/time.hpp"

namespace millrace::daemon {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
namespace fs = std::filesystem;

/// A machine without fault.
Examination healthy() {
  Examination seen;
  seen.store = "sqlite:/data/events.db (tool)";
  seen.directory = "/data";
  seen.mount = Mount{8, 1, "/data", "ext4", "/dev/sda1", "rw,relatime,rw"};
  seen.device = Device{"sda", "Good Disk", "write back", false, false};
  seen.sync = SyncTimes{1000, 300us, 900us, 2ms};
  seen.space = Space{50ULL << 30, 100ULL << 30, 1ULL << 30, 1'000'000, 2'000'000};
  seen.files = {{"/data/events.db", 1000, 0600, false, true}, {"/data", 1000, 0700, true, true}};
  seen.user = 1000;
  seen.now = *parse_rfc3339("2026-11-21T12:00:00Z");
  seen.clock_synchronized = true;
  seen.descriptors = 20'000;
  seen.descriptors_wanted = 10'128;
  seen.memory_free = 4ULL << 30;
  return seen;
}

Finding of(const Examination& seen, std::string_view check) {
  for (Finding& finding : judge(seen)) {
    if (finding.check == check) return std::move(finding);
  }
  throw std::runtime_error("no such check: " + std::string(check));
}

/// Says that a check comes to this level, tells something found, and, if it is not ok, what is at risk and what to do.
void expect(const Examination& seen, std::string_view check, FindingLevel level, const std::string& found) {
  const Finding finding = of(seen, check);
  EXPECT_EQ(to_string(finding.level), to_string(level)) << check << ": " << finding.found;
  EXPECT_THAT(finding.found, HasSubstr(found)) << check;
  EXPECT_EQ(finding.at_risk.empty(), level == FindingLevel::ok) << check;
  EXPECT_EQ(finding.to_do.empty(), level == FindingLevel::ok) << check;
}

TEST(Doctor, TellsWhatAServersSettingsPutAtRisk) {
  Examination seen = healthy();
  seen.on_server = true;
  expect(seen, "server", FindingLevel::ok, "");
  seen.doubts.push_back({"x is yes", "this and that", "set it to no"});
  expect(seen, "server", FindingLevel::warn, "x is yes");
  EXPECT_EQ(of(seen, "server").to_do, "set it to no");
}

TEST(Doctor, FindsNothingWrongWithAHealthyMachine) {
  const auto findings = judge(healthy());
  EXPECT_EQ(worst(findings), FindingLevel::ok);
  EXPECT_GE(findings.size(), 10U);
}

TEST(Doctor, SaysWhyTheStoreCannotBeOpened) {
  Examination seen = healthy();
  seen.refused = Error(Errc::unsupported_version, "open store", "/data/events.db", "format 9, this Millrace knows 1");
  expect(seen, "store", FindingLevel::fail, "format 9, this Millrace knows 1");
  seen.refused = Error(Errc::not_found, "open store", "/data/events.db", "there is none");
  expect(seen, "store", FindingLevel::warn, "no store yet");
}

TEST(Doctor, KnowsWhatHoldsNoPromise) {
  struct Row {
    const char* type;
    const char* options;
    FindingLevel level;
    const char* found;
  };
  const std::vector<Row> table{
      {"tmpfs", "rw", FindingLevel::fail, "memory"},
      {"ramfs", "rw", FindingLevel::fail, "memory"},
      {"nfs4", "rw", FindingLevel::fail, "network"},
      {"overlay", "rw,lowerdir=/l", FindingLevel::warn, "container"},
      {"overlay", "rw,volatile", FindingLevel::fail, "volatile"},
      {"ext4", "rw,nobarrier", FindingLevel::fail, "barriers"},
      {"xfs", "rw,barrier=0", FindingLevel::fail, "barriers"},
      {"9p", "rw", FindingLevel::warn, "somebody else's word"},
      {"fuse.something", "rw", FindingLevel::warn, "somebody else's word"},
      {"xfs", "rw", FindingLevel::ok, "xfs"},
  };
  for (const Row& row : table) {
    Examination seen = healthy();
    seen.mount->type = row.type;
    seen.mount->options = row.options;
    expect(seen, "file_system", row.level, row.found);
  }
  Examination seen = healthy();
  seen.read_only = true;
  expect(seen, "file_system", FindingLevel::fail, "read-only");
}

TEST(Doctor, DoesNotBelieveASyncThatIsTooQuick) {
  Examination seen = healthy();
  seen.sync->p50 = 3us;
  expect(seen, "sync", FindingLevel::warn, "too quick");
  seen.sync->p50 = 300us;
  seen.device->rotational = true;
  expect(seen, "sync", FindingLevel::warn, "turning disk");
  seen.device->is_virtual = true;  // what a virtual disk says of turning means nothing
  expect(seen, "sync", FindingLevel::ok, "p50 300 µs");
  seen = healthy();
  seen.device->write_cache = "write through";  // power-loss protection: nothing is flushed
  seen.sync->p50 = 12us;
  expect(seen, "sync", FindingLevel::ok, "p50 12 µs");
}

TEST(Doctor, SaysWhenSyncsAreSlowOrCouldNotBeMeasured) {
  Examination seen = healthy();
  seen.sync->p99 = 250ms;
  expect(seen, "sync", FindingLevel::warn, "p99 250.0 ms");
  seen.sync.reset();
  seen.sync_refused = "read-only file system";
  expect(seen, "sync", FindingLevel::warn, "read-only file system");
}

TEST(Doctor, SaysUnknownOfWhatItCannotSee) {
  Examination seen = healthy();
  seen.device->is_virtual = true;
  expect(seen, "device", FindingLevel::ok, "unknown");
  seen.device.reset();
  expect(seen, "device", FindingLevel::ok, "unknown");
  seen.mount.reset();
  expect(seen, "file_system", FindingLevel::warn, "unknown");
  seen.clock_synchronized.reset();
  expect(seen, "clock", FindingLevel::ok, "unknown");
}

TEST(Doctor, ComparesFreeSpaceWithTheFloor) {
  Examination seen = healthy();
  seen.space->free = 1ULL << 29;
  expect(seen, "disk", FindingLevel::fail, "512.0 MiB");
  seen.space->free = (1ULL << 30) + 1;
  expect(seen, "disk", FindingLevel::warn, "1.0 GiB");
  seen = healthy();
  seen.space->inodes_free = 3;
  expect(seen, "disk", FindingLevel::fail, "3 of 2000000 inodes");
  seen.space->inodes = seen.space->inodes_free = 0;  // btrfs does not count them
  expect(seen, "disk", FindingLevel::ok, "free");
}

TEST(Doctor, SeesAClockThatIsWrong) {
  Examination seen = healthy();
  seen.now = *parse_rfc3339("1970-01-01T00:10:00Z");
  expect(seen, "clock", FindingLevel::fail, "1970-01-01");
  seen = healthy();
  seen.newest = seen.now + 100s;
  expect(seen, "clock", FindingLevel::warn, "100 s after now");
  seen.newest = seen.now + 48h;
  expect(seen, "clock", FindingLevel::fail, "the clock went back");
  seen.newest = seen.now + 1s;  // two clocks that were read one after the other
  expect(seen, "clock", FindingLevel::ok, "synchronized");
  seen.clock_synchronized = false;
  expect(seen, "clock", FindingLevel::warn, "nothing synchronizes");
}

TEST(Doctor, SeesWhoMayNotWriteAndWhoMayRead) {
  Examination seen = healthy();
  seen.files[0].writable = false;
  expect(seen, "permissions", FindingLevel::fail, "/data/events.db (owner 1000, mode 600) cannot be written");
  seen = healthy();
  seen.files[0].mode = 0644;
  expect(seen, "permissions", FindingLevel::warn, "mode 644");
  seen = healthy();
  seen.files[1].mode = 0777;
  expect(seen, "permissions", FindingLevel::warn, "mode 777");
  seen.files[1].mode = 01777;  // as /tmp: nobody deletes what is another's
  expect(seen, "permissions", FindingLevel::ok, "");
  seen.files.insert(seen.files.begin() + 1, FileState{"/data/events.db-wal", 0, 0600, false, true});
  expect(seen, "permissions", FindingLevel::warn, "belongs to user 0");
}

TEST(Doctor, ComparesLimitsWithWhatIsNeeded) {
  Examination seen = healthy();
  seen.descriptors = 1024;
  expect(seen, "descriptors", FindingLevel::warn, "1024 open files allowed, 10128 wanted");
  seen.file_bytes = 100 << 20;
  seen.file_size_limit = 1ULL << 30;
  expect(seen, "file_size", FindingLevel::warn, "1.0 GiB");
  seen.file_size_limit = 110 << 20;
  expect(seen, "file_size", FindingLevel::fail, "110.0 MiB");
  seen.memory_limit = 64 << 20;
  expect(seen, "memory", FindingLevel::warn, "limited to 64.0 MiB");
}

TEST(Doctor, SeesACertificateThatNobodyWillTake) {
  Examination seen = healthy();
  EXPECT_THROW(of(seen, "certificate"), std::runtime_error) << "none is configured";
  seen.certificate = Certificate{.cert = "/etc/cert.pem", .key = "/etc/key.pem"};
  Certificate& certificate = *seen.certificate;
  certificate.key_mode = 0640;
  certificate.not_before = seen.now - std::chrono::days{76};
  certificate.not_after = seen.now + std::chrono::days{14};
  expect(seen, "certificate", FindingLevel::ok, "/etc/cert.pem is good until 2026-12-05T12:00:00");
  expect(seen, "certificate", FindingLevel::ok, "that is the file: served is what was read");
  certificate.not_after -= 1s;
  expect(seen, "certificate", FindingLevel::warn, "good until 2026-12-05T11:59:59");
  certificate.not_after = seen.now - 1s;
  expect(seen, "certificate", FindingLevel::fail, "expired at 2026-11-21T11:59:59");
  certificate.not_before = seen.now + 1s;
  certificate.not_after = seen.now + std::chrono::days{90};
  expect(seen, "certificate", FindingLevel::fail, "not valid before 2026-11-21T12:00:01");
  // One for six days is not about to expire all its life.
  certificate.not_before = seen.now - std::chrono::days{3};
  certificate.not_after = seen.now + std::chrono::days{3};
  expect(seen, "certificate", FindingLevel::ok, "good until");
  certificate.not_before = seen.now - std::chrono::days{5};
  certificate.not_after = seen.now + std::chrono::days{1};
  expect(seen, "certificate", FindingLevel::warn, "good until");
  certificate.not_after = seen.now + std::chrono::days{90};
  certificate.key_mode = 0644;
  expect(seen, "certificate", FindingLevel::warn, "/etc/key.pem has mode 644");
  certificate.refused = Error(Errc::not_found, "load the TLS certificate", "/etc/key.pem", "cannot be read");
  expect(seen, "certificate", FindingLevel::fail, "/etc/key.pem");
}

TEST(Doctor, OfAStoreInMemorySaysOnlyThatItIsOne) {
  Examination seen = healthy();
  seen.in_memory = true;
  expect(seen, "store", FindingLevel::warn, "memory only");
  EXPECT_THROW(of(seen, "sync"), std::runtime_error);
}

TEST(Doctor, AnswersTheWorstLevelAndNullsWhereThereIsNothingToSay) {
  Examination seen = healthy();
  seen.read_only = true;
  const auto answer = boost::json::parse(findings_json("s", judge(seen)));
  EXPECT_EQ(answer.at("level").as_string(), "fail");
  EXPECT_TRUE(answer.at("findings").at(0).at("at_risk").is_null());
}

TEST(DoctorMount, IsTheInnermostAndTopmostOne) {
  const char* const info =
      "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
      "2 1 0:5 / /data rw,noatime shared:1 master:2 - tmpfs tmpfs rw,size=1k\n"
      "3 1 8:2 / /data rw - xfs /dev/sdb1 rw\n"
      "4 1 0:9 / /da rw - nfs server:/da rw\n"
      "5 1 8:3 / /with\\040blank rw - btrfs /dev/sdc rw\n";
  EXPECT_EQ(mount_of(info, "/data/deep")->type, "xfs");
  EXPECT_EQ(mount_of(info, "/data/deep")->source, "/dev/sdb1");
  EXPECT_EQ(mount_of(info, "/database")->type, "ext4");
  EXPECT_EQ(mount_of(info, "/with blank")->type, "btrfs");
  EXPECT_EQ(mount_of(info, "/with blank")->minor, 3U);
  EXPECT_FALSE(mount_of("", "/"));
}

class DoctorFolder : public testing::Test {
 protected:
  DoctorFolder() {
    std::string name = (fs::temp_directory_path() / "millrace-doctor-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~DoctorFolder() override { fs::remove_all(path_); }
  void write(const fs::path& file, const std::string& text) {
    fs::create_directories((path_ / file).parent_path());
    std::ofstream(path_ / file) << text << '\n';
  }
  fs::path path_;
};

TEST_F(DoctorFolder, FindsTheDiskBelowAPartitionOfAMappedDevice) {
  write("devices/pci/sda/queue/write_cache", "write back");
  write("devices/pci/sda/queue/rotational", "1");
  write("devices/pci/sda/device/vendor", "ATA     ");
  write("devices/pci/sda/device/model", "Spinner 3000    ");
  write("devices/pci/sda/sda2/partition", "2");
  fs::create_directories(path_ / "devices/virtual/block/dm-0/slaves");
  fs::create_directory_symlink(path_ / "devices/pci/sda/sda2", path_ / "devices/virtual/block/dm-0/slaves/sda2");
  fs::create_directories(path_ / "dev/block");
  fs::create_directory_symlink(path_ / "devices/virtual/block/dm-0", path_ / "dev/block/253:0");
  const auto device = device_of(path_, 253, 0);
  ASSERT_TRUE(device);
  EXPECT_EQ(device->name, "sda");
  EXPECT_EQ(device->model, "ATA Spinner 3000");
  EXPECT_EQ(device->write_cache, "write back");
  EXPECT_TRUE(device->rotational);
  EXPECT_FALSE(device->is_virtual);
  EXPECT_FALSE(device_of(path_, 1, 2));
}

TEST_F(DoctorFolder, MeasuresWithAFileThatIsGoneAfterwards) {
  write(".events.db.doctor", "left behind by one that was killed");
  const SyncTimes times = measure_sync(path_ / ".events.db.doctor", 1ms);
  EXPECT_GE(times.samples, 3U);
  EXPECT_LE(times.p50, times.p99);
  EXPECT_LE(times.p99, times.longest);
  EXPECT_TRUE(fs::is_empty(path_));
}

TEST(DoctorSync, TakesPercentilesOfWhatWasMeasured) {
  std::vector<std::chrono::nanoseconds> samples;
  for (int i = 200; i > 0; --i) samples.emplace_back(i);
  const SyncTimes times = sync_times(samples);
  EXPECT_EQ(times.samples, 200U);
  EXPECT_EQ(times.p50, 100ns);
  EXPECT_EQ(times.p99, 198ns);
  EXPECT_EQ(times.longest, 200ns);
  EXPECT_EQ(sync_times({}).samples, 0U);
}

}  // namespace
}  // namespace millrace::daemon
