"""Requests per second of `describe` beside the client library's own ceiling: `python -m benchmarks.describe`.

Both ask the same questions of a local endpoint with 100 ms latency, 64 at once, in turn and in processes of their own. The
ceiling is `AsyncOpenAI().chat.completions.create` in 64 loops and nothing else. Processor time is printed too: on a busy
machine it says more than the clock.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import report

ROOT = Path(__file__).resolve().parent.parent
LATENCY = 0.1
CONCURRENCY = 64


def measure_describe(url: str, requests: int) -> None:
    """Describe pairs of made-up captions with the step itself, and print requests a second and milliseconds each."""
    from data_prep.steps import describe

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "captions.jsonl").open("w") as stream:
            for i in range(1000):
                captions = [f"Picture {i}: {text}" for text in ("a man rides a horse on a beach.",) * 5]
                stream.write(json.dumps({"id": f"i{i}", "file": f"{i}.jpg", "captions": captions}) + "\n")
        with (folder / "pairs.jsonl").open("w") as stream:
            for i in range(requests):
                pair = {
                    "pair_id": f"p{i}",
                    "group": f"g{i // 60}",
                    "first": f"i{i % 1000}",
                    "second": f"i{(i + 7) % 1000}",
                }
                stream.write(json.dumps(pair) + "\n")
        options = describe.Describe(
            pairs=str(folder / "pairs.jsonl"),
            captions=str(folder / "captions.jsonl"),
            output=str(folder / "differences.jsonl"),
            backend="openai",
            base_url=url,
            model="m",
            concurrency=CONCURRENCY,
            timeout=60,
        )
        started, used = time.perf_counter(), time.process_time()
        options.run()
        _report(requests, time.perf_counter() - started, time.process_time() - used)


def measure_library(url: str, requests: int) -> None:
    """The same number of requests of the same size with the client library alone."""
    import openai

    from data_prep.llm.options import ModelOptions
    from data_prep.llm.questions import Requests
    from data_prep.llm.replies import Text

    model = ModelOptions(model="m", prompt="difference")
    maker = Requests("describe", model, ("first", "second"), {"text": Text, "reverse_text": Text})
    captions = "\n".join(["Picture 100: a man rides a horse on a beach."] * 5)
    body: Any = maker.body(maker.prompt.messages({"first": captions, "second": captions}), "json_schema")

    async def ask_all() -> None:
        client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
        turns = iter(range(requests))

        async def work() -> None:
            for _ in turns:
                answer = await client.chat.completions.create(**body)
                json.loads(answer.choices[0].message.content or "")

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        await client.close()

    started, used = time.perf_counter(), time.process_time()
    asyncio.run(ask_all())
    _report(requests, time.perf_counter() - started, time.process_time() - used)


def _report(requests: int, seconds: float, processor: float) -> None:
    print(json.dumps({"rate": requests / seconds, "milliseconds": 1000 * processor / requests}))


def main() -> None:
    """Measure both in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", choices=("describe", "library"), help="internal: one measurement")
    parser.add_argument("--url", help="internal")
    options = parser.parse_args()
    if options.measure:
        (measure_describe if options.measure == "describe" else measure_library)(options.url, options.requests)
        return
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/helpers/fault_server.py"), "--latency", str(LATENCY)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert server.stdout is not None
    url = server.stdout.readline().split()[0]
    found: dict[str, list[dict[str, float]]] = {"describe": [], "library": []}
    try:
        for _ in range(options.repeats):
            for name, results in found.items():
                command = [
                    sys.executable,
                    __file__,
                    "--measure",
                    name,
                    "--url",
                    url,
                    "--requests",
                    str(options.requests),
                ]
                run = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
                results.append(json.loads(run.stdout.splitlines()[-1]))
                print(
                    f"{name:9} {results[-1]['rate']:6.0f} requests/s, {results[-1]['milliseconds']:.2f} ms of processor each"
                )
    finally:
        server.terminate()
        server.wait()
    rates = {name: statistics.median(result["rate"] for result in results) for name, results in found.items()}
    possible = CONCURRENCY / LATENCY
    goal = min(possible, rates["library"])
    print(
        f"medians: describe {rates['describe']:.0f}, library {rates['library']:.0f}, possible {possible:.0f} requests/s; "
        f"describe reaches {rates['describe'] / goal:.0%} of the smaller of the latter two"
    )
    report(
        "describe",
        [
            {
                "step": name,
                "requests/s": rates[name],
                "processor ms": statistics.median(result["milliseconds"] for result in results),
                "of the ceiling": rates[name] / goal,
            }
            for name, results in found.items()
        ],
    )


if __name__ == "__main__":
    main()
