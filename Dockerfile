# Three images of this repository: `--target operator`, `--target runtime`, and `--target cli`, which is the runtime with the command
# `agentservice` on top: it serves a manifest where there is no cluster (examples/compose).
#
# The base needs Python 3.13 with venv. Where no registry is reached a Debian made by debootstrap stands in for it (`make images`
# does that by itself). Dependencies and our own packages are layers of their own: a change of sources installs nothing again.
#
# To extend the runtime: `FROM agentservice-runtime`, as root `pip install` what the agent needs, and copy its code to /agent,
# which is on sys.path (/agent/lib too). Then `USER 65532` again.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim

FROM ${BASE_IMAGE} AS tools
# Where a proxy re-signs TLS its authority has to be given; nothing of it stays in the image.
ARG PIP_CERT
ARG SSL_CERT_FILE
RUN python3 -m venv /tools && /tools/bin/pip install --quiet --no-cache-dir --disable-pip-version-check uv==0.13.9 hatchling==1.27.0
ENV PATH=/tools/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    UV_PROJECT_ENVIRONMENT=/app \
    UV_PYTHON_DOWNLOADS=never \
    UV_PYTHON_PREFERENCE=only-system \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1
WORKDIR /source
RUN uv venv --quiet --seed --python 3.13 /app \
 && printf '/app/own\n/agent\n/agent/lib\n' > /app/lib/python3.13/site-packages/agentservice.pth
COPY pyproject.toml uv.lock ./
COPY api/pyproject.toml api/
COPY operator/pyproject.toml operator/
COPY runtime/pyproject.toml runtime/
COPY cli/pyproject.toml cli/

FROM tools AS operator-dependencies
ARG SSL_CERT_FILE
RUN uv sync --quiet --frozen --inexact --no-dev --no-install-workspace --package agentservice-operator --extra process

FROM tools AS runtime-dependencies
ARG SSL_CERT_FILE
RUN uv sync --quiet --frozen --inexact --no-dev --no-install-workspace --package agentservice-runtime \
    --extra openai --extra anthropic --extra google --extra bedrock --extra mcp --extra postgres --extra otel --extra logfire

# What the command needs beyond the runtime, a few small packages, so that the rest is one layer of both images.
FROM runtime-dependencies AS cli-dependencies
ARG SSL_CERT_FILE
RUN ls /app/lib/python3.13/site-packages > /before \
 && uv sync --quiet --frozen --inexact --no-dev --no-install-workspace --package agentservice \
 && mkdir /cli && cd /app/lib/python3.13/site-packages && ls | comm -13 /before - | xargs cp --archive --target-directory /cli

FROM tools AS operator-own
COPY api api
COPY operator operator
RUN pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./api ./operator \
 && uv pip install --quiet --offline --no-deps --python /app/bin/python --target /app/own /wheels/*.whl

FROM tools AS runtime-own
COPY api api
COPY runtime runtime
RUN pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./api ./runtime \
 && uv pip install --quiet --offline --no-deps --python /app/bin/python --target /app/own /wheels/*.whl

FROM tools AS cli-own
COPY cli cli
RUN pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels ./cli \
 && uv pip install --quiet --offline --no-deps --python /app/bin/python --target /app/own /wheels/*.whl

FROM ${BASE_IMAGE} AS final
# The root is meant to be read-only: HOME is where a volume for scratch space is expected.
ENV PATH=/app/own/bin:/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /tmp

FROM final AS operator
COPY --from=operator-dependencies /app /app
COPY --from=operator-own /app/own /app/own
USER 65532:65532
# health and metrics
EXPOSE 8080
ENTRYPOINT ["agentservice-operator"]

FROM final AS runtime
COPY --from=runtime-dependencies /app /app
COPY --from=runtime-own /app/own /app/own
USER 65532:65532
EXPOSE 8000
ENTRYPOINT ["agentservice-runtime"]

FROM runtime AS cli
COPY --from=cli-dependencies /cli /app/own
COPY --from=cli-own /app/own /app/own
ENTRYPOINT ["agentservice"]
