// SPDX-License-Identifier: Apache-2.0
#include "cli/table.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/utf8.hpp"
#include "millrace/error.hpp"

namespace millrace::cli {
namespace {

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

bool colour_wanted() {
  const char* no_color = std::getenv("NO_COLOR");
  return isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0');
}

/// 0 when stdout is no terminal, or one that does not say.
std::size_t terminal_columns() {
  winsize size{};
  return isatty(STDOUT_FILENO) == 1 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/// Takes from the widest text columns until a line fits, leaving each enough to be told apart.
void narrow(std::vector<std::size_t>& widths, const std::vector<bool>& right, std::size_t columns) {
  constexpr std::size_t kLeast = 8;
  std::size_t total = 2 * (widths.size() - 1);
  for (const std::size_t each : widths) total += each;
  while (total > columns) {
    std::size_t widest = widths.size();
    for (std::size_t i = 0; i < widths.size(); ++i) {
      if (!right[i] && widths[i] > kLeast && (widest == widths.size() || widths[i] > widths[widest])) widest = i;
    }
    if (widest == widths.size()) return;
    --widths[widest];
    --total;
  }
}

std::string padded(const std::string& text, std::size_t columns, bool right) {
  const std::string gap(columns - std::min(columns, width(text)), ' ');
  return right ? gap + text : text + gap;
}

}  // namespace

std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

std::string shortened(std::string_view text, std::size_t columns) {
  if (width(text) <= columns) return std::string(text);
  std::size_t kept = 0;
  std::size_t end = 0;
  while (end < text.size() && kept + 1 < columns) {
    ++end;
    while (end < text.size() && is_continuation(text[end])) ++end;
    ++kept;
  }
  return std::string(text.substr(0, end)) + "…";
}

std::string cell(const boost::json::value& value) {
  if (value.is_null()) return "-";
  if (const auto* text = value.if_string()) return text->empty() ? "-" : printable(*text);
  if (const auto* list = value.if_array()) {
    std::string out;
    for (const auto& item : *list) out += (out.empty() ? "" : ", ") + cell(item);
    return out.empty() ? "-" : out;
  }
  if (const auto* number = value.if_double()) return fmt::format("{:.6g}", *number);
  return printable(boost::json::serialize(value));
}

std::string cell_at(const boost::json::value& value, std::string_view path) {
  const boost::json::value* at = &value;
  while (!path.empty()) {
    const std::size_t dot = path.find('.');
    const auto* object = at->if_object();
    at = object == nullptr ? nullptr : object->if_contains(path.substr(0, dot));
    if (at == nullptr) return "-";
    path = dot == std::string_view::npos ? std::string_view{} : path.substr(dot + 1);
  }
  return cell(*at);
}

std::string human_seconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<std::uint64_t>(seconds);
  if (whole < 3600) return fmt::format("{}m {}s", whole / 60, whole % 60);
  if (whole < 86'400) return fmt::format("{}h {}m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{}d {}h", whole / 86'400, whole % 86'400 / 3600);
}

std::string Table::text(bool colour, std::size_t columns) const {
  std::vector<std::size_t> widths;
  std::vector<std::string> names;
  std::vector<bool> right;
  for (const std::string& column : columns_) {
    right.push_back(column.starts_with('#'));
    names.push_back(column.substr(right.back() ? 1 : 0));
    widths.push_back(width(names.back()));
  }
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  if (columns > 0) narrow(widths, right, columns);
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const bool last = i + 1 == cells.size();
      const std::string shown = shortened(cells[i], widths[i]);
      out += (i == 0 ? "" : "  ") + (last && !right[i] ? shown : padded(shown, widths[i], right[i]));
    }
    return columns > 0 ? shortened(out, columns) : out;
  };
  std::string out = colour ? "\033[1m" + line(names) + "\033[0m\n" : line(names) + '\n';
  for (const auto& row : rows_) out += line(row) + '\n';
  return out;
}

void Table::print(const std::string& when_empty) const {
  std::string out = empty() ? when_empty + '\n' : text(colour_wanted(), terminal_columns());
  out.pop_back();
  cli::print(out);
}

std::string coloured(std::string_view text, Colour colour) {
  if (!colour_wanted()) return std::string(text);
  return fmt::format("\033[{}m{}\033[0m", colour == Colour::green ? "32" : "31", text);
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error(Errc::unavailable, "print", "stdout", "cannot be written to", std::strerror(errno));
  }
}

void print_json(const boost::json::value& value) {
  print(boost::json::serialize(value));
}

Progress::Progress(std::uint64_t total_bytes)
    : shown_(isatty(STDERR_FILENO) == 1),
      total_(total_bytes),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::update(std::uint64_t events, std::uint64_t bytes) {
  if (!due()) return;
  const double seconds = std::chrono::duration<double>(last_ - start_).count();
  std::string line;
  if (total_ > 0) {
    constexpr std::size_t kColumns = 30;
    const double share = std::min(1.0, static_cast<double>(bytes) / static_cast<double>(total_));
    const auto full = static_cast<std::size_t>(share * kColumns);
    line = fmt::format("[{}{}] {:3.0f} %  ", std::string(full, '#'), std::string(kColumns - full, '.'), share * 100);
  }
  line += fmt::format("{} acknowledged, {:.0f}/s", events, static_cast<double>(events) / seconds);
  draw(line);
}

bool Progress::due() {
  const auto now = std::chrono::steady_clock::now();
  if (!shown_ || now - last_ < std::chrono::milliseconds{100}) return false;
  last_ = now;
  return true;
}

void Progress::draw(const std::string& line) {
  drawn_ = true;
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
}

}  // namespace millrace::cli
