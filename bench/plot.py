# SPDX-License-Identifier: Apache-2.0
"""bench/run's figures as one SVG: a bar for each path with its spread, its budget and what it was before."""
import html

ROW, LEFT, WIDTH, RIGHT, HEAD = 26, 380, 520, 120, 34


def text(x, y, what, anchor="start", colour="#222", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{html.escape(what)}</text>'


def line(x, y, height, colour, title, dashes=""):
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{y + height:.1f}" stroke="{colour}" stroke-width="2"{dash}>'
            f"<title>{html.escape(title)}</title></line>")


def svg(rows, title):
    """`rows`: (label, unit, {"median", "min", "max"}, budget or None, best sample before or None). Each row has its own scale."""
    height = HEAD + ROW * len(rows) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" font-family="sans-serif">',
           f'<rect width="100%" height="100%" fill="white"/>', text(8, 20, title, size=14)]
    for number, (label, unit, entry, budget, before) in enumerate(rows):
        y = HEAD + ROW * number
        scale = WIDTH / (1.05 * max(filter(None, (entry["max"], budget, before))) or 1)
        over = budget is not None and entry["median"] > budget
        out.append(text(LEFT - 8, y + 15, label, "end"))
        out.append(f'<rect x="{LEFT}" y="{y + 4}" width="{entry["median"] * scale:.1f}" height="{ROW - 10}" fill="{"#c0392b" if over else "#4a7fb5"}"/>')
        low, high = LEFT + entry["min"] * scale, LEFT + entry["max"] * scale
        out.append(f'<line x1="{low:.1f}" y1="{y + 12}" x2="{high:.1f}" y2="{y + 12}" stroke="#222"/>')
        if budget is not None:
            out.append(line(LEFT + budget * scale, y + 1, ROW - 4, "#222", f"budget {budget} {unit}"))
        if before is not None:
            out.append(line(LEFT + before * scale, y + 1, ROW - 4, "#888", f"before {before:.1f} {unit}", "3,2"))
        out.append(text(LEFT + WIDTH + 8, y + 15, f"{entry['median']:.1f} {unit}"))
    return "\n".join(out) + "\n</svg>\n"
