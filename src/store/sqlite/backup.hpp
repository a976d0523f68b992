// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Copies of a store: taken while it is in use, and made a store again (docs/adr/0007-backup-and-restore.md).

#include <atomic>
#include <cstdint>
#include <string>

namespace millrace::store::sqlite {

/// How many positions of each stream a restored store leaves unused behind those of its backup.
inline constexpr std::uint64_t kRestoreGap = 1'000'000'000;

/// Writes the store at `path`, as of now, to the new file `to`, beside its writer. On failure nothing is left; a
/// process that is killed leaves at most `<to>.partial-<uuid>`. \param keep_free bytes that the store's own disk must
/// keep free \param stopping becomes true from another thread: Error{stopped} \throws Error{already_exists | not_found
/// | store_full | permission_denied | unavailable | stopped}
void write_backup(const std::string& path, const std::string& to, std::uint64_t keep_free,
                  const std::atomic<bool>& stopping);

/// Makes the store `path` from the backup. \throws Error as `restore_store`; nothing is left then
void restore_backup(const std::string& backup, const std::string& path);

}  // namespace millrace::store::sqlite
