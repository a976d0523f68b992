# SPDX-License-Identifier: Apache-2.0
"""What a soak's samples say: slopes with their uncertainty, a table of comma-separated values, a plot."""

import csv
import html
import math
import statistics

BLOCKS = 12
T95 = 2.228  # Student's t for BLOCKS - 2 degrees of freedom
LIMIT = 1.0  # per cent in ten minutes


def slope(samples, name):
    """Of the second half, in per cent of its mean per ten minutes: (slope, half-width of its 95 % interval), or None.

    A second's value is noisy and like its neighbours'. So the half is cut into twelve blocks, each block is its median,
    and the line is laid through those: what is left around it says how sure the slope is.
    """
    points = [(s["t"], s[name]) for s in samples[len(samples) // 2:] if s[name] is not None and not s["restarting"]]
    size = len(points) // BLOCKS
    if size < 2:
        return None
    blocks = [points[i * size:(i + 1) * size] for i in range(BLOCKS)]
    x = [statistics.mean(t for t, _ in block) for block in blocks]
    y = [statistics.median(v for _, v in block) for block in blocks]
    mx, my = statistics.mean(x), statistics.mean(y)
    if my == 0:
        return (0.0, 0.0) if not any(y) else None
    sxx = sum((a - mx) ** 2 for a in x)
    b = sum((a - mx) * (c - my) for a, c in zip(x, y)) / sxx
    rest = sum((c - my - b * (a - mx)) ** 2 for a, c in zip(x, y))
    error = math.sqrt(rest / (BLOCKS - 2) / sxx)
    scale = 600 / my * 100
    return b * scale, T95 * error * scale


def verdict(line):
    """flat: surely below the limit; growing: surely above it; undecided: this run was too short to tell."""
    if line is None:
        return "undecided"
    value, width = line
    if value + width < LIMIT:
        return "flat"
    return "growing" if value - width > LIMIT else "undecided"


def write_csv(path, samples):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(samples[0]))
        writer.writeheader()
        writer.writerows(samples)


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
