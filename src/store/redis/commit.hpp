// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a process decided about a group, to be written in one step if nothing has changed meanwhile (lua/commit.lua).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/ledger.hpp"
#include "store/redis/client.hpp"
#include "store/redis/keys.hpp"
#include "store/redis/position.hpp"

namespace millrace::store::redis {

/// One such step. Not thread-safe; used once.
class Commit {
 public:
  Commit(const Keys& keys, const GroupName& group);

  // Preconditions: all must hold in the moment of writing.
  void require_session_is(SessionId session, const std::string& row);  ///< empty: it is gone
  void require_session_lives(SessionId session);
  void require_not_before(Timestamp time);
  /// Nobody has read on in the native group, which stood at `cursor`; it is made anew when it is gone.
  void require_native_at(const StreamName& stream, Ordinal cursor);
  /// Of the entries ever added to the stream, so many are gone: what was read when it was as many is there still.
  void require_removed_is(const StreamName& stream, std::uint64_t removed);
  void require_field_is(std::string_view field, std::string value);  ///< of the group

  // What to write.
  void command(Command command);
  void native(Command command);  ///< that only shows what is: its failure fails nothing
  /// The same command over many words, in parts that a script can call: `head`, then some of `words`, then `tail`.
  void each(const Command& head, const std::vector<std::string>& words, const Command& tail = {}, bool native = false);
  /// Keeps a copy of an event that may outlive its entry.
  void keep_copy(const StreamName& stream, Ordinal ordinal);
  void drop_copy(Ordinal ordinal);  ///< unless it is a dead letter's, as of then
  void wake();                      ///< tells watchers of all processes, once

  [[nodiscard]] bool empty() const { return commands_.empty(); }

  struct Answer {
    enum class Kind {
      done,
      moved,          ///< somebody else committed: load and decide again
      unknown,        ///< there is no such group
      session_moved,  ///< a session taken for ended was renewed: look again
      session_ended,  ///< that was to live
      early,          ///< our clock is ahead of the server's: decide by `server_time`
      read_on,        ///< a foreign consumer read on in the native group
      removed,        ///< entries were removed since they were read
    };
    Kind kind = Kind::done;
    std::string version = {};
    std::string native_failure = {};
    Timestamp server_time = {};  ///< of early
    SessionId session = 0;       ///< of session_moved and session_ended
  };
  /// \param expected the group's version; empty: it does not exist yet. \param count_up false for what decides nothing
  /// \throws Error{too_large}: more than one command can hold; {outcome_unknown}: see look_up
  /// \param impatient too many races were lost: should this one be, too, others wait until the next is through
  Answer run(Client& client, const std::string& expected, bool count_up = true, bool impatient = false);
  /// After run (that counts up) has had no answer. Its version when it was written and nobody has committed since;
  /// empty when it was not written, and nobody committed either; nullopt when that cannot be told any more.
  std::optional<std::string> look_up(Client& client, const std::string& expected) const;

 private:
  const Keys& keys_;
  const GroupName& group_;
  const std::string name_;  ///< of this commit
  std::vector<std::string> preconditions_;
  std::vector<std::string> commands_;
  bool wakes_ = false;
};

}  // namespace millrace::store::redis
