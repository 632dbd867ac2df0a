# One image for every piece of Pressroom: `pressroom worker`, `dispatcher`, `submit`, `db upgrade`, ...
#
#   docker build -t pressroom:cpu .
#   docker build -t pressroom:cuda --build-arg ACCELERATOR=cuda .
#
# The CUDA build needs no CUDA base image: torch's wheels bring the libraries, the NVIDIA container toolkit
# the driver. The embedded services are left out: here Postgres, Valkey and S3 are containers of their own.

# A tag can be moved, a digest cannot; docs/deploy.md says how to renew it.
ARG PYTHON=3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM python:${PYTHON} AS build
ARG ACCELERATOR=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/pressroom
ENV PATH=/opt/pressroom/bin:$PATH
WORKDIR /src
COPY requirements.lock torch-cpu.lock ./
# torch first: by far the largest layer, and the one that changes least. Its CPU build is on an index of its own, and has a
# lock file of its own. Everything is installed by the hash of its file.
RUN awk '/^[^ #]/ { own = /^(torch|triton|nvidia-|cuda-)/ } { print > (own ? "torch.lock" : "rest.lock") }' requirements.lock \
 && case "$ACCELERATOR" in \
      cpu) pip install --require-hashes --no-deps --index-url https://download.pytorch.org/whl/cpu \
        --requirement torch-cpu.lock ;; \
      cuda) pip install --require-hashes --no-deps --requirement torch.lock ;; \
      *) echo "ACCELERATOR must be cpu or cuda, not '$ACCELERATOR'" >&2; exit 2 ;; \
    esac
RUN pip install --require-hashes --no-deps --requirement rest.lock
COPY pyproject.toml README.md LICENSE ./
COPY jobs jobs
COPY storage storage
COPY db db
COPY workers workers
COPY pressroom pressroom
COPY kinds kinds
RUN pip install --no-deps --no-build-isolation . && pip check

FROM python:${PYTHON}
# Provenance records it; git is not in the image to ask.
ARG COMMIT=unknown
RUN useradd --uid 10001 --create-home pressroom \
 && install --directory --owner=pressroom --group=pressroom \
      /var/lib/pressroom /var/lib/pressroom/logs /var/lib/pressroom/models
COPY --from=build /opt/pressroom /opt/pressroom
ENV PATH=/opt/pressroom/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PRESSROOM_HOME=/var/lib/pressroom \
    PRESSROOM_COMMIT=${COMMIT}
USER pressroom
WORKDIR /home/pressroom
# Of a container that only talks to the services; workers and the dispatcher say more of themselves.
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s --retries=3 \
    CMD ["python", "-m", "pressroom.health", "services"]
ENTRYPOINT ["pressroom"]
CMD ["--help"]
