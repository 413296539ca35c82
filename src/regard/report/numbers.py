"""Reading numbers out of JSON that may be anything, and writing them for people."""

import json
import math
from typing import Any

from regard.runlog.series import as_number

MISSING = "–"

number = as_number
"""Of a value read from JSON: a float, also NaN; None where it is absent or no number."""


def interval(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def section(value: Any, key: str) -> dict[str, Any]:
    """`value[key]` if both are mappings, else an empty one."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def show(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Three significant digits, thousands grouped, a real minus sign; NaN and infinities by name."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size == 0:
        text = "0"
    elif size < 10.0**-digits or size >= 1e7:
        mantissa, _, exponent = f"{size:.{digits - 1}e}".partition("e")
        text = f"{mantissa}·10{_superscript(int(exponent))}"
    elif size >= 10 ** (digits - 1):
        text = f"{size:,.0f}".replace(",", "\u202f")
    else:
        decimals = max(0, digits - 1 - math.floor(math.log10(size)))
        text = f"{size:.{min(decimals, digits)}f}"
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return sign + text


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def show_difference(value: float | None) -> str:
    return show(value, signed=True)


def show_interval(value: tuple[float, float] | None) -> str:
    return MISSING if value is None else f"{show(value[0], signed=True)} … {show(value[1], signed=True)}"


def show_percent(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{100 * value:.1f}\u00a0%" if math.isfinite(value) else show(value)


def show_seconds(value: float | None) -> str:
    """Seconds as a person says them: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if value is None or not math.isfinite(value):
        return show(value)
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def setting(value: object) -> str:
    """A configuration value as one would type it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
