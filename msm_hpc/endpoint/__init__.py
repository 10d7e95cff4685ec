"""Asking a language model over HTTP: many prompts at once, each paid for once, whatever fails on the way."""

from msm_hpc.endpoint.engine import Engine, ask, opened
from msm_hpc.endpoint.preflight import check
from msm_hpc.endpoint.prompts import Answer, Message, Prompt, Reject, Reply
from msm_hpc.endpoint.replies import spent
from msm_hpc.endpoint.spending import Spent

__all__ = ["Answer", "Engine", "Message", "Prompt", "Reject", "Reply", "Spent", "ask", "check", "opened", "spent"]
