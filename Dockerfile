# One image for the driver, the head and every worker: a cluster needs the same tool everywhere.
#   docker build -t tv2tv .
#   docker run --rm --shm-size=2g -v "$PWD/videos:/videos:ro" -v tv2tv-corpus:/corpus tv2tv \
#       run real --input /videos --corpus /corpus/one
FROM python:3.11-slim

# KubeRay's probes call wget; all other libraries come with the wheels, ffmpeg among them.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*

# The user comes first: what it may write is made by it. Mounted volumes want fsGroup 1000.
RUN useradd --create-home --uid 1000 tv2tv \
    && mkdir /corpus \
    && chown tv2tv:tv2tv /corpus

WORKDIR /opt/tv2tv

# Dependencies change rarely and are large: a layer of their own, as `make setup` installs them.
# Another lock, for the engines that need a GPU: --build-arg LOCK=...
ARG LOCK=requirements.lock
ARG UV=uv==0.13.8
COPY ${LOCK} ./locked.txt
RUN python -m pip install --quiet --disable-pip-version-check --no-cache-dir ${UV} \
    && uv pip install --system --no-cache --no-deps --compile-bytecode --quiet -r locked.txt

COPY pyproject.toml README.md LICENSE ./
COPY corpus corpus
COPY worlds worlds
COPY vlm_prompts vlm_prompts
COPY stages stages
COPY training training
COPY pipeline pipeline
COPY configs configs
RUN uv pip install --system --no-cache --no-deps --compile-bytecode --quiet .

USER tv2tv
WORKDIR /home/tv2tv
# No usage reports; and a local run inside a container ends with it, whatever is in the home folder.
ENV RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
ENTRYPOINT ["tv2tv"]
CMD ["--help"]
