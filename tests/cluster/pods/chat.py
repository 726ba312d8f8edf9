"""Runs in a pod of the cluster: talks with an agent as any program does that knows OpenAI's SDK, and tells what it heard."""

from __future__ import annotations

import json
import sys

import openai


def main(url: str, text: str) -> None:
    transport = openai.DefaultHttpxClient(trust_env=False, timeout=60)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=transport) as client:
        (model,) = client.models.list().data
        chunks = list(
            client.chat.completions.create(
                model=model.id,
                messages=[{"role": "user", "content": text}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    said = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    print(
        json.dumps({"model": model.id, "said": said, "usage": chunks[-1].usage.to_dict() if chunks[-1].usage else {}})
    )


main(*sys.argv[1:])
