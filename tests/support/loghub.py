"""Real log files where they are at hand (Loghub's samples), generated ones of the same form otherwise."""

import os
import random
import shutil
from pathlib import Path

LOGHUB = Path(os.environ.get("LOGSTREAM_LOGHUB", Path(__file__).parents[3] / "shared" / "data" / "loghub"))

_LAST = (
    "[Mon Dec 05 19:00:56 2005] [error] [client 68.228.3.15] Directory index forbidden by rule: /var/www/html/",
    "[Mon Dec 05 19:11:04 2005] [error] mod_jk child workerEnv in error state 6",
    "[Mon Dec 05 19:14:09 2005] [error] [client 61.220.139.68] Directory index forbidden by rule: /var/www/html/",
    "[Mon Dec 05 19:15:57 2005] [error] mod_jk child workerEnv in error state 6",
)


def apache_log(path: Path) -> None:
    """2,000 lines of an Apache error log at `path`."""
    real = LOGHUB / "Apache" / "Apache_2k.log"
    if real.exists():
        shutil.copyfile(real, path)
        return
    dice = random.Random(5)
    lines = [
        f"[Sun Dec 04 {i // 100:02d}:{i % 60:02d}:{dice.randrange(60):02d} 2005] [notice] jk2_init() Found child "
        f"{dice.randrange(1000, 9999)} in scoreboard slot {dice.randrange(6, 12)}"
        for i in range(2000 - len(_LAST))
    ]
    path.write_text("\n".join((*lines, *_LAST)) + "\n")
