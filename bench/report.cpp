// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <fmt/format.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <fstream>

namespace bench {
namespace {

using Row = std::vector<std::string>;

std::string number(double value) {
  if (std::abs(value) >= 1000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

std::vector<Row> figure_rows(const Report& report) {
  std::vector<Row> rows{{"figure", "ours", "limit", "", "ratio (min–max of rounds)", "target", "verdict"}};
  for (const auto& f : report.figures) {
    const auto ratio = f.ratio();
    rows.push_back({f.name, fmt::format("{} {}", number(spread_of(f.ours).median), f.unit), f.limit_name,
                    number(spread_of(f.limit).median),
                    fmt::format("{:.2f} ({:.2f}–{:.2f})", ratio.median, ratio.min, ratio.max), f.target(),
                    f.verdict()});
  }
  for (const auto& b : report.bounds)
    rows.push_back({b.name, fmt::format("{} {}", number(b.value), b.unit), b.detail, "", "",
                    fmt::format("≤ {} {}", number(b.at_most), b.unit), b.verdict()});
  return rows;
}

std::vector<Row> latency_rows(const Report& report) {
  std::vector<Row> rows{{"acknowledged after, ms", "p50", "p99", "p99.9", "max"}};
  for (const auto& l : report.latencies)
    rows.push_back({l.name, number(l.p50_ms), number(l.p99_ms), number(l.p999_ms), number(l.max_ms)});
  return rows;
}

std::vector<Row> growth_rows(const Report& report) {
  Row head{"cost as it grows", "ids", ""};
  for (const auto size : report.sizes) head.push_back(fmt::format("{} events", size));
  head.insert(head.end(), {"last / one before", "target", "verdict"});
  std::vector<Row> rows{std::move(head)};
  for (const auto& g : report.growth) {
    Row row{g.operation, g.ids, g.unit};
    for (const double value : g.values) row.push_back(number(value));
    row.insert(row.end(),
               {fmt::format("{:.2f}", g.ratio()), g.at_most ? fmt::format("≤ {:.1f}", *g.at_most) : "", g.verdict()});
    rows.push_back(std::move(row));
  }
  return rows;
}

// Every table that has something in it.
std::vector<std::vector<Row>> tables(const Report& report) {
  std::vector<std::vector<Row>> all;
  if (!report.figures.empty() || !report.bounds.empty()) all.push_back(figure_rows(report));
  if (!report.latencies.empty()) all.push_back(latency_rows(report));
  if (!report.growth.empty()) all.push_back(growth_rows(report));
  return all;
}

// Characters, not bytes: the dash in a range has three.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string aligned(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) out += row[i] + std::string(widths[i] - width_of(row[i]) + 2, ' ');
    out.erase(out.find_last_not_of(' ') + 1);
    out += '\n';
  }
  return out;
}

std::string piped(const std::vector<Row>& rows) {
  std::string out;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    out += '|';
    for (const auto& cell : rows[r]) out += ' ' + cell + " |";
    out += '\n';
    if (r == 0) {
      out += '|';
      for (std::size_t i = 0; i < rows[r].size(); ++i) out += " --- |";
      out += '\n';
    }
  }
  return out;
}

boost::json::object spread_json(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  return {quantile(values, 0.5), *std::min_element(values.begin(), values.end()),
          *std::max_element(values.begin(), values.end())};
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const auto above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

Spread Figure::ratio() const {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < ours.size() && i < limit.size(); ++i) ratios.push_back(ours[i] / limit[i]);
  return spread_of(ratios);
}

std::string Figure::target() const {
  if (at_least) return fmt::format("≥ {:.1f}", *at_least);
  if (at_most) return fmt::format("≤ {:.1f}", *at_most);
  return "";
}

std::string Figure::verdict() const {
  if (at_least) return ratio().median >= *at_least ? "met" : "missed";
  if (at_most) return ratio().median <= *at_most ? "met" : "missed";
  return "";
}

double Growth::ratio() const {
  return values.size() < 2 ? 1 : values.back() / values[values.size() - 2];
}

std::string Growth::verdict() const {
  if (!at_most) return "";
  return ratio() <= *at_most ? "met" : "missed";
}

Latency latency_of(std::string name, const std::vector<double>& ms) {
  return {std::move(name), quantile(ms, 0.5), quantile(ms, 0.99), quantile(ms, 0.999),
          *std::max_element(ms.begin(), ms.end())};
}

std::string Report::table() const {
  std::string out;
  for (const auto& condition : conditions) out += condition + '\n';
  for (const auto& rows : tables(*this)) out += '\n' + aligned(rows);
  for (const auto& note : notes) out += '\n' + note + '\n';
  for (const auto& what : not_measured) out += "\nnot measured: " + what + '\n';
  return out;
}

std::string Report::markdown() const {
  std::string out;
  for (const auto& condition : conditions) out += "- " + condition + '\n';
  for (const auto& what : not_measured) out += "- not measured: " + what + '\n';
  for (const auto& rows : tables(*this)) out += '\n' + piped(rows);
  for (const auto& note : notes) out += '\n' + note + '\n';
  return out;
}

std::string Report::json() const {
  boost::json::object root;
  root["conditions"] = boost::json::value_from(conditions);
  root["not_measured"] = boost::json::value_from(not_measured);
  boost::json::array list;
  for (const auto& f : figures) {
    boost::json::object o{{"figure", f.name}, {"limit", f.limit_name}, {"unit", f.unit}};
    o["ours"] = spread_json(spread_of(f.ours));
    o["limit_value"] = spread_json(spread_of(f.limit));
    o["ratio"] = spread_json(f.ratio());
    o["ours_rounds"] = boost::json::value_from(f.ours);
    o["limit_rounds"] = boost::json::value_from(f.limit);
    o["target"] = f.target();
    o["verdict"] = f.verdict();
    list.push_back(std::move(o));
  }
  root["figures"] = std::move(list);
  boost::json::array bound_list;
  for (const auto& b : bounds)
    bound_list.push_back(boost::json::object{{"figure", b.name},
                                             {"value", b.value},
                                             {"at_most", b.at_most},
                                             {"unit", b.unit},
                                             {"detail", b.detail},
                                             {"verdict", b.verdict()}});
  root["bounds"] = std::move(bound_list);
  boost::json::array latency_list;
  for (const auto& l : latencies)
    latency_list.push_back(boost::json::object{
        {"name", l.name}, {"p50_ms", l.p50_ms}, {"p99_ms", l.p99_ms}, {"p999_ms", l.p999_ms}, {"max_ms", l.max_ms}});
  root["latencies"] = std::move(latency_list);
  boost::json::array growth_list;
  for (const auto& g : growth) {
    growth_list.push_back(boost::json::object{{"operation", g.operation},
                                              {"ids", g.ids},
                                              {"unit", g.unit},
                                              {"sizes", boost::json::value_from(sizes)},
                                              {"values", boost::json::value_from(g.values)},
                                              {"ratio", g.ratio()},
                                              {"verdict", g.verdict()}});
  }
  root["growth"] = std::move(growth_list);
  root["notes"] = boost::json::value_from(notes);
  return boost::json::serialize(root);
}

std::vector<std::string> describe_machine(const std::string& dir) {
  std::string cpu = "unknown processor";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) {
      cpu = line.substr(line.find(':') + 2);
      break;
    }
  struct utsname system {};
  ::uname(&system);
  struct statfs files {};
  ::statfs(dir.c_str(), &files);
  const double memory =
      static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 30);
  double load = 0;
  std::ifstream("/proc/loadavg") >> load;
  const auto type = static_cast<unsigned long>(files.f_type);  // the magic numbers of statfs(2)
  std::string file_system = fmt::format("{:#x}", type);
  if (type == 0xEF53) file_system = "ext4";
  if (type == 0x58465342) file_system = "xfs";
  if (type == 0x9123683E) file_system = "btrfs";
  if (type == 0x01021994) file_system = "tmpfs (not a disk: durable figures mean nothing here)";
  return {fmt::format("machine: {} cores ({}), {:.0f} GiB memory, {} {}, file system {}, load {:.1f} at the start",
                      ::sysconf(_SC_NPROCESSORS_ONLN), cpu, memory, system.sysname, system.release, file_system, load)};
}

}  // namespace bench
