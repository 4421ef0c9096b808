# One image for the operator, collectors, processors, APIs and the command line.
#
#   docker build -t logstream .
#   docker build -t logstream --build-arg BASE=registry.example.com/python:3.12-slim .
#
# BASE: Debian or what is made of it, with Python 3.11 or newer, its venv module, and useradd.
ARG BASE=docker.io/library/python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/logstream
# First what seldom changes. The pinned list is whole, and leaves out what chDB asks for and LogStream does not use: so
# nothing beside it is looked for.
COPY requirements/server.txt requirements/server.txt
RUN /opt/logstream/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
    --only-binary :all: -r requirements/server.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY services services
COPY operator operator
RUN /opt/logstream/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps . \
    && /opt/logstream/bin/python -m pip uninstall --yes pip \
    && /opt/logstream/bin/logstream --version

FROM ${BASE}
LABEL org.opencontainers.image.title="LogStream" \
      org.opencontainers.image.description="A log platform for Kubernetes and laptops" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin logstream
COPY --from=build /opt/logstream /opt/logstream
# The root file system may be read-only, and is in the chart.
ENV PATH=/opt/logstream/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# In digits: Kubernetes cannot tell from a name that it is not root.
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["logstream"]
CMD ["--help"]
