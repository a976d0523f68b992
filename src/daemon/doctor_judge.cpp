// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/time.hpp"
#include "base/units.hpp"
#include "daemon/doctor.hpp"
#include "daemon/json.hpp"

namespace millrace::daemon {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

Finding ok(std::string check, std::string found) {
  return {std::move(check), FindingLevel::ok, std::move(found)};
}

std::string time_text(nanoseconds time) {
  const double us = std::chrono::duration<double, std::micro>(time).count();
  return us < 1000 ? fmt::format("{:.0f} µs", us) : fmt::format("{:.1f} ms", us / 1000);
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto size = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; size >= 1024 && unit + 1 < kUnits.size(); ++unit) size /= 1024;
  return fmt::format("{:.{}f} {}", size, unit == 0 ? 0 : 1, kUnits[unit]);
}

bool has_option(std::string_view options, std::string_view wanted) {
  while (!options.empty()) {
    const std::size_t comma = options.find(',');
    if (options.substr(0, comma) == wanted) return true;
    options.remove_prefix(comma == std::string_view::npos ? options.size() : comma + 1);
  }
  return false;
}

Finding judge_store(const Examination& seen) {
  if (!seen.refused) {
    if (!seen.in_memory) return ok("store", seen.store + ": opens, and has a format this Millrace knows");
    return {"store", FindingLevel::warn, seen.store + ": kept in memory only", "everything, when the process ends",
            "use sqlite:PATH for what must stay"};
  }
  const std::string why = std::string(to_string(seen.refused->code())) + ": " + seen.refused->what();
  if (seen.refused->code() == Errc::not_found) {
    return {"store", FindingLevel::warn, "there is no store yet: " + why, "nothing",
            "`millrace serve` creates it; look for another path if there should be one"};
  }
  return {"store", FindingLevel::fail, "cannot be opened: " + why,
          "nothing by itself, but nothing can be published or consumed", "do what the message says, then ask again"};
}

Finding judge_owner(const Examination& seen) {
  if (seen.owner_hidden) return ok("owner", "unknown: this user may not read the lock file");
  if (!seen.owner) return ok("owner", "nobody serves it");
  return ok("owner", seen.owner->empty() ? "a process serves it" : "served by pid " + *seen.owner);
}

void judge_server(const Examination& seen, std::vector<Finding>& out) {
  if (!seen.on_server || seen.refused) return;
  for (const Store::Doubt& doubt : seen.doubts) {
    out.push_back({"server", FindingLevel::warn, doubt.found, doubt.at_risk, doubt.to_do});
  }
  if (seen.doubts.empty()) out.push_back(ok("server", "its settings keep what is promised"));
}

