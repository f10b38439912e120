"""The base of all settings that a user gives."""

from __future__ import annotations

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource


class Given(BaseSettings):
    """Settings made of what `places.read` found, and of nothing else.

    A refusal names the place that a value is from, so pydantic-settings does not read by itself.
    """

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No source but the values it is made of."""
        return (init_settings,)
