# bulkdl and its simulator, without build tools.
#
#   make image                                    builds with docker, podman or buildah
#   make image BUILD_FLAGS="--build-arg BASE=…"   selects another base image: any glibc system with python3 >= 3.11,
#                                                 its venv module and CA certificates
#
# The builder installs only wheels whose hashes are in the lock files. Pass the configuration of a private package index
# as a secret, so that it is not stored in a layer:
#   BUILD_FLAGS="--secret id=pip-conf,src=pip.conf --secret id=ca-bundle,src=ca.pem"

ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_REQUIRE_VIRTUALENV=1
WORKDIR /src
COPY requirements-build.lock requirements-runtime.lock ./
# The environment of the program does not contain pip, because nothing is installed into it later.
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca-bundle,target=/run/secrets/ca-bundle \
    python3 -m venv /opt/build \
 && python3 -m venv --without-pip /opt/bulkdl \
 && /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/bulkdl/bin/python3 install --no-compile --require-hashes -r requirements-runtime.lock
COPY pyproject.toml build_hook.py README.md LICENSE ./
COPY bulkdl ./bulkdl
ARG REVISION=unknown
# Unchecked bytecode: the image is read-only, and file timestamps in it are not reliable.
RUN BULKDL_REVISION="${REVISION}" /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/bulkdl/bin/python3 install --no-compile --no-index --no-deps /wheels/*.whl \
 && /opt/bulkdl/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/bulkdl/lib

FROM ${BASE}
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bulkdl" \
      org.opencontainers.image.description="Download the outputs of many UP42 jobs: concurrent, resumable, verified, unattended." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /opt/bulkdl /opt/bulkdl
# A new named volume inherits owner and mode from this directory.
RUN install -d -m 0770 -o 65532 -g 65532 /data
ENV PATH=/opt/bulkdl/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BULKDL_OUTPUT=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
# Port of the status page and metrics (--listen), if enabled.
EXPOSE 9642
ENTRYPOINT ["bulkdl"]
CMD ["--help"]
