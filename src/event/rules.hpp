// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The rules of CloudEvents 1.0 on attribute names and values, each as one question.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/event.hpp"

namespace millrace {

/// Why a text is not a CloudEvents String (UTF-8, no control characters, no noncharacters), or nullopt.
std::optional<std::string> string_fault(std::string_view text);
/// Why a text cannot name an extension (`[a-z0-9]+`, not `data`, no core attribute), or nullopt.
std::optional<std::string> extension_name_fault(std::string_view name);
/// RFC 2046: type "/" subtype, parameters allowed.
bool is_media_type(std::string_view text);
/// `*/json` or `*/*+json`, parameters allowed, without regard to case. `text` need not be valid.
bool is_json_content_type(std::string_view text);
/// RFC 3986 URI-reference.
bool is_uri_reference(std::string_view text);
/// RFC 3986 with a scheme. A fragment is allowed, as in the JSON schema of CloudEvents.
bool is_absolute_uri(std::string_view text);
/// W3C Trace Context: `00-<trace id>-<parent id>-<flags>` in lower-case hexadecimal digits, neither id all zeros. Of
/// versions to come, that what they begin with.
bool is_traceparent(std::string_view text);

/// A name that stands in the list twice, or nullopt. Sorts the list.
std::optional<std::string_view> repeated_name(std::vector<std::string_view>& names);

/// `validate` with words of the caller, and for doors where the caller fills in what is missing.
struct ValidateOptions {
  const char* operation = "validate event";
  bool require_id = true;
  bool require_source = true;
};
void validate(const Event& event, const ValidateOptions& options);

}  // namespace millrace
