"""What runs where: deploys, the versions they bring, and the pods that change with them."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from logstream.demo.plan import MINUTE, Incident, Plan, incident
from logstream.demo.season import DAY, HOUR
from logstream.demo.shop import EUROPE, REGIONS, SERVICES, Region, Service

Place = tuple[str, str]
"""A service's name and a region's."""
Pod = Mapping[str, str]
"""The metadata of the lines that one pod writes."""

_TEAM = ("anna", "bert", "chidi", "daria", "emil")
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_BAD_CHANGE = "Update db client to 5.0: pool payment-db max_size 40 -> 4 (its new default)"
_FIX = "Set pool payment-db max_size 4 -> 40 again"


@dataclass(frozen=True, slots=True)
class Deploy:
    """One version of a service coming to one region. at: ns, a whole minute. change: what it brings."""

    at: int
    service: str
    region: str
    version: str
    previous: str
    change: str
    commit: str
    by: str
    rollback: bool = False


class Fleet:
    """The pods of every service in every region at every minute."""

    def __init__(self, plan: Plan) -> None:
        self.deploys: Sequence[Deploy] = tuple(sorted(_deploys(plan), key=lambda d: (d.at, d.service, d.region)))
        self._seed = plan.seed
        self._times = [d.at for d in self.deploys]
        self._known = -1
        self._versions: dict[Place, str] = {}
        self._pods: dict[Place, Sequence[Pod]] = {}

    def between(self, start: int, end: int) -> Sequence[Deploy]:
        """The deploys of a span of time, `end` left out."""
        return self.deploys[bisect_right(self._times, start - 1) : bisect_right(self._times, end - 1)]

    def pods(self, ns: int) -> Mapping[Place, Sequence[Pod]]:
        """All pods at a moment."""
        count = bisect_right(self._times, ns)
        if count < self._known or self._known < 0:
            first = {(s.name, r.name): _tag(s.version) for s in SERVICES for r in REGIONS}
            self._versions, self._known = first, 0
            self._pods = {place: self._started(place, 0) for place in first}
        for deploy in self.deploys[self._known : count]:
            place = (deploy.service, deploy.region)
            self._versions[place] = deploy.version
            self._pods[place] = self._started(place, deploy.at)
        self._known = count
        return self._pods

    def _started(self, place: Place, at: int) -> Sequence[Pod]:
        name, region_name = place
        service = next(s for s in SERVICES if s.name == name)
        region = next(r for r in REGIONS if r.name == region_name)
        rng = Random(f"pods {self._seed} {name} {region_name} {at}")
        replica_set = _letters(rng, 9)
        return [self._pod(service, region, rng, replica_set, number) for number in range(service.replicas)]

    def _pod(self, service: Service, region: Region, rng: Random, replica_set: str, number: int) -> Pod:
        pod = f"{service.name}-{replica_set}-{_letters(rng, 5)}"
        if service.name in ("postgres", "redis"):
            pod = f"{service.name}-{number}"
        return {
            "region": region.name, "pod": pod,
            "host": f"ip-{region.network.replace('.', '-')}-{rng.randint(1, 3)}-{rng.randint(10, 17)}",
            "version": self._versions[service.name, region.name], "demo": str(self._seed),
        }  # fmt: skip


def _letters(rng: Random, count: int) -> str:
    return "".join(rng.choice(_LETTERS) for _ in range(count))


def _tag(version: tuple[int, int, int]) -> str:
    return "v{}.{}.{}".format(*version)


def _deploys(plan: Plan) -> list[Deploy]:
    """One or two services on working days, first in Europe and 20 minutes later in America; and those of the incident.

    Another service is deployed shortly before the incident: it has nothing to do with it.
    """
    rng = Random(f"deploys {plan.seed}")
    trouble = incident(plan)
    versions = {s.name: s.version for s in SERVICES}
    wanted: list[tuple[int, Service]] = []
    innocent = next(s for s in SERVICES if s.name == "catalog")
    if trouble is not None:
        wanted.append((trouble.innocent, innocent))
    many = [s for s in SERVICES if s.changes]
    first_day = plan.start_ns // DAY
    for day in range(first_day, plan.end_ns // DAY + 1):
        # 1970-01-01 was a Thursday.
        busy = (day + 3) % 7 < 5
        for _ in range(rng.randint(1, 2) if busy else rng.random() < 0.2):
            at = day * DAY + rng.randint(8 * 60, 16 * 60) * MINUTE
            service = rng.choice(many)
            near = trouble is not None and trouble.start - 3 * HOUR < at < trouble.end + 2 * HOUR
            if not near and not any(other is service and abs(at - when) < DAY for when, other in wanted):
                wanted.append((at, service))
    made = []
    for at, service in sorted(wanted, key=lambda w: (w[0], w[1].name)):
        major, minor, patch = versions[service.name]
        next_version = (major, minor + 1, 0) if rng.random() < 0.5 or service is innocent else (major, minor, patch + 1)
        versions[service.name] = next_version
        change = service.changes[(next_version[1] + next_version[2]) % len(service.changes)]
        commit, by = f"{rng.getrandbits(28):07x}", rng.choice(_TEAM)
        for number, region in enumerate(REGIONS):
            made.append(
                Deploy(at + number * 20 * MINUTE, service.name, region.name, _tag(next_version),
                       _tag((major, minor, patch)), change, commit, by)
            )  # fmt: skip
    if trouble is not None:
        made += _of_incident(trouble, plan)
    return [d for d in made if plan.start_ns <= d.at < plan.end_ns]


def _of_incident(trouble: Incident, plan: Plan) -> list[Deploy]:
    """The version before, the bad one in one region, its rollback, and the next day the version that mends it."""
    bad, good = trouble.version, trouble.previous
    before = max(plan.start_ns + 2 * MINUTE, trouble.start - 50 * HOUR) // MINUTE * MINUTE
    assert trouble.region == EUROPE.name
    deploys = [
        Deploy(before + number * 20 * MINUTE, "payment", region.name, good, "v2.13.3",
               "Log the acquirer's reference", "41c9e02", "daria")
        for number, region in enumerate(REGIONS)
    ]  # fmt: skip
    # A short back-fill has no room for the second region before the incident.
    deploys = [d for d in deploys if d.at < trouble.start or d.region != trouble.region]
    return [
        *deploys,
        Deploy(trouble.start, "payment", trouble.region, bad, good, _BAD_CHANGE, "9f2c1e7", "emil"),
        Deploy(trouble.end, "payment", trouble.region, good, bad, f"Roll back {bad}", "41c9e02", "anna", True),
        Deploy(trouble.end + 19 * HOUR, "payment", trouble.region, "v2.14.1", good, _FIX, "d07b8a4", "emil"),
    ]