Finding judge_file_system(const Examination& seen) {
  if (!seen.mount)
    return {"file_system", FindingLevel::warn, "what " + seen.directory + " lies on is unknown", "unknown",
            "mount /proc, then ask again"};
  const Mount& mount = *seen.mount;
  const std::string& type = mount.type;
  const std::string found = fmt::format("{} lies on {} ({} at {})", seen.directory, type, mount.source, mount.point);
  const auto is_any = [&type](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), type) != names.end();
  };
  if (is_any({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})) {
    return {"file_system", FindingLevel::fail, found + ", which is memory",
            "everything, when the machine stops or restarts, whatever was acknowledged as durable",
            "put the store on a disk"};
  }
  if (seen.read_only) {
    return {"file_system", FindingLevel::fail, found + ", mounted read-only",
            "nothing that is there, but nothing new can be stored",
            "see why (dmesg: file systems turn read-only after errors), then remount it writable"};
  }
  if (is_any({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs"})) {
    return {
        "file_system", FindingLevel::fail, found + ", a network file system",
        "the whole store: its locks and its shared memory hold on one machine only, and a sync is the server's word",
        "put the store on a disk of this machine"};
  }
  if (type == "overlay" && has_option(mount.options, "volatile")) {
    return {"file_system", FindingLevel::fail, found + ", mounted volatile: it syncs nothing",
            "whatever was acknowledged, at a power cut", "put the store on a volume"};
  }
  if (has_option(mount.options, "nobarrier") || has_option(mount.options, "barrier=0")) {
    return {"file_system", FindingLevel::fail, found + ", mounted without barriers: a sync does not reach the medium",
            "the last acknowledged events, at a power cut", "mount it without nobarrier and barrier=0"};
  }
  if (type == "overlay") {
    return {"file_system", FindingLevel::warn, found + ", a container's own layer",
            "everything, when the container is removed", "put the store on a volume"};
  }
  if (is_any({"9p", "virtiofs", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2", "beegfs"}) ||
      type.starts_with("fuse")) {
    return {"file_system", FindingLevel::warn, found + ", whose syncs and locks are somebody else's word",
            "the last acknowledged events if a sync is not passed on; the whole store if locks are not",
            "prefer a disk of this machine, or find out what this one promises"};
  }
  return ok("file_system", found);
}

Finding judge_device(const Examination& seen) {
  if (!seen.device) return ok("device", "which disk is below is unknown, and so is its write cache");
  const Device& device = *seen.device;
  const std::string name = device.name + (device.model.empty() ? "" : " (" + device.model + ")");
  if (device.name.starts_with("zram") || device.name.starts_with("ram")) {
    return {"device", FindingLevel::fail, name + " is memory", "everything, when the machine stops or restarts",
            "put the store on a disk"};
  }
  if (device.is_virtual) {
    return ok("device", name +
                            " is a virtual disk: whether its host puts on disk what is synced here is unknown; "
                            "its provider or hypervisor settings (cache mode) say so");
  }
  if (device.write_cache == "write back") {
    return ok("device",
              name +
                  " has a volatile write cache (\"write back\"), which the kernel flushes at every sync: safe "
                  "as long as the disk obeys the flush");
  }
  if (device.write_cache == "write through") {
    return ok("device", name +
                            " says it has no volatile write cache (\"write through\"): no flush is sent to it. True of "
                            "disks with power-loss protection and of battery-backed controllers");
  }
  return ok("device", name + " does not say whether it has a volatile write cache: unknown");
}

Finding judge_sync(const Examination& seen) {
  if (!seen.sync) {
    return {"sync", FindingLevel::warn, "not measured: " + seen.sync_refused, "unknown",
            "make the directory writable, then ask again"};
  }
  const SyncTimes& sync = *seen.sync;
  const std::string found =
      fmt::format("write and fdatasync of 4 KiB: p50 {}, p99 {}, longest {} ({} times)", time_text(sync.p50),
                  time_text(sync.p99), time_text(sync.longest), sync.samples);
  const bool physical = seen.device && !seen.device->is_virtual;
  const bool no_flush = seen.device && seen.device->write_cache == "write through";
  const bool spins = physical && seen.device->rotational && !no_flush;
  // A plate at 7200 rpm passes the head every 8.3 ms; a flush to flash takes tens of microseconds at the very least.
  const nanoseconds credible = spins ? milliseconds{1} : no_flush ? microseconds{5} : microseconds{20};
  if (sync.p50 < credible) {
    return {"sync", FindingLevel::warn,
            found + ": too quick to be true for " + (spins ? "a turning disk" : "a disk") + " (below " +
                time_text(credible) + ")",
            "the last acknowledged events, at a power cut: something says \"on disk\" before it is",
            "find what ignores the sync: a write cache, a controller, a hypervisor, a file system in memory"};
  }
  if (sync.p99 > milliseconds{100}) {
    return {"sync", FindingLevel::warn, found + ": slow", "nothing, but every acknowledgement waits so long",
            "see what else writes to this disk (iostat -x 1), or use a quicker one"};
  }
  return ok("sync", found);
}

Finding judge_disk(const Examination& seen) {
  if (!seen.space) return {"disk", FindingLevel::warn, "free space is unknown", "unknown", "check the directory"};
  const Space& space = *seen.space;
  std::string found = fmt::format("{} of {} free", size_text(space.free), size_text(space.total));
  found += space.floor == 0 ? "; no floor (min_free=0)" : "; publishing is refused below " + size_text(space.floor);
  if (space.inodes > 0) found += fmt::format("; {} of {} inodes free", space.inodes_free, space.inodes);
  const char* const kMakeRoom = "make room, or trim: `millrace trim STREAM --dry-run` says what a trim would free";
  if (space.free < std::max<std::uint64_t>(space.floor, 1)) {
    return {"disk", FindingLevel::fail, found, "new events: publishing answers store_full", kMakeRoom};
  }
  if (space.inodes > 0 && space.inodes_free < 16) {
    return {"disk", FindingLevel::fail, found, "new events: the store cannot make its companion files", kMakeRoom};
  }
  if (space.free < 2 * space.floor || (space.inodes > 0 && space.inodes_free < 1000)) {
    return {"disk", FindingLevel::warn, found, "new events, when it fills", kMakeRoom};
  }
  return ok("disk", found);
}

Finding judge_clock(const Examination& seen) {
  const auto year =
      static_cast<int>(std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(seen.now)).year());
  const std::string now = format_rfc3339(seen.now);
  const char* const kSetIt = "set the clock and keep it synchronized (timedatectl set-ntp true, chrony)";
  if (year < 2025 || year > 2100) {
    return {"clock", FindingLevel::fail, "the machine believes it is " + now,
            "no event and no order, but every time that is recorded is wrong, and so is retention by age", kSetIt};
  }
  if (seen.newest) {
    const double lead = std::chrono::duration<double>(*seen.newest - seen.now).count();
    if (lead > 2) {
      return {"clock", lead > 86'400 ? FindingLevel::fail : FindingLevel::warn,
              fmt::format("the newest event was stored {:.0f} s after now ({}): the clock went back", lead, now),
              "no event, no order and no lease; new events are recorded with times of the future until the clock has "
              "caught up, and retention by age keeps them longer",
              kSetIt};
    }
  }
  if (seen.clock_synchronized && !*seen.clock_synchronized) {
    return {"clock", FindingLevel::warn, now + ", and nothing synchronizes the clock",
            "no event, but recorded times drift, and a step back later shows as times of the future", kSetIt};
  }
  return ok("clock", now + (seen.clock_synchronized ? ", synchronized" : "; whether it is synchronized is unknown"));
}

Finding judge_permissions(const Examination& seen) {
  const std::string run_as =
      "give them to the user that serves the store (chown, chmod 600; 700 for the directory), and "
      "run tools as that user";
  for (const FileState& file : seen.files) {
    if (file.writable) continue;
    return {"permissions", FindingLevel::fail,
            fmt::format("{} (owner {}, mode {:o}) cannot be written by this user ({})", file.path, file.owner,
                        file.mode, seen.user),
            "nothing that is there, but nothing new can be stored", run_as};
  }
  for (const FileState& file : seen.files) {
    const bool open_to_others =
        file.directory ? (file.mode & 0002U) != 0 && (file.mode & 01000U) == 0 : (file.mode & 0077U) != 0;
    if (open_to_others) {
      return {"permissions", FindingLevel::warn, fmt::format("{} has mode {:o}", file.path, file.mode),
              file.directory ? "the whole store: any user of this machine can delete it"
                             : "what the events say: other users of this machine can get at it",
              fmt::format("chmod {} {}", file.directory ? "700" : "600", file.path)};
    }
    const FileState& first = seen.files.front();
    if (!file.directory && file.owner != first.owner) {
      return {"permissions", FindingLevel::warn,
              fmt::format("{} belongs to user {}, {} to user {}", file.path, file.owner, first.path, first.owner),
              "nothing, but the one of them may shut the other out of the store", run_as};
    }
  }
  return ok("permissions", seen.files.empty() ? "nothing is there yet"
                                              : fmt::format("{} files and directories, writable by user {}",
                                                            seen.files.size(), seen.user));
}

void judge_limits(const Examination& seen, std::vector<Finding>& out) {
  const std::string descriptors = fmt::format("{} open files allowed, {} wanted for server.max_connections",
                                              seen.descriptors, seen.descriptors_wanted);
  if (seen.descriptors < seen.descriptors_wanted) {
    out.push_back({"descriptors", FindingLevel::warn, descriptors,
                   "nothing that was acknowledged, but connections beyond that are refused",
                   "raise the limit (ulimit -n, LimitNOFILE=) or lower server.max_connections"});
  } else {
    out.push_back(ok("descriptors", descriptors));
  }
  if (seen.file_size_limit) {
    constexpr std::uint64_t kRoom = 64ULL << 20;
    const bool close = *seen.file_size_limit < seen.file_bytes + kRoom;
    out.push_back({"file_size", close ? FindingLevel::fail : FindingLevel::warn,
                   fmt::format("no file may grow beyond {}; the store has {}", size_text(*seen.file_size_limit),
                               size_text(seen.file_bytes)),
                   "new events, from there on", "lift the limit (ulimit -f unlimited, LimitFSIZE=infinity)"});
  } else {
    out.push_back(ok("file_size", "no limit"));
  }
  constexpr std::uint64_t kLittle = 256ULL << 20;
  std::string memory = seen.memory_free ? size_text(*seen.memory_free) + " free" : "free memory is unknown";
  if (seen.memory_limit) memory += "; limited to " + size_text(*seen.memory_limit);
  if ((seen.memory_free && *seen.memory_free < kLittle) || (seen.memory_limit && *seen.memory_limit < kLittle)) {
    out.push_back({"memory", FindingLevel::warn, memory,
                   "nothing that was acknowledged, but the kernel may end the process under load",
                   "give it at least " + size_text(kLittle)});
  } else {
    out.push_back(ok("memory", memory));
  }
}

Finding judge_certificate(const Certificate& seen, Timestamp now) {
  // A certificate for 90 days is renewed with 30 left, one for 6 days with 2: by less than this somebody should have.
  const auto soon = std::min<Timestamp::duration>(std::chrono::days{14}, (seen.not_after - seen.not_before) / 3);
  const std::string renew = "renew it, and send SIGHUP to the daemon, which reads both files again";
  if (seen.refused) {
    return {"certificate", FindingLevel::fail, "cannot be served with: " + std::string(seen.refused->what()),
            "nothing that is stored, but the daemon goes on with what it read before and will not start again",
            "do what the message says, and send SIGHUP to the daemon"};
  }
  const std::string of_file = "; that is the file: served is what was read at the start or at the last SIGHUP";
  const std::string until = seen.cert + " is good until " + format_rfc3339(seen.not_after) + of_file;
  const char* const kNobody = "nothing that is stored, but every client that checks it refuses to connect";
  if (seen.not_after < now) {
    return {"certificate", FindingLevel::fail, seen.cert + " expired at " + format_rfc3339(seen.not_after) + of_file,
            kNobody, renew};
  }
  if (seen.not_before > now) {
    return {"certificate", FindingLevel::fail, seen.cert + " is not valid before " + format_rfc3339(seen.not_before),
            kNobody, "check the clock of the machine that made it and of this one"};
  }
  if (seen.not_after - now < soon) {
    return {"certificate", FindingLevel::warn, until,
            "nothing that is stored, but from then on every client that checks it refuses to connect", renew};
  }
  if ((seen.key_mode & 0007U) != 0) {
    return {"certificate", FindingLevel::warn, fmt::format("its key {} has mode {:o}", seen.key, seen.key_mode),
            "whatever clients send: any user of this machine can take the key and pose as this daemon",
            "chmod 600 " + seen.key + ", and make a new pair if others use this machine"};
  }
  return ok("certificate", until);
}

}  // namespace

std::string_view to_string(FindingLevel level) noexcept {
  switch (level) {
    case FindingLevel::ok:
      return "ok";
    case FindingLevel::warn:
      return "warn";
    case FindingLevel::fail:
      return "fail";
  }
  return "?";
}

std::vector<Finding> judge(const Examination& seen) {
  std::vector<Finding> out{judge_store(seen)};
  if (!seen.in_memory && !seen.on_server) {
    for (const auto judge_one :
         {judge_owner, judge_file_system, judge_device, judge_sync, judge_disk, judge_permissions}) {
      out.push_back(judge_one(seen));
    }
  }
  judge_server(seen, out);
  out.push_back(judge_clock(seen));
  judge_limits(seen, out);
  if (seen.certificate) out.push_back(judge_certificate(*seen.certificate, seen.now));
  return out;
}

FindingLevel worst(std::span<const Finding> findings) {
  FindingLevel level = FindingLevel::ok;
  for (const Finding& finding : findings) level = std::max(level, finding.level);
  return level;
}

std::string findings_json(const std::string& store, std::span<const Finding> findings) {
  JsonWriter array('[');
  for (const Finding& finding : findings) {
    JsonWriter json;
    json.text("check", finding.check).text("level", to_string(finding.level)).text("found", finding.found);
    array.element(json.text_or_null("at_risk", finding.at_risk).text_or_null("to_do", finding.to_do).finish());
  }
  return JsonWriter()
      .text("store", store)
      .text("level", to_string(worst(findings)))
      .raw("findings", array.finish())
      .finish();
}

}  // namespace millrace::daemon
