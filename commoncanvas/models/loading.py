"""Networks of transformers by the profile's name for them, of the kind that is needed.

transformers fills what a folder lacks with random weights, and a name of another kind
with a part of it; here both are errors of one line.
"""

from typing import Any

from transformers import AutoConfig

from commoncanvas.core.errors import ParameterError, brief
from commoncanvas.models.encoders import frozen
from commoncanvas.models.weights import find_part


def load_network(
    network: Any, kind: str, model: str, revision: str | None = None
) -> tuple[Any, str, dict[str, str]]:
    """Load a frozen network in float32, on the GPU if there is one.

    Args:
        network: its class in transformers.
        kind: the `model_type` that its configuration must have.
        model: a Hub id, or a folder absolute or from the project's root.
        revision: the Hub commit; a folder needs none.

    Returns:
        (network, name, words): name and words by which `from_pretrained` finds what
        lies beside it.

    Raises:
        ParameterError: a Hub id without a revision, another kind of model, or one
            without all its weights.
    """
    name, words = find_part(model, revision or None, kind)
    try:  # without a word, transformers asks whether to run a stranger's code
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **words)
    except (OSError, ValueError, RecursionError) as error:
        raise ParameterError(
            f"the model {model!r} has no configuration that transformers reads "
            f"({brief(error)}); expected one of {kind!r}; name another in the profile."
        ) from None
    if config.model_type != kind:
        raise ParameterError(
            f"the model {model!r} is a {config.model_type!r}; expected {kind!r}; name "
            "another in the profile."
        )
    try:
        loaded, loading = network.from_pretrained(
            name, output_loading_info=True, **words
        )
        if loading["missing_keys"]:
            raise ValueError(f"no weights for {min(loading['missing_keys'])}")
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"{model!r} is no whole {kind} ({str(error).splitlines()[0]}); expected "
            "its configuration and weights; name another in the profile."
        ) from None
    return frozen(loaded), name, words
