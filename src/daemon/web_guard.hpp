// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Without a token, whoever reaches the port may do anything, and a browser on this machine reaches it for every page
/// it shows. Two headers that a page cannot forge tell such requests apart: `Origin`, sent with what a page of another
/// site asks for (cross-site request forgery), and `Host`, which names the page's own domain when that domain was made
/// to resolve to this machine (DNS rebinding).

#include <optional>
#include <string_view>

#include "http/message.hpp"
#include "http/problem.hpp"

namespace millrace::daemon {

/// Why `request` must not be served by a daemon without a token, or nothing. `Origin` must name the `Host` itself;
/// `Host` must be a loopback name or address, or the host of `listen` ("gateway.local:8420"), at any port: tunnels
/// change it. A request without these headers comes from no browser. Pure.
std::optional<http::Problem> refuse_web_page(const http::Request& request, std::string_view listen);

}  // namespace millrace::daemon
