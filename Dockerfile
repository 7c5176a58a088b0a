# Debian and not Alpine: the wheels are built for glibc, whose allocator the server also asks to give memory back.
FROM python:3.11.16-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY deploy/image/ deploy/image/
RUN python -m venv --without-pip /opt/ebbtide \
    && pip --python /opt/ebbtide/bin/python install --require-hashes --only-binary :all: -r deploy/image/runtime.lock \
    && pip install --require-hashes --only-binary :all: -r deploy/image/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY crdt/ crdt/
COPY sync/ sync/
COPY server/ server/
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/ebbtide/bin/python install --no-deps --no-index dist/ebbtide-*.whl

FROM python:3.11.16-slim-bookworm
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Ebbtide" \
      org.opencontainers.image.description="An offline-first sync server with CRDT collaboration" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 ebbtide \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin ebbtide \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /opt/ebbtide /opt/ebbtide
ENV PATH=/opt/ebbtide/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    EBBTIDE_HOST=0.0.0.0 \
    EBBTIDE_PORT=8080 \
    EBBTIDE_DATA=/data
# All that a server of one process ever writes: the root may be read-only, /tmp included.
VOLUME /data
WORKDIR /data
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --start-interval=1s --retries=4 \
    CMD ["python", "-Ic", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['EBBTIDE_PORT']), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
# The command is apart, so that `docker run IMAGE --help` and other commands work; options follow `serve`.
ENTRYPOINT ["ebbtide"]
CMD ["serve"]
