"""A fake: what :class:`FakeModel` says, over real HTTP; run with a folder, a port and a name, a server of its own."""

from __future__ import annotations

import sys
import threading

from msm_hpc.corpus import chat, chat_plan, document_plan
from msm_hpc.endpoint import Answer, Message, Prompt
from tests.corpus.fake_model import FakeModel
from tests.endpoint import faulty_model_server
from tests.endpoint.faulty_model_server import Asked, serving

ANSWERS: dict[str, type[Answer]] = {
    each.__name__: each
    for module in (chat, chat_plan, document_plan)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Answer)
}
FAKE = FakeModel()


def content(asked: Asked) -> str:
    """What the fake says to a request."""
    body = asked.body
    turns = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
    answer = ANSWERS[body["response_format"]["json_schema"]["name"]] if "response_format" in body else None
    return FAKE.text(Prompt(messages=turns, max_tokens=99, sample=body["seed"], answer=answer))


if __name__ == "__main__":
    faulty_model_server._content = content
    with serving(port=int(sys.argv[2]), model=sys.argv[3]):
        threading.Event().wait()
