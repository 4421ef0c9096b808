"""What a deploy leaves in the log."""

from collections.abc import Sequence

from logstream.demo.fleet import Deploy, Pod
from logstream.demo.shop import REGIONS
from logstream.demo.sink import Minute


def roll_out(minute: Minute, deploy: Deploy, old: Sequence[Pod]) -> None:
    """The lines of the new pods, which are there from this minute on, and of the old ones as they end."""
    rng, service = minute.rng, deploy.service
    region = next(r for r in REGIONS if r.name == deploy.region)
    at = deploy.at + rng.randrange(10**9)
    verb = "Rolled back to" if deploy.rollback else "Deployed"
    minute.write(
        at, service, region, "info", f"{verb} version {deploy.version} (was {deploy.previous}): {deploy.change}",
        replica=0, event="rollback" if deploy.rollback else "deploy", previous_version=deploy.previous,
        change=deploy.change, commit=deploy.commit, deployed_by=deploy.by,
    )  # fmt: skip
    for number in range(len(minute.pods[service, deploy.region])):
        begun = at + int((1 + 9 * number + rng.random()) * 1e9)
        minute.write(begun, service, region, "info", f"Starting {service} {deploy.version}, commit {deploy.commit}",
                     replica=number)  # fmt: skip
        if service == "payment":
            size = "4" if "max_size 40 -> 4" in deploy.change else "40"
            minute.write(begun + 300_000_000, service, region, "info",
                         f"Pool payment-db opened: max_size={size}, timeout 3000 ms", replica=number, pool="payment-db",
                         pool_size=size)  # fmt: skip
        minute.write(begun + 800_000_000, service, region, "info", "Listening on 0.0.0.0:8080", replica=number)
        ready = rng.uniform(2, 6)
        minute.write(begun + int(ready * 1e9), service, region, "info",
                     f"Readiness probe passed after {ready:.1f} s", replica=number)  # fmt: skip
    for number, pod in enumerate(old):
        ended = at + int((8 + 9 * number + rng.random()) * 1e9)
        # These are written by pods of the version before.
        of = {key: value for key, value in pod.items() if key != "region"}
        minute.write(ended, service, region, "info",
                     f"Received SIGTERM, draining {rng.randint(0, 9)} connections", given=of)  # fmt: skip
        minute.write(ended + 2_000_000_000, service, region, "info", "Shutdown complete", given=of)
