"""Prompts that a server renders: messages, written as one text like any other prompt.

The first line is a JSON object with what the prompt decides of a request. What follows is the beginning of
the response, which the policy continues; so a text that is put behind a prompt continues it, as it does
behind a rendered one.
"""

import json
from typing import Any

from hsstar.domain.prompts import PromptFormat, Turns


def chat_prompt(prompt: PromptFormat, problem: str) -> str:
    """Return the prompt of a problem for a server with a chat template."""
    asked: dict[str, Any] = {"messages": prompt.conversation(problem)}
    if prompt.chat_arguments:
        asked["chat_template_kwargs"] = dict(prompt.chat_arguments)
    return f"{json.dumps(asked, ensure_ascii=False)}\n{prompt.prefill}"


def beginning_of(text: str) -> str:
    """Return the beginning of the response that a prompt ends with; empty without one."""
    return text.partition("\n")[2]


def asked_by(text: str) -> dict[str, Any]:
    """Return what a prompt decides of a request of the chat protocol, as vLLM takes it."""
    line, _, beginning = text.partition("\n")
    asked: dict[str, Any] = json.loads(line)
    if not beginning:
        return asked
    turns: Turns = [*asked["messages"], {"role": "assistant", "content": beginning}]
    return asked | {"messages": turns, "add_generation_prompt": False, "continue_final_message": True}


def for_people(text: str) -> str:
    """Return a prompt as people read it: a line for each key and message."""
    return json.dumps(asked_by(text), ensure_ascii=False, indent=2) + "\n"
