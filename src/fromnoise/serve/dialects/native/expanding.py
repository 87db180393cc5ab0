"""The native dialect: prompts that say more."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from fromnoise.serve.dialects.identity import Drawer
from fromnoise.serve.server import Server


class PromptIn(BaseModel):
    """A prompt to expand, for a model."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=20_000)
    model: str | None = Field(None, max_length=400, description="As the list of models has it.")


class PromptOut(BaseModel):
    """The expanded prompt, and what the user should know of it."""

    prompt: str
    warnings: list[str]


def add_expander(router: APIRouter, server: Server) -> None:
    """The route that makes a short prompt say more."""

    @router.post("/expand", tags=["models"])
    def expand_prompt(asked: PromptIn, client: Drawer) -> PromptOut:
        """A prompt with style, light and details, in words that the model knows. Nothing is
        drawn."""
        expansion = server.expand(asked.prompt, asked.model)
        return PromptOut(prompt=expansion.prompt, warnings=[*expansion.notes])
