"""Times as kubectl shows them: `5m`, `3h`, `12d`. Pure."""

from datetime import datetime, timedelta

SOON = timedelta(days=7)
"""An end nearer than this is marked."""


def span(seconds: float) -> str:
    """Two figures at least: 90 s are `90s`, 5 min 30 s `5m`, 30 h `30h`, 60 h `2d`."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    if whole < 120 * 60:
        return f"{whole // 60}m"
    if whole < 48 * 3600:
        return f"{whole // 3600}h"
    return f"{whole // 86_400}d"


def ago(moment: datetime | None, now: datetime) -> str:
    """Since then; `-` for None."""
    return "-" if moment is None else span((now - moment).total_seconds())


def until(moment: datetime | None, now: datetime) -> str:
    """`in 3d`, `2h ago`, `never` for None."""
    if moment is None:
        return "never"
    left = (moment - now).total_seconds()
    return f"in {span(left)}" if left > 0 else f"{span(-left)} ago"


def colour(moment: datetime | None, now: datetime) -> str:
    """Rich's style for an end: red when it has come, yellow when it comes soon."""
    if moment is None:
        return ""
    return "red" if moment <= now else "yellow" if moment - now < SOON else ""
