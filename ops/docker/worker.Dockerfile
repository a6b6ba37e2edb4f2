# The image in which a task's agent runs: the agents' command lines, git, and nothing of openTiger's. What runs the
# agent is mounted into the container, so any image that has the command lines and git will do instead.
#
# `cargo xtask image` builds it. The versions of the command lines stand in ops/agents and nowhere else. Secrets have no
# place here: a login reaches a container when it is started.
#
# The build's context holds ops/agents and a folder `trust` with two folders, both empty unless needed:
#   trust/build   `build.pem`: whom to trust while fetching, where the machine knows better than the image
#   trust/image   `*.crt`: whom everything in the container trusts besides, for networks that look into TLS

ARG BASE=debian:bookworm-slim

# npm checks every package against the lock file's hash. It stays behind: each command line is one native program.
FROM ${BASE} AS agents
LABEL opentiger.image.stage=agents
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends ca-certificates nodejs npm >/dev/null
WORKDIR /agents
COPY package.json package-lock.json ./
COPY trust/build/ /trust/
# npm may bring a package for each kind of processor; the first that runs here is taken.
RUN if [ -s /trust/build.pem ]; then export npm_config_cafile=/trust/build.pem; fi \
 && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error \
 && mkdir /programs \
 && for program in node_modules/@anthropic-ai/claude-code-*/claude node_modules/opencode-*/bin/opencode; do \
      name=$(basename "$program"); \
      if [ ! -e "/programs/$name" ] && "./$program" --version 2>/dev/null; then mv "$program" "/programs/$name"; fi; \
    done \
 && rm -rf node_modules "$HOME/.npm" \
 && test -x /programs/claude

FROM ${BASE}
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends ca-certificates git >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*.log /var/log/apt \
 && useradd --uid 1001 --user-group --create-home --shell /bin/bash worker
COPY trust/image/ /usr/local/share/ca-certificates/
RUN update-ca-certificates >/dev/null
COPY --from=agents /programs/ /usr/local/bin/
# The command lines bring a list of authorities of their own and know of no other unless told.
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
ARG INPUTS=unknown
LABEL opentiger.image.inputs=${INPUTS}
USER worker
WORKDIR /home/worker
