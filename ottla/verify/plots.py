"""Plots over time as inline SVG: a few hundred points a line, faults as bands behind them. No script, no fonts."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 960
_LEFT: Final = 64
_RIGHT: Final = 12
_TOP: Final = 10
_BOTTOM: Final = 22
_INNER: Final = WIDTH - _LEFT - _RIGHT


@dataclass(frozen=True, slots=True)
class Band:
    """A fault: from when to when it was there, and until when its traces were. Seconds since the start."""

    lane: int
    label: str
    start_s: float
    healed_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Line:
    """One value per slice of time; None leaves a hole. `style` is a class of the page's stylesheet."""

    label: str
    style: str
    values: Sequence[float | None]


def _x(at_s: float, seconds: float) -> float:
    return _LEFT + _INNER * min(1.0, max(0.0, at_s / seconds))


def plot(title: str, unit: str, seconds: float, lines: Sequence[Line], bands: Sequence[Band], *, log: bool) -> str:
    """Lines over time, the value axis from 0 or, `log`, in powers of ten from 1."""
    height = 190
    inner = height - _TOP - _BOTTOM
    top = max((value for line in lines for value in line.values if value is not None), default=1.0) or 1.0
    ticks, scale = _log_axis(top) if log else _linear_axis(top)

    def y(value: float) -> float:
        return _TOP + inner * (1 - min(1.0, max(0.0, scale(value))))

    parts = [_bands(bands, seconds, _TOP, inner)]
    for tick in ticks:
        at = y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    parts.append(_time_axis(seconds, height))
    parts += [f'<path class="line {line.style}" d="{_path(line.values, seconds, y)}"/>' for line in lines]
    legend = "".join(f'<span><i class="{line.style}"></i>{html.escape(line.label)}</span>' for line in lines)
    return (
        f'<figure><figcaption><b>{html.escape(title)}</b> <span class="unit">{html.escape(unit)}</span>'
        f'<span class="legend">{legend}</span></figcaption>{_svg(height, parts)}</figure>'
    )


def lanes(names: Sequence[str], seconds: float, bands: Sequence[Band]) -> str:
    """One row per node: what was done to it, and how long until the cluster was whole again."""
    row = 26
    height = _TOP + row * len(names) + _BOTTOM
    parts = []
    for i, name in enumerate(names):
        middle = _TOP + row * i + row / 2
        parts.append(f'<path class="grid" d="M{_LEFT} {middle:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{middle + 4:.1f}" text-anchor="end">{name}</text>')
    for band in bands:
        at, high = _TOP + row * band.lane + 4, row - 8
        for style, first_s, last_s in (("mend", band.healed_s, band.whole_s), ("fault", band.start_s, band.healed_s)):
            left, right = _x(first_s, seconds), _x(last_s, seconds)
            parts.append(
                f'<rect class="{style}" x="{left:.1f}" y="{at}" width="{max(2.0, right - left):.1f}" height="{high}">'
                f"<title>{html.escape(band.label)}</title></rect>"
            )
    parts.append(_time_axis(seconds, height))
    return (
        '<figure><figcaption><b>Faults</b> <span class="unit">by node, seconds since the start</span>'
        '<span class="legend"><span><i class="fault"></i>fault</span><span><i class="mend"></i>until all is in sync'
        f"</span></span></figcaption>{_svg(height, parts)}</figure>"
    )


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def _bands(bands: Sequence[Band], seconds: float, top: int, inner: int) -> str:
    return "".join(
        f'<rect class="shade" x="{_x(b.start_s, seconds):.1f}" y="{top}" '
        f'width="{max(1.0, _x(b.healed_s, seconds) - _x(b.start_s, seconds)):.1f}" height="{inner}">'
        f"<title>{html.escape(b.label)}</title></rect>"
        for b in bands
    )


def _time_axis(seconds: float, height: int) -> str:
    step = _step(seconds / 8)
    parts = []
    at = 0.0
    while at <= seconds:
        parts.append(
            f'<text class="tick" x="{_x(at, seconds):.1f}" y="{height - 6}" text-anchor="middle">{at:g} s</text>'
        )
        at += step
    return "".join(parts)


def _path(values: Sequence[float | None], seconds: float, y: Callable[[float], float]) -> str:
    width = _INNER / max(1, len(values))
    path, pen_down = [], False
    for i, value in enumerate(values):
        if value is None:
            pen_down = False
            continue
        path.append(f"{'L' if pen_down else 'M'}{_LEFT + width * (i + 0.5):.1f} {y(value):.1f}")
        # A single value between two holes would not be seen without a length.
        path.append("h.1" if not pen_down else "")
        pen_down = True
    return "".join(path)


def _linear_axis(top: float) -> tuple[list[float], Callable[[float], float]]:
    step = _step(top / 3)
    end = step * math.ceil(top / step)
    return [step * i for i in range(round(end / step) + 1)], lambda value: value / end


def _log_axis(top: float) -> tuple[list[float], Callable[[float], float]]:
    powers = max(1, math.ceil(math.log10(max(top, 1.1))))
    return [10.0**i for i in range(powers + 1)], lambda value: math.log10(max(value, 1.0)) / powers


def _step(about: float) -> float:
    """The round number next above: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(about, 1e-3)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= about * 0.999)


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
