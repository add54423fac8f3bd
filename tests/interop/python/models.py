"""A client of OpenAI's API, on OpenAI's own library as it is: `models.py PORT`.

Prints `passed N` after N cases, or ends with what failed. The server is tests/tests/interop/openai.rs.
"""

import asyncio
import os
import sys
import threading

import openai

# Whoever started it ends it long before; this is for the day when nobody does.
HARD_LIMIT_SECONDS = 110
MODEL = "meta/llama3.1:8b"
HELLO = [{"role": "user", "content": "grüß 😀"}]

end = threading.Timer(HARD_LIMIT_SECONDS, os._exit, [3])
end.daemon = True
end.start()

URL = f"http://127.0.0.1:{sys.argv[1]}/v1"
client = openai.OpenAI(base_url=URL, api_key="mine", max_retries=0, timeout=30)
passed = 0


def case(run):
    global passed
    run()
    passed += 1


def failure(kind, run):
    try:
        run()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@case
def chat():
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=0.5, extra_body={"x_vendor": {"model": "no"}}
    )
    assert answer.choices[0].message.content == "grüß 😀", answer
    assert answer.usage.completion_tokens == 7, answer
    assert answer.model_extra["x_seen"] == {"model": "no"}, "what nobody knows passes both ways"


@case
def streamed_chat():
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    text, used = "", None
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            text += chunk.choices[0].delta.content
            # The server sends the next one only then.
            client.completions.create(model=MODEL, prompt="go on")
        used = chunk.usage or used
    assert (text, used.completion_tokens) == ("one two three", 3), (text, used)


@case
def streamed_chat_without_blocking():
    async def run():
        other = openai.AsyncOpenAI(base_url=URL, api_key="mine", max_retries=0, timeout=30)
        async with other.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
            async for event in stream:
                if event.type == "content.delta":
                    await other.completions.create(model=MODEL, prompt="go on")
            answer = await stream.get_final_completion()
        assert answer.choices[0].message.content == "one two three", answer

    asyncio.run(run())


@case
def embeddings():
    answer = client.embeddings.create(model="text-embed-small", input=["a", "b"])
    assert [item.embedding for item in answer.data] == [[0.5, -2.0], [0.5, -2.0]], answer
    plain = client.embeddings.create(model="text-embed-small", input="a", encoding_format="float")
    assert plain.data[0].embedding == [0.5, -2.0], plain


@case
def responses():
    assert client.responses.create(model=MODEL, input="hello").output_text == "hello"


@case
def list_of_models():
    assert [model.id for model in client.models.list()] == ["gone", MODEL, "text-embed-small"]
    model = client.models.retrieve(MODEL)
    assert (model.id, model.owned_by, model.model_extra["max_model_len"]) == (MODEL, "stub", 4096), model


@case
def unknown_model():
    error = failure(openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-9", messages=HELLO))
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error"), error
    assert "gpt-9" in error.message, error
    failure(openai.NotFoundError, lambda: client.models.retrieve("gpt-9"))


@case
def wrong_calls():
    error = failure(openai.BadRequestError, lambda: client.completions.create(model="", prompt="x"))
    assert (error.code, error.param) == ("invalid_model", "model"), error
    large = "x" * 2_000_000
    error = failure(openai.APIStatusError, lambda: client.completions.create(model=MODEL, prompt=large))
    assert (error.status_code, error.code) == (413, "request_too_large"), error


@case
def servers_refusals():
    error = failure(openai.RateLimitError, lambda: client.completions.create(model=MODEL, prompt="later"))
    assert error.response.headers["retry-after"] == "0", error.response.headers
    assert error.message.endswith("too many"), error
    # The library waits as long as it is told, and comes again by itself.
    again = openai.OpenAI(base_url=URL, api_key="mine", max_retries=2, timeout=30)
    assert again.completions.create(model=MODEL, prompt="later once").choices[0].text == "later once"


@case
def no_server():
    error = failure(openai.InternalServerError, lambda: client.completions.create(model="gone", prompt="x"))
    assert (error.status_code, error.code) == (503, "no_healthy_backends"), error
    assert error.response.headers["retry-after"] == "1", error.response.headers


print(f"passed {passed}")
