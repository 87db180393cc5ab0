"""PlainRequest: what is asked of pictures that are there already, where no sampler runs."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fromnoise.errors import BadInput, UnknownName


class PlainRequest(BaseModel):
    """Checked values, as a GenerationRequest has them, without a prompt and a seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    @classmethod
    def of(cls, **values: Any) -> Self:
        """The request with these fields. Raises BadInput naming each bad one, and UnknownName."""
        for name in values:
            if name not in cls.model_fields:
                raise UnknownName("setting", name, cls.model_fields)
        try:
            return cls(**values)
        except ValidationError as error:
            from fromnoise.pipeline.request_faults import describe_faults

            raise BadInput(*describe_faults(error)) from None
