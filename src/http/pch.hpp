// SPDX-License-Identifier: Apache-2.0
#pragma once

// What makes src/http slow to compile, once.
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>
