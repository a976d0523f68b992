# SPDX-License-Identifier: Apache-2.0
"""What a soak's samples say: slopes with their uncertainty, a table of comma-separated values, a plot."""

import csv
import html
import math
import statistics
from typing import NamedTuple

BLOCKS = 20
LIMIT = 1.0  # per cent in ten minutes
Z = 3.09  # of a 99.8 % interval: of a hundred runs with nine flat series, one is wrongly condemned


class Series(NamedTuple):
    """What is judged: a column of the samples, and how small a slope must have been visible to call it trendless."""

    name: str
    column: str
    resolution: float  # per cent in ten minutes
    warm_up: float = 0.0  # seconds after a restart that are left out, beside those in which it is restarting
    within_lives: bool = False  # what a restart resets, and so hides


def student_t(freedom):
    """The factor of the interval for so many degrees of freedom (Cornish and Fisher's expansion)."""
    z = Z
    return (z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3))


def middle(values):
    """The mean without the lowest and the highest fifth: a median that makes use of more of its values."""
    values = sorted(values)
    cut = len(values) // 5
    return statistics.fmean(values[cut:len(values) - cut])


def slope(samples, series):
    """Of the second half, in per cent of its mean per ten minutes: (slope, half-width of its interval), or None.

    A second's value is noisy and like its neighbours'. So the half is cut into twenty blocks, each block is the mean of
    its middle three fifths, and the line is laid through those: what is left around it says how sure the slope is. Within
    lives every life has a level of its own, and only what happens between two restarts counts.
    """
    half = [s for s in samples if s["t"] >= samples[-1]["t"] / 2 and s[series.column] is not None and not s["restarting"]]
    half = [s for s in half if s["age"] >= series.warm_up]
    size = len(half) // BLOCKS
    if size < 2:
        return None
    lives = {}
    for s in half:
        lives.setdefault(s["life"] if series.within_lives else 0, []).append((s["t"], s[series.column]))
    dx, dy, levels = [], [], []
    used = 0
    for points in lives.values():
        blocks = [points[i:i + size] for i in range(0, len(points) - size + 1, size)]
        if len(blocks) < 2:
            continue  # too short to have a slope
        x = [statistics.fmean(t for t, _ in block) for block in blocks]
        y = [middle(v for _, v in block) for block in blocks]
        mx, my = statistics.fmean(x), statistics.fmean(y)
        dx += [a - mx for a in x]
        dy += [b - my for b in y]
        levels += y
        used += 1
    freedom = len(dx) - used - 1
    if freedom < 3:
        return None
    mean = statistics.fmean(levels)
    if mean == 0:
        return (0.0, 0.0) if not any(levels) else None
    sxx = sum(a * a for a in dx)
    b = sum(a * c for a, c in zip(dx, dy)) / sxx
    error = math.sqrt(sum((c - b * a) ** 2 for a, c in zip(dx, dy)) / freedom / sxx)
    scale = 600 / mean * 100
    return b * scale, student_t(freedom) * error * scale


def verdict(line, resolution):
    """flat: surely below the limit. growing: surely above it. no trend: zero is within the interval, and a slope of
    `resolution` would not have been. undecided: this run was too short or too noisy to tell."""
    if line is None:
        return "undecided"
    value, width = line
    if value - width > LIMIT:
        return "growing"
    if value + width < LIMIT:
        return "flat"
    return "no trend" if abs(value) <= width <= resolution else "undecided"


def verdicts(samples, judged):
    """name → (line, verdict)"""
    lines = {series.name: (slope(samples, series), series.resolution) for series in judged}
    return {name: (line, verdict(line, resolution)) for name, (line, resolution) in lines.items()}


def exit_code(wrong, found):
    """0 all is well; 1 something is wrong or grows; 3 nobody can tell."""
    words = {word for _, word in found.values()}
    if wrong or "growing" in words:
        return 1
    return 3 if "undecided" in words else 0


def write_csv(path, samples):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(samples[0]))
        writer.writeheader()
        writer.writerows(samples)


def read_csv(path):
    """Samples as they were written, to be judged once more."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(file)]


def write_svg(path, samples, names):
    """One panel per series, restarts in grey."""
    width, height = 900, 110
    end = max(s["t"] for s in samples) or 1
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 40}" height="{height * len(names) + 20}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    for row, name in enumerate(names):
        top = row * height + 20
        values = [s[name] for s in samples if s[name] is not None]
        most = max(values, default=0) or 1
        points = " ".join(f'{20 + s["t"] / end * width:.1f},{top + (height - 30) * (1 - s[name] / most):.1f}'
                          for s in samples if s[name] is not None)
        out += [f'<rect x="{20 + s["t"] / end * width:.1f}" y="{top}" width="2" height="{height - 30}" fill="#ddd"/>'
                for s in samples if s["restarting"]]
        out += [f'<text x="20" y="{top - 4}">{html.escape(name)}, 0 to {most:,.5g}</text>',
                f'<polyline fill="none" stroke="#05a" points="{points}"/>']
    path.write_text("\n".join([*out, "</svg>", ""]), encoding="utf-8")
